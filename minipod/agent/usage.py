"""Measures emptyDirs that have a sizeLimit (layer 5) and has pods evicted that exceed it, as the kubelet does.

Rules: pkg/kubelet/eviction/eviction_manager.go emptyDirLimitEviction. A limit in memory is the tmpfs' own.
"""

from __future__ import annotations

import asyncio
import logging

from minipod.agent.node import Node
from minipod.agent.pods import Pods
from minipod.agent.worker import PodWorker
from minipod.api import quantity
from minipod.api.types import Volume
from minipod.kernel.usage import usage_bytes
from minipod.lifecycle import model
from minipod.plan.volumes import volume_path

log = logging.getLogger("minipod.agent")

PERIOD_S = 5.0  # the kubelet looks every 10 s


def has_limit(volume: Volume) -> bool:
    source = volume.empty_dir
    if source is None or source.medium or source.size_limit is None:
        return False
    return quantity.sign(source.size_limit) > 0


class UsageWatch:
    """One agent's; `run` goes on until it is cancelled. Without such volumes it costs a look at the specs."""

    def __init__(self, node: Node, pods: Pods) -> None:
        self._node = node
        self._pods = pods

    async def run(self) -> None:
        while True:
            await asyncio.sleep(PERIOD_S)
            for worker in self._pods.select(None, None):
                if worker.state.stage == "syncing" and worker.state.volumes == "ready":
                    await self._look(worker)

    async def _look(self, worker: PodWorker) -> None:
        pod = worker.state.pod
        for volume in filter(has_limit, pod.spec.volumes):
            limit = volume.empty_dir.size_limit if volume.empty_dir is not None else None
            try:
                used = await asyncio.to_thread(usage_bytes, volume_path(pod, volume, self._node.paths))
            except OSError as error:
                log.warning("pod %s: volume %s: %s", worker.name, volume.name, error.strerror)
                continue
            if limit is not None and used > quantity.value(limit):
                message = f'Usage of EmptyDir volume "{volume.name}" exceeds the limit "{limit}". '
                worker.tell(model.Evict(message=message))
                return
