"""Deletes what a manifest holds before it is created again, or what it does not hold any more (layer 6)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from minipod.agent.node import Node
from minipod.agent.objects.claims import Claims
from minipod.agent.pods.table import Pods
from minipod.agent.pods.worker import PodWorker
from minipod.api.kinds import POD, Kind, kind_named
from minipod.control.verbs.objects import DeleteObjects, forgotten
from minipod.control.wire import Connection
from minipod.errors import ConflictError

OnGone = Callable[[Kind, str], None]


class Deletion:
    """Of objects of any kind. `grace_period_s` None: the pod's own; `timeout_s` None: as long as it takes."""

    def __init__(
        self,
        node: Node,
        pods: Pods,
        claims: Claims,
        connection: Connection,
        grace_period_s: int | None = None,
        timeout_s: float | None = None,
    ) -> None:
        self._pods = pods
        self._others = DeleteObjects(node, claims, connection)
        self._connection = connection
        self._grace_period_s = grace_period_s
        self._timeout_s = timeout_s

    def begin(self, thing: Any) -> Any:
        """Deletes an object or begins its end: what `gone` waits for. Raises NotFoundError, ConflictError."""
        kind, metadata = kind_named(thing.kind), thing.metadata
        if kind is POD:
            return self._pods.delete(metadata.namespace, metadata.name, self._grace_period_s)
        return self._others.begin(kind, metadata.namespace, metadata.name)

    async def gone(
        self, going: Iterable[Any], on_gone: Callable[[Kind, str, str], None] = lambda _kind, _namespace, _name: None
    ) -> None:
        """Returns when all are. `on_gone` is called with each. Raises ConflictError when the time is up."""
        name = ""
        try:
            async with asyncio.timeout(self._timeout_s):
                for each in going:
                    if isinstance(each, PodWorker):
                        name = f'pod "{each.name}"'
                        await forgotten(each, self._connection)
                        on_gone(POD, each.namespace, each.name)
                    else:
                        name = f'{kind_named(each.kind).singular} "{each.metadata.name}"'
                        await self._others.gone(each)
                        on_gone(kind_named(each.kind), each.metadata.namespace, each.metadata.name)
        except TimeoutError:
            raise ConflictError(
                f"timed out: {name} is not gone after {self._timeout_s:g} s (--timeout): nothing was created; try again"
            ) from None
