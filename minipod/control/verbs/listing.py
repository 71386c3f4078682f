"""The verb `get` (layer 6): lists and watches of every kind, as tables or as whole objects.

The list and the place in the history from which its watch continues are taken in one turn of the loop: no change is
missed between them, and none is sent twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Literal

import msgspec

from minipod.agent.node import Node
from minipod.agent.registry.history import Change, Watch
from minipod.agent.registry.selection import Selection, parse_selectors
from minipod.control.verbs.changes import kind_wanted
from minipod.control.wire import Connection
from minipod.errors import UsageError

BOOKMARK_S = 60.0  # kube-apiserver sends one a minute
AT_ONCE = 100  # objects of a list that are made into lines in one turn of the loop
MOST_AT_ONCE = 20  # changes that are sent before the loop gets another turn
EXPIRY_CHECK_S = 5.0  # how often a watch whose peer does not read is checked for expiry


class GetRequest(msgspec.Struct, frozen=True):
    """`selector`, `field_selector`: kubectl's texts. `listing`: a watch begins with the existing objects.

    `resource_version`: the changes of a watch begin after it, without a list. `bookmarks`: the watch says once a minute
    how far it is. `label_columns`: labels that are columns of a table; `show_labels`: all of them as one.
    """

    kind: str = "pods"
    namespace: str | None = None
    name: str | None = None
    output: Literal["table", "wide", "object"] = "table"
    watch: bool = False
    listing: bool = True
    resource_version: str = ""
    bookmarks: bool = False
    selector: str = ""
    field_selector: str = ""
    label_columns: tuple[str, ...] = ()
    show_labels: bool = False


class Get:
    """One `get`."""

    def __init__(self, node: Node, connection: Connection, request: GetRequest) -> None:
        self._node = node
        self._connection = connection
        self._request = request
        self._kind = kind_wanted(request.kind, "get")
        self._namespace = request.namespace if self._kind.namespaced else ""
        labels, fields = parse_selectors(request.selector, request.field_selector, self._kind.fields)
        self._selection = Selection(frozenset({(self._kind.name, self._namespace, request.name)}), labels, fields)
        self._version = _version(request.resource_version)

    async def answer(self) -> dict[str, Any]:
        """The fields of the last line. Raises NotFoundError, ExpiredError."""
        request = self._request
        listing = request.listing and (self._version is None or not request.watch)
        things = self._list() if listing else []
        version = self._node.history.version
        if not request.watch:
            await self._send_list(things)
            return {"resource_version": str(version)}
        watch = self._node.history.watch(self._selection, version if self._version is None else self._version)
        await self._send_list(things)
        if self._version is None:
            self._send_bookmark(version)
        try:
            return await self._follow(watch)
        except asyncio.CancelledError:
            self._connection.send({"event": "leaving"})
            raise

    # -- lists --------------------------------------------------------------------------------------------------

    def _list(self) -> list[Any]:
        registry, kind, name = self._node.registry, self._kind, self._request.name
        if name is None or self._namespace is None:
            found = registry.objects(kind, self._namespace)
        elif self._request.watch:
            found = [thing for thing in [registry.find(kind.struct, self._namespace, name)] if thing is not None]
        else:
            found = [registry.get(kind, self._namespace, name)]
        return [thing for thing in found if name in (None, thing.metadata.name) and self._selection.matches(thing)]

    async def _send_list(self, things: list[Any]) -> None:
        if self._request.output != "object":
            if things or not self._request.watch:
                rows: list[list[str]] = []
                async for some in _in_slices(things):
                    rows += self._rows(some)
                self._send_rows(things, rows, "ADDED")
            return
        async for some in _in_slices(things):
            for thing in some:
                self._send_object("ADDED", msgspec.json.encode(thing))
                await self._connection.relieve()

    # -- changes ------------------------------------------------------------------------------------------------

    async def _follow(self, watch: Watch) -> dict[str, Any]:
        at_once = 0
        while not self._connection.gone.done():
            if (change := watch.take()) is not None:
                self._send_change(change)
            elif await self._is_quiet(watch) and self._request.bookmarks:
                self._send_bookmark(watch.version)
            await self._drained(watch)
            at_once = at_once + 1 if change is not None else 0
            if at_once == MOST_AT_ONCE:
                at_once = 0
                await asyncio.sleep(0)
        return {}

    async def _is_quiet(self, watch: Watch) -> bool:
        """Waits for a change, a minute at most: whether none came. No tasks: there may be hundreds of watches."""
        changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        watch.begin_waiting(changed)
        ends = (changed, self._connection.gone)
        try:
            done, _ = await asyncio.wait(ends, timeout=BOOKMARK_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            watch.end_waiting()
        return not done

    async def _drained(self, watch: Watch) -> None:
        """Waits for the peer to read. Raises ExpiredError when it is so late that changes are not kept any more."""
        while not self._connection.is_drained:
            try:
                await asyncio.wait_for(self._connection.drain(), EXPIRY_CHECK_S)
            except TimeoutError:
                if watch.is_expired:
                    watch.take()

    def _send_change(self, change: Change) -> None:
        if self._request.output == "object":
            self._send_object(change.type, change.data)
        else:
            self._send_rows([change.new], self._rows([change.new]), change.type)

    def _send_bookmark(self, version: int) -> None:
        self._connection.send({"event": "bookmark", "resource_version": str(version)})

    def _send_object(self, type_: str, data: bytes) -> None:
        self._connection.send({"event": "object", "type": type_, "object": msgspec.Raw(data)})

    @property
    def _has_namespaces(self) -> bool:
        return self._request.namespace is None and self._kind.namespaced

    def _rows(self, things: Sequence[Any]) -> list[list[str]]:
        request, table, now_s = self._request, self._kind.table, self._node.clock()
        wide = request.output == "wide"
        rows = [[*table.row(thing, now_s, wide), *label_cells(request, thing.metadata.labels)] for thing in things]
        if self._has_namespaces:
            rows = [[thing.metadata.namespace, *row] for thing, row in zip(things, rows, strict=True)]
        return rows

    def _send_rows(self, things: list[Any], rows: list[list[str]], type_: str) -> None:
        """`objects`: namespace, name, uid and resourceVersion of each row's."""
        titles = (*self._kind.table.titles(self._request.output == "wide"), *label_titles(self._request))
        if self._has_namespaces:
            titles = ("NAMESPACE", *titles)
        metadata = [thing.metadata for thing in things]
        objects = [(found.namespace, found.name, found.uid, found.resource_version) for found in metadata]
        self._connection.send({"event": "table", "type": type_, "columns": titles, "rows": rows, "objects": objects})


async def _in_slices(things: Sequence[Any]) -> AsyncIterator[Sequence[Any]]:
    """A few at a time, with a turn of the loop between: probes and other clients do not wait for a long list."""
    for start in range(0, len(things), AT_ONCE):
        if start:
            await asyncio.sleep(0)
        yield things[start : start + AT_ONCE]


def _version(text: str) -> int | None:
    """The version to watch from; None where the request has none. Raises UsageError."""
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise UsageError(f"resource_version: Invalid value: {text[:50]!r}: must be a number")
    return int(text)


def label_titles(request: GetRequest) -> tuple[str, ...]:
    titles = tuple(label.rpartition("/")[2].upper() for label in request.label_columns)
    return (*titles, "LABELS") if request.show_labels else titles


def label_cells(request: GetRequest, labels: Mapping[str, str]) -> list[str]:
    cells = [labels.get(label, "") for label in request.label_columns]
    if request.show_labels:
        cells.append(",".join(f"{name}={value}" for name, value in sorted(labels.items())) or "<none>")
    return cells
