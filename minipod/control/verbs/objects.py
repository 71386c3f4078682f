"""The verbs `get` and `delete` for objects that are no pods (layer 6): as rows, as objects, and until they are gone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from minipod.agent.node import Node
from minipod.agent.objects.claims import Claims
from minipod.agent.objects.table import STRUCTS, ObjectChange
from minipod.agent.pods.table import Pods
from minipod.agent.store import Record
from minipod.api import object_columns
from minipod.api.defaults import defaulted
from minipod.api.kinds import Kind, kind_of_word
from minipod.api.types import Namespace, ObjectMeta
from minipod.control.verbs.listing import GetRequest, Selection, label_cells, label_titles
from minipod.control.verbs.requests import or_gone
from minipod.control.wire import Connection
from minipod.errors import ConflictError, NotFoundError, UsageError

_DEFAULT_NAMESPACES = ("default",)


def kind_wanted(word: str, verb: str) -> Kind:
    """Raises UsageError for a kind that is not kept."""
    kind = kind_of_word(word)
    if kind is None:
        raise UsageError(f'{verb}: minipod doesn\'t have a resource type "{word}"')
    return kind


class GetObjects:
    """One `get`, as for pods: rows or whole objects, then their changes."""

    def __init__(self, node: Node, connection: Connection, request: GetRequest, kind: Kind) -> None:
        self._node = node
        self._connection = connection
        self._request = request
        self._kind = kind
        self._namespace = request.namespace if kind.namespaced else ""
        self._selection = Selection(request, ("metadata.name", "metadata.namespace"))

    async def answer(self) -> dict[str, Any]:
        request = self._request
        with self._node.object_changes.watch(self._is_wanted) as watch:
            records = self._records() if request.listing else []
            if self._selects:
                records = [record for record in records if _decoded(record) in self._selection]
            if request.output == "object":
                for record in records:
                    self._send_object("ADDED", record.data)
                    await self._connection.relieve()
            else:
                self._send_rows(records)
            while request.watch:
                change = await or_gone(self._connection, watch.next())
                if change is None:
                    break
                self._send_change(change)
                await self._connection.drain()
        return {}

    @property
    def _selects(self) -> bool:
        return bool(self._request.selector or self._request.field_selector)

    def _records(self) -> list[Record]:
        request, objects = self._request, self._node.objects
        if request.name is None:
            found = objects.records(self._kind.name, self._namespace)
        elif self._namespace is None:
            found = [one for one in objects.records(self._kind.name) if one.name == request.name]
        elif request.watch:
            found = [one for one in objects.records(self._kind.name, self._namespace) if one.name == request.name]
        else:
            try:
                found = [objects.record(self._kind.name, self._namespace, request.name)]
            except NotFoundError:
                found = [one for one in self._built_in() if one.name == request.name]
                if not found:
                    raise
            return found
        names = {one.name for one in found}
        extra = [one for one in self._built_in() if one.name not in names and request.name in (None, one.name)]
        return sorted((*found, *extra), key=lambda one: (one.namespace, one.name))

    def _built_in(self) -> list[Record]:
        """Namespaces need not be made: `default`, and those that something is in, are there."""
        if self._kind.name != "Namespace":
            return []
        return [_namespace_record(name) for name in _DEFAULT_NAMESPACES]

    def _is_wanted(self, change: ObjectChange) -> bool:
        request, record = self._request, change.record
        return (
            change.kind == self._kind.name
            and self._namespace in (None, record.namespace)
            and request.name in (None, record.name)
            and (not self._selects or _decoded(record) in self._selection)
        )

    def _send_object(self, kind: str, data: bytes) -> None:
        self._connection.send({"event": "object", "type": kind, "object": msgspec.Raw(data)})

    def _send_change(self, change: ObjectChange) -> None:
        if self._request.output == "object":
            self._send_object(change.type, change.record.data)
        else:
            self._send_rows([change.record])

    def _send_rows(self, records: Sequence[Record]) -> None:
        wide = self._request.output == "wide"
        table = object_columns.TABLES[self._kind.name]
        now, request = self._node.clock(), self._request
        titles = (*table.titles(wide), *label_titles(request))
        things = [_decoded(record) for record in records]
        rows = [[*table.row(thing, now, wide), *label_cells(request, thing.metadata.labels)] for thing in things]
        if request.namespace is None and self._kind.namespaced:
            titles = ("NAMESPACE", *titles)
            rows = [[record.namespace, *row] for record, row in zip(records, rows, strict=True)]
        self._connection.send({"event": "table", "columns": titles, "rows": rows})


def _decoded(record: Record) -> Any:
    return msgspec.json.decode(record.data, type=STRUCTS[record.kind])


def _namespace_record(name: str) -> Record:
    thing = defaulted(Namespace(metadata=ObjectMeta(name=name)))
    return Record("Namespace", "", name, "", 0, msgspec.json.encode(thing))


class DeleteObjects:
    """One `delete`: what is in use goes when it is free, and the answer waits for it, as kubectl does."""

    def __init__(self, node: Node, pods: Pods, claims: Claims, connection: Connection) -> None:
        self._node = node
        self._pods = pods
        self._claims = claims
        self._connection = connection

    async def answer(self, kind: Kind, namespace: str, names: Sequence[str]) -> dict[str, Any]:
        missing: list[str] = []
        for name in dict.fromkeys(names):
            try:
                thing = self._node.objects.get(kind.name, namespace, name)
            except NotFoundError as error:
                missing.append(str(error))
                continue
            if kind.name == "Namespace":
                self._check_empty(name)
            uid = thing.metadata.uid
            with self._node.object_changes.watch(_end_of(uid)) as watch:
                self._begin(thing)
                if not await self._gone(thing, watch.next):
                    return {}
            self._connection.send({"event": "deleted", "name": name})
        if missing:
            raise NotFoundError("; ".join(missing))
        return {}

    def _begin(self, thing: Any) -> None:
        if thing.kind not in ("PersistentVolumeClaim", "PersistentVolume"):
            self._node.objects.remove(thing)
            return
        self._claims.delete(thing)
        self._claims.reconcile()
        if thing.kind == "PersistentVolumeClaim" and (users := self._claims.users(thing)):
            who = ", ".join(f'"{worker.name}"' for worker in users)
            message = (
                f'persistentvolumeclaim "{thing.metadata.name}" is in use by pod {who}: it goes when that has ended'
            )
            self._connection.send({"event": "warning", "message": message})
        elif thing.kind == "PersistentVolume" and thing.spec.claim_ref is not None:
            claim = f"{thing.spec.claim_ref.namespace}/{thing.spec.claim_ref.name}"
            if self._node.objects.find(type(thing), "", thing.metadata.name) is not None:
                message = f'persistentvolume "{thing.metadata.name}" is bound to claim {claim}: it goes after that'
                self._connection.send({"event": "warning", "message": message})

    async def _gone(self, thing: Any, next_change: Callable[[], Any]) -> bool:
        """Whether it is; False where the one who asked is gone first."""
        metadata = thing.metadata
        found = self._node.objects.find(type(thing), metadata.namespace, metadata.name)
        while found is not None and found.metadata.uid == metadata.uid:
            if await or_gone(self._connection, next_change()) is None:
                return False
            found = self._node.objects.find(type(thing), metadata.namespace, metadata.name)
        return True

    def _check_empty(self, name: str) -> None:
        """A namespace is a name here; what is in it is deleted by name, not by accident."""
        inside = [f"pod/{worker.name}" for worker in self._pods.select(name, None)]
        for kind in ("ConfigMap", "Secret", "PersistentVolumeClaim"):
            inside += [f"{kind.lower()}/{record.name}" for record in self._node.objects.records(kind, name)]
        if inside:
            shown = ", ".join(inside[:5]) + (" …" if len(inside) > 5 else "")
            raise ConflictError(f'namespace "{name}" is not empty: delete first {shown}')


def _end_of(uid: str) -> Callable[[ObjectChange], bool]:
    return lambda change: change.type == "DELETED" and change.record.uid == uid
