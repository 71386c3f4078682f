"""Publishes the pods' names to the process that answers DNS questions, and sees that it runs (layer 5).

The answerer outlives the agent and answers from what was published last. Here each change of a pod is looked at once,
whatever the number of pods; and every few seconds whether the answerer still runs and what the host's resolvers are.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from minipod.agent.node import Node
from minipod.agent.pods.table import Pods
from minipod.agent.registry.history import Change
from minipod.agent.registry.selection import Selection
from minipod.api import types
from minipod.api.kinds import POD
from minipod.errors import MinipodError
from minipod.kernel.error_text import text_of
from minipod.names.table import Gone, Pod
from minipod.plan.files import missing_cluster_dns, name_in_subdomain

log = logging.getLogger("minipod.agent")

LOOK_S = 2.0  # between two looks at the answerer and at the host's /etc/resolv.conf
TOGETHER_S = 0.01  # changes within this time are published together
_OVER = ("Succeeded", "Failed")


class NamesKeeper:
    """One agent's; `run` returns when it is cancelled."""

    def __init__(self, node: Node, pods: Pods) -> None:
        self._node = node
        self._pods = pods
        self._rows: dict[str, Pod] = {}  # by uid
        self._is_published = False  # all of them, but for what is being looked at
        self._failure = ""

    async def run(self) -> None:
        if missing := missing_cluster_dns(self._node.config):
            log.warning("%s", missing)
        watch = self._node.history.watch(Selection.of("Pod"))
        self._look_at_all()
        await self._do((), keep=True)
        while True:
            try:
                changes = await asyncio.wait_for(watch.changed(), LOOK_S)
            except TimeoutError:
                if self._rows:
                    await self._do((), keep=True)
                continue
            if changes is None:
                self._look_at_all()
            taken = [self._take(change) for change in changes or ()]  # each has to be taken
            differ = [found for found in taken if found is not None]
            if changes is None or differ:
                await asyncio.sleep(TOGETHER_S)
                await self._do(differ)

    def _look_at_all(self) -> None:
        """Also when changes have been missed."""
        objects = self._node.registry.objects(POD)
        self._rows = {pod.metadata.uid: row for pod in objects if (row := row_of(pod)) is not None}
        self._is_published = False

    def _take(self, change: Change) -> Pod | Gone | None:
        """What is to be published because of it; None for nothing."""
        row = None if change.type == "DELETED" else row_of(change.new)
        if row == self._rows.get(change.uid):
            return None
        if row is None:
            del self._rows[change.uid]
            return Gone(change.namespace, change.name)
        self._rows[change.uid] = row
        return row

    async def _do(self, changes: Sequence[Pod | Gone], keep: bool = False) -> None:
        try:
            if self._is_published:
                self._is_published = False  # until it is done
                await self._node.runtime.publish_names(changes)
            else:
                await self._node.runtime.publish_names(tuple(self._rows.values()), whole=True)
            self._is_published = True
            if keep:
                await self._node.runtime.keep_names()
        except (MinipodError, OSError) as error:
            if text_of(error) != self._failure:  # once, not every two seconds
                self._failure = text_of(error)
                log.error("names of pods: %s", self._failure)
        else:
            self._failure = ""


def row_of(pod: types.Pod) -> Pod | None:
    """What is answered of a pod; None of one that has no address, or none any more.

    Ready as an endpoint of a Service is: not while it is being deleted (pkg/controller/endpoint).
    """
    metadata, spec, status = pod.metadata, pod.spec, pod.status
    if status is None or not status.pod_ips or status.phase in _OVER:
        return None
    ready = metadata.deletion_timestamp is None and any(
        condition.type == "Ready" and condition.status == "True" for condition in status.conditions
    )
    return Pod(
        namespace=metadata.namespace,
        name=metadata.name,
        hostname=name_in_subdomain(pod).lower(),
        subdomain=spec.subdomain,
        addresses=tuple(address.ip for address in status.pod_ips),
        is_ready=ready,
        ports=tuple(
            (port.name, (port.protocol or "TCP").lower(), port.container_port)
            for container in spec.containers
            for port in container.ports
            if port.name
        ),
    )
