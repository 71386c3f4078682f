"""The verbs `get` and `events` (layer 6): lists and watches, as tables or as whole objects."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from minipod.agent.events import matches
from minipod.agent.node import Node
from minipod.agent.pods.table import Pods
from minipod.agent.pods.worker import PodWorker
from minipod.agent.registry.history import Change
from minipod.api import columns, selectors
from minipod.api.kinds import POD
from minipod.api.types import Pod
from minipod.control.verbs.requests import converted, or_gone
from minipod.control.wire import Connection, Message
from minipod.errors import UsageError


class GetRequest(msgspec.Struct, frozen=True):
    """`selector`, `field_selector`: kubectl's texts. `listing`: what there is comes before the changes of a watch.

    `label_columns`: labels that are columns of a table; `show_labels`: all of them as one.
    """

    kind: str = "pods"
    namespace: str | None = None
    name: str | None = None
    output: Literal["table", "wide", "object"] = "table"
    watch: bool = False
    listing: bool = True
    selector: str = ""
    field_selector: str = ""
    label_columns: tuple[str, ...] = ()
    show_labels: bool = False


class Selection:
    """The objects that a request's selectors mean. Raises UsageError for what cannot be parsed or is no such field."""

    def __init__(self, request: GetRequest, fields: tuple[str, ...]) -> None:
        try:
            self._labels = selectors.parse_labels(request.selector)
            self._fields = selectors.parse_fields(request.field_selector)
        except selectors.InvalidSelector as error:
            raise UsageError(str(error)) from None
        for term in self._fields:
            if term.path not in fields:
                raise UsageError(f"field label not supported: {term.path}; supported are {', '.join(fields)}")

    def __contains__(self, thing: Any) -> bool:
        if not selectors.matches_labels(self._labels, thing.metadata.labels):
            return False
        return not self._fields or selectors.matches_fields(self._fields, lambda path: _field(thing, path))


def _field(thing: Any, path: str) -> str:
    """A field of an object as a field selector compares it; empty where it has none."""
    for name in path.split("."):
        thing = getattr(thing, re.sub("([A-Z])", lambda found: "_" + found[1].lower(), name), "")
    return str(thing).lower() if isinstance(thing, bool) else str(thing or "")


def label_titles(request: GetRequest) -> tuple[str, ...]:
    titles = tuple(label.rpartition("/")[2].upper() for label in request.label_columns)
    return (*titles, "LABELS") if request.show_labels else titles


def label_cells(request: GetRequest, labels: Mapping[str, str]) -> list[str]:
    cells = [labels.get(label, "") for label in request.label_columns]
    if request.show_labels:
        cells.append(",".join(f"{name}={value}" for name, value in sorted(labels.items())) or "<none>")
    return cells


class EventsRequest(msgspec.Struct, frozen=True):
    namespace: str | None = None
    pod: str | None = None
    watch: bool = False


class Get:
    """One `get` of pods."""

    def __init__(self, node: Node, pods: Pods, connection: Connection, request: Message) -> None:
        self._node = node
        self._pods = pods
        self._connection = connection
        self._request = converted(request, GetRequest)
        self._selection = Selection(self._request, POD.fields)

    async def answer(self) -> dict[str, Any]:
        request = self._request
        if request.name is not None and request.namespace is not None and not request.watch:
            self._pods.find(request.namespace, request.name)
        with self._node.pod_changes.watch(self._is_wanted) as watch:
            workers = self._pods.select(request.namespace, request.name) if request.listing else []
            workers = [worker for worker in workers if worker.pod in self._selection]
            if request.output == "object":
                await self._send_objects(workers)
            else:
                self._send_rows([worker.pod for worker in workers])
            while request.watch:
                change = await or_gone(self._connection, watch.next())
                if change is None:
                    break
                if isinstance(change, Change):
                    self._send_change(change)
                    await self._connection.drain()
        return {}

    def _is_wanted(self, change: object) -> bool:
        request = self._request
        return (
            isinstance(change, Change)
            and request.namespace in (None, change.namespace)
            and request.name in (None, change.name)
            and change.new in self._selection
        )

    async def _send_objects(self, workers: list[PodWorker]) -> None:
        for worker in workers:
            self._send_object("ADDED", msgspec.json.encode(worker.pod))
            await self._connection.relieve()

    def _send_object(self, kind: str, data: bytes) -> None:
        self._connection.send({"event": "object", "type": kind, "object": msgspec.Raw(data)})

    def _send_change(self, change: Change) -> None:
        if self._request.output == "object":
            self._send_object(change.type, change.data)
        else:
            self._send_rows([change.new])

    def _send_rows(self, pods: list[Pod]) -> None:
        wide = self._request.output == "wide"
        now_s = self._node.clock()
        request = self._request
        rows = [[*columns.pod_row(pod, now_s, wide=wide), *label_cells(request, pod.metadata.labels)] for pod in pods]
        titles = (*(columns.POD_WIDE_COLUMNS if wide else columns.POD_COLUMNS), *label_titles(request))
        if self._request.namespace is None:
            titles = ("NAMESPACE", *titles)
            rows = [[pod.metadata.namespace, *row] for pod, row in zip(pods, rows, strict=True)]
        self._connection.send({"event": "table", "columns": titles, "rows": rows})


async def send_events(node: Node, connection: Connection, request: Message) -> dict[str, Any]:
    """The verb `events`."""
    wanted = converted(request, EventsRequest)

    with node.event_changes.watch(lambda change: matches(change.event, wanted.namespace, wanted.pod)) as watch:
        for event in node.events.select(node.clock(), wanted.namespace, wanted.pod):
            connection.send({"event": "object", "type": "ADDED", "object": event})
            await connection.relieve()
        while wanted.watch:
            change = await or_gone(connection, watch.next())
            if change is None:
                break
            connection.send({"event": "object", "type": change.type, "object": change.event})
            await connection.drain()
    return {}
