"""The verbs `get` and `delete` for objects that are no pods (layer 6): as rows, as objects, and until they are gone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from minipod.agent.node import Node
from minipod.agent.objects.claims import Claims
from minipod.agent.registry.history import Change
from minipod.agent.registry.registry import Preconditions
from minipod.api.kinds import Kind, kind_of
from minipod.control.verbs.listing import GetRequest, Selection, label_cells, label_titles
from minipod.control.verbs.requests import or_gone
from minipod.control.wire import Connection
from minipod.errors import NotFoundError


class GetObjects:
    """One `get`, as for pods: rows or whole objects, then their changes."""

    def __init__(self, node: Node, connection: Connection, request: GetRequest, kind: Kind) -> None:
        self._node = node
        self._connection = connection
        self._request = request
        self._kind = kind
        self._namespace = request.namespace if kind.namespaced else ""
        self._selection = Selection(request, kind.fields)

    async def answer(self) -> dict[str, Any]:
        request = self._request
        with self._node.object_changes.watch(self._is_wanted) as watch:
            found = self._found() if request.listing else []
            if self._selects:
                found = [thing for thing in found if thing in self._selection]
            if request.output == "object":
                for thing in found:
                    self._send_object("ADDED", msgspec.json.encode(thing))
                    await self._connection.relieve()
            else:
                self._send_rows(found)
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

    def _found(self) -> list[Any]:
        request, registry = self._request, self._node.registry
        if request.name is None:
            return registry.objects(self._kind, self._namespace)
        if self._namespace is None or request.watch:
            found = registry.objects(self._kind, self._namespace)
            return [thing for thing in found if thing.metadata.name == request.name]
        return [registry.get(self._kind, self._namespace, request.name)]

    def _is_wanted(self, change: Change) -> bool:
        request = self._request
        return (
            change.kind == self._kind.name
            and self._namespace in (None, change.namespace)
            and request.name in (None, change.name)
            and (not self._selects or change.new in self._selection)
        )

    def _send_object(self, kind: str, data: bytes) -> None:
        self._connection.send({"event": "object", "type": kind, "object": msgspec.Raw(data)})

    def _send_change(self, change: Change) -> None:
        if self._request.output == "object":
            self._send_object(change.type, change.data)
        else:
            self._send_rows([change.new])

    def _send_rows(self, things: Sequence[Any]) -> None:
        wide = self._request.output == "wide"
        table, now, request = self._kind.table, self._node.clock(), self._request
        titles = (*table.titles(wide), *label_titles(request))
        rows = [[*table.row(thing, now, wide), *label_cells(request, thing.metadata.labels)] for thing in things]
        if request.namespace is None and self._kind.namespaced:
            titles = ("NAMESPACE", *titles)
            rows = [[thing.metadata.namespace, *row] for thing, row in zip(things, rows, strict=True)]
        self._connection.send({"event": "table", "columns": titles, "rows": rows})


class DeleteObjects:
    """One `delete`: what is in use goes when it is free, and the answer waits for it, as kubectl does."""

    def __init__(self, node: Node, claims: Claims, connection: Connection) -> None:
        self._node = node
        self._claims = claims
        self._connection = connection

    async def answer(self, kind: Kind, namespace: str, names: Sequence[str]) -> dict[str, Any]:
        missing: list[str] = []
        for name in dict.fromkeys(names):
            try:
                thing = self._node.registry.get(kind, namespace, name)
            except NotFoundError as error:
                missing.append(str(error))
                continue
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
        metadata = thing.metadata
        self._node.registry.delete(kind_of(thing), metadata.namespace, metadata.name, Preconditions(metadata.uid))
        if not kind_of(thing).protected:
            return
        self._claims.reconcile()
        if thing.kind == "PersistentVolumeClaim" and (users := self._claims.users(thing)):
            who = ", ".join(f'"{worker.name}"' for worker in users)
            message = (
                f'persistentvolumeclaim "{thing.metadata.name}" is in use by pod {who}: it goes when that has ended'
            )
            self._connection.send({"event": "warning", "message": message})
        elif thing.kind == "PersistentVolume" and thing.spec.claim_ref is not None:
            claim = f"{thing.spec.claim_ref.namespace}/{thing.spec.claim_ref.name}"
            if self._node.registry.find(type(thing), "", thing.metadata.name) is not None:
                message = f'persistentvolume "{thing.metadata.name}" is bound to claim {claim}: it goes after that'
                self._connection.send({"event": "warning", "message": message})

    async def _gone(self, thing: Any, next_change: Callable[[], Any]) -> bool:
        """Whether it is; False where the one who asked is gone first."""
        metadata = thing.metadata
        found = self._node.registry.find(type(thing), metadata.namespace, metadata.name)
        while found is not None and found.metadata.uid == metadata.uid:
            if await or_gone(self._connection, next_change()) is None:
                return False
            found = self._node.registry.find(type(thing), metadata.namespace, metadata.name)
        return True


def _end_of(uid: str) -> Callable[[Change], bool]:
    return lambda change: change.type == "DELETED" and change.uid == uid
