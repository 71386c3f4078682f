"""Deletions (layer 6): the end of a pod, the verb `delete` for objects other than pods; wait until they are gone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

from minipod.agent.node import Node
from minipod.agent.objects.claims import Claims
from minipod.agent.pods.worker import PodWorker
from minipod.agent.registry.registry import Registry
from minipod.agent.registry.selection import Selection
from minipod.api.kinds import Kind
from minipod.control.verbs.requests import or_gone
from minipod.control.wire import Connection
from minipod.errors import ConflictError, NotFoundError

TROUBLE_S = 0.5  # how often a deletion looks at what delays it


def delayed(name: str, trouble: str) -> str:
    return f'"{name}": its end is delayed: {trouble}; it continues by itself'


async def forgotten(worker: PodWorker, connection: Connection) -> bool:
    """Returns when the pod is: True. Warns of what delays that beyond the grace period."""
    shown = ""
    while not worker.forgotten.done():
        await asyncio.wait([worker.forgotten], timeout=TROUBLE_S)
        if worker.trouble not in ("", shown) and not worker.forgotten.done():
            shown = worker.trouble
            connection.send({"event": "warning", "message": f"pod {delayed(worker.name, shown)}"})
    return True


def would_delete(
    registry: Registry, connection: Connection, kind: Kind, namespace: str, names: Sequence[str]
) -> dict[str, Any]:
    """A dry run. Raises NotFoundError for what is not there."""
    missing: list[str] = []
    for name in dict.fromkeys(names):
        try:
            registry.get(kind, kind.place(namespace), name)
            connection.send({"event": "deleted", "name": name})
        except NotFoundError as error:
            missing.append(str(error))
    if missing:
        raise NotFoundError("; ".join(missing))
    return {}


class DeleteObjects:
    """One `delete` request. Objects in use are removed once they are free; the answer waits for that, as in kubectl."""

    def __init__(self, node: Node, claims: Claims, connection: Connection) -> None:
        self._node = node
        self._claims = claims
        self._connection = connection

    async def answer(self, kind: Kind, namespace: str, names: Sequence[str], *, wait: bool) -> dict[str, Any]:
        """Deletes all that can be deleted, then reports the others, as kubectl does."""
        going: list[Any] = []
        missing: list[str] = []
        conflicts: list[str] = []
        for name in dict.fromkeys(names):
            try:
                going.append(self.begin(kind, namespace, name))
            except NotFoundError as error:
                missing.append(str(error))
            except ConflictError as error:
                conflicts.append(str(error))
        for thing in going:
            if wait and await or_gone(self._connection, self.gone(thing)) is None:
                return {}
            self._connection.send({"event": "deleted", "name": thing.metadata.name})
        if conflicts:  # a client may ignore missing objects, but not these
            raise ConflictError("; ".join([*conflicts, *missing]))
        if missing:
            raise NotFoundError("; ".join(missing))
        return {}

    def begin(self, kind: Kind, namespace: str, name: str) -> Any:
        """Deletes the object or marks it for its end. Returns it."""
        thing = self._node.registry.delete(kind, namespace, name)
        if kind.protected:
            self._reconcile(thing)
        return thing

    def _reconcile(self, thing: Any) -> None:
        """Removes the claim or volume where nothing uses it; else warns that it stays until then."""
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

    async def gone(self, thing: Any) -> bool:
        """Returns when it is: True."""
        metadata = thing.metadata
        watch = self._node.history.watch(Selection.of(thing.kind, name=metadata.name, uid=metadata.uid))
        shown = ""
        while True:
            found = self._node.registry.find(type(thing), metadata.namespace, metadata.name)
            if found is None or found.metadata.uid != metadata.uid:
                return True
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TROUBLE_S):
                    await watch.changed()
            if self._claims.trouble not in ("", shown):
                shown = self._claims.trouble
                self._connection.send({"event": "warning", "message": delayed(thing.metadata.name, shown)})
