"""Measures the local storage of pods that have limits of it, and evicts those above (layer 5), as the kubelet does.

Rules: pkg/kubelet/eviction/eviction_manager.go localStorageEviction: emptyDirs with a sizeLimit, then the pod, then its
containers. Measured also where project quota holds the limit (`plan.volumes.quota`): a process with CAP_SYS_RESOURCE
may write beyond it, and the owner of a file may take it out of its project.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable

from minipod.agent.node import Node
from minipod.agent.pods.table import Pods
from minipod.agent.pods.worker import PodWorker
from minipod.api import quantity
from minipod.api.status import pod_limits
from minipod.api.types import Pod, Volume
from minipod.kernel.usage import usage_bytes
from minipod.lifecycle import model
from minipod.paths import Paths
from minipod.plan.pod import log_directory
from minipod.plan.sandbox import files_directory
from minipod.plan.volumes.sources import pod_directory, used_volumes, volume_path
from minipod.runtime.offload import slowly_off_loop

PERIOD_S = 5.0  # the kubelet looks every 10 s
SHARE = 0.1  # the largest part of the time that is spent measuring: large trees are measured less often
STORAGE = "ephemeral-storage"


def has_limits(pod: Pod) -> bool:
    """Whether the pod has a limit that requires measuring."""
    return STORAGE in pod_limits(pod) or any(map(_limit_of, pod.spec.volumes))


def _limit_of(volume: Volume) -> int:
    """Bytes on disk; 0 without a limit, and in memory, where the tmpfs has its own."""
    source = volume.empty_dir
    if source is None or source.medium or source.size_limit is None:
        return 0
    return quantity.value(source.size_limit)


class UsageWatch:
    """One agent's; `run` returns when it is cancelled. Without such pods it costs a look at the specs."""

    def __init__(self, node: Node, pods: Pods) -> None:
        self._node = node
        self._pods = pods

    async def run(self) -> None:
        spent = 0.0
        while True:
            await asyncio.sleep(max(PERIOD_S, spent / SHARE))
            begun = time.monotonic()
            for worker in self._pods.select(None, None):
                state = worker.state
                if state.stage == "syncing" and state.volumes == "ready" and has_limits(state.pod):
                    await self._look(worker)
            spent = time.monotonic() - begun

    async def _look(self, worker: PodWorker) -> None:
        containers = worker.state.containers
        runs = ((name, known.run) for name, known in containers.items())
        running = {name: run.attempt for name, run in runs if run is not None and run.state == "running"}
        files = files_directory(worker.state.sandbox.id, self._node.paths)
        message = await slowly_off_loop(exceeded, worker.state.pod, self._node.paths, running, files)
        if message:
            worker.post(model.Evict(message=message))


def exceeded(pod: Pod, paths: Paths, running: dict[str, int], files: str) -> str:
    """What of the pod takes more than it may, in the kubelet's words; empty: nothing.

    `running`: of each container that runs, the number of its writable layer. What has ended does not count
    (cri_stats_provider.go removeTerminatedContainers). `files`: the directory of the pod's own files; the kubelet
    counts /etc/hosts (CVE-2020-8557), here the others count too.
    """
    volumes = {}
    for volume in used_volumes(pod):
        if _is_local(volume):
            volumes[volume.name] = _taken([volume_path(pod, volume, paths)])
            if volumes[volume.name] > (limit := _limit_of(volume)) > 0:
                return f'Usage of EmptyDir volume "{volume.name}" exceeds the limit "{_written(volume)}". '
    wanted = pod_limits(pod).get(STORAGE)
    if wanted is None:
        return ""
    taken = {name: _container_bytes(pod, name, attempt, paths) for name, attempt in running.items()}
    if sum(taken.values()) + sum(volumes.values()) + _taken([files]) > quantity.value(wanted):
        total = quantity.canonical(wanted)
        return f"Pod ephemeral local storage usage exceeds the total limit of containers {total}. "
    for container in pod.spec.containers:
        limit = quantity.value(container.resources.limits.get(STORAGE, "0"))
        if 0 < limit < taken.get(container.name, 0):
            own = quantity.canonical(container.resources.limits[STORAGE])
            return f'Container {container.name} exceeded its local ephemeral storage limit "{own}". '
    return ""


def _written(volume: Volume) -> str:
    limit = volume.empty_dir.size_limit if volume.empty_dir is not None else None
    return quantity.canonical(limit or "0")


def _is_local(volume: Volume) -> bool:
    """Whether the volume is on the node's disk and removed with the pod."""
    if volume.empty_dir is not None:
        return not volume.empty_dir.medium
    return volume.config_map is not None


def _container_bytes(pod: Pod, name: str, attempt: int, paths: Paths) -> int:
    """The bytes of a container's writable layer and logs."""
    layer = f"{pod_directory(pod, paths)}/containers/{name}/{attempt}/upper"
    return _taken([layer, f"{log_directory(pod, paths)}/{name}"])


def _taken(places: Iterable[str]) -> int:
    total = 0
    for place in places:
        with contextlib.suppress(OSError):  # not there yet, or not any more
            total += usage_bytes(place)
    return total
