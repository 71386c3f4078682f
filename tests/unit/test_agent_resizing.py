"""Whether a node has room for a larger pod, and in which order its groups get their new limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
from msgspec.structs import replace

from minipod.agent.pods import resizing
from minipod.agent.pods.scheduler import Scheduler
from minipod.agent.specs import container_spec, containers
from minipod.api.types import Pod, ResourceRequirements
from minipod.errors import ContainerError, NotFoundError
from minipod.lifecycle import core
from minipod.lifecycle.admission import Used
from minipod.plan.configs import CgroupResources, ContainerConfig, SandboxConfig
from minipod.runtime.cgroup import CgroupStats
from minipod.runtime.status import ContainerState, ContainerStatus, SandboxState, SandboxStatus
from tests.unit.agent_fakes import FakePlanner, FakeRuntime, make_node, make_pod, run_virtually

MIB = 1 << 20


def asking(name: str, cpu: str = "100m", memory: str = "64Mi") -> Pod:
    """A pod of one container with these requests; the fake node has 2 CPUs and 1 GiB."""
    made = make_pod(name, name)
    resources = ResourceRequirements(requests={"cpu": cpu, "memory": memory}, limits={"memory": memory})
    spec = replace(made.spec, containers=(replace(made.spec.containers[0], resources=resources),))
    return replace(made, metadata=replace(made.metadata, uid=name), spec=spec)


def used_by(*pods: Pod, stage: str = "syncing") -> Used:
    """What these pods take of the node, but for `web`."""

    async def main() -> Used:
        scheduler = Scheduler(cast(Any, None), lambda uid: None, lambda uid, event: None)
        for pod in pods:
            scheduler.update(replace(core.new_state(pod, 0.0), stage=stage))
        return scheduler.used(without="web")

    return run_virtually(main)


@pytest.mark.parametrize(
    ("cpu", "memory", "words"),
    [
        ("2", "1Gi", ""),
        ("2001m", "1Gi", "cpu, requested: 2001, allocatable: 2000"),
        ("1", "2Gi", f"memory, requested: {2048 * MIB}, allocatable: {1024 * MIB}"),
    ],
)
def test_more_than_the_whole_node_is_refused(tmp_path: Path, cpu: str, memory: str, words: str) -> None:
    async def main() -> None:
        found = resizing.too_large(make_node(tmp_path), asking("web", cpu, memory))
        assert found == (f"node didn't have enough allocatable resources: {words}" if words else "")

    run_virtually(main)


def test_what_others_request_is_not_there_for_a_larger_pod(tmp_path: Path) -> None:
    others = used_by(asking("web", "500m"), asking("a", "800m"), asking("b", "600m"))

    async def main() -> None:
        node, old = make_node(tmp_path), asking("web", "500m")
        assert resizing.no_room(node, asking("web", "600m"), old, others) == ("", "")
        reason, words = resizing.no_room(node, asking("web", "601m"), old, others)
        assert reason == "OutOfcpu"
        assert words.endswith("cpu, requested: 601, used: 1400, capacity: 2000")

    run_virtually(main)


def test_what_has_ended_and_what_does_not_grow_takes_no_room(tmp_path: Path) -> None:
    crowded, ended = used_by(asking("a", "1500m")), used_by(asking("a", "1500m"), stage="finished")

    async def main() -> None:
        node, old = make_node(tmp_path), asking("web", "900m")
        assert resizing.no_room(node, asking("web", "800m"), old, crowded) == ("", "")  # less, though there is no room
        assert resizing.no_room(node, asking("web", "2"), old, ended) == ("", "")

    run_virtually(main)


class Limits(FakeRuntime):
    """Notes the order in which limits are set."""

    def __init__(self, used: int = 0) -> None:
        super().__init__()
        self.used = used
        self.set: list[tuple[str, int | None]] = []

    async def update_container_resources(self, container_id: str, resources: CgroupResources) -> None:
        self.set.append((container_id, resources.memory_limit_bytes))

    async def update_pod_sandbox_resources(self, sandbox_id: str, config: SandboxConfig) -> None:
        self.set.append((sandbox_id, config.cgroup_resources.memory_limit_bytes))

    def container_stats(self, container_id: str) -> CgroupStats:
        return CgroupStats(memory_usage_bytes=self.used)

    def pod_sandbox_stats(self, sandbox_id: str) -> CgroupStats:
        return CgroupStats(memory_usage_bytes=self.used)


class Wanting(FakePlanner):
    """Plans a pod's group of this size."""

    def __init__(self, folder: Path, limit: int) -> None:
        super().__init__(folder)
        self._limit = limit

    def sandbox_config(self, pod: Pod, attempt: int) -> SandboxConfig:
        return replace(
            super().sandbox_config(pod, attempt), cgroup_resources=CgroupResources(memory_limit_bytes=self._limit)
        )


def resized(folder: Path, runtime: Limits, before: int, after: int) -> tuple[str, ...]:
    """The pod and its one container go from one limit to the other, in MiB."""

    async def main() -> tuple[str, ...]:
        node = make_node(folder, runtime)
        node.planner = cast(Any, Wanting(folder, after * MIB))
        pod = asking("web", memory=f"{after}Mi")
        limit = CgroupResources(memory_limit_bytes=before * MIB)
        config = replace(node.planner.sandbox_config(pod, 0), cgroup_resources=limit)
        sandbox = SandboxStatus(id="pod", config=config, state=SandboxState.READY, created_at_ns=1)
        own = ContainerConfig(id="c", name="web", image="i", directory="/d", resources=limit)
        running = ContainerStatus(id="c", sandbox_id="pod", config=own, state=ContainerState.RUNNING, created_at_ns=1)
        return await resizing.resize(node, pod, sandbox, [running])

    return run_virtually(main)


@pytest.mark.parametrize(
    ("before", "after", "order"),
    [(64, 128, [("pod", 128), ("c", 128), ("pod", 128)]), (128, 64, [("pod", 128), ("c", 64), ("pod", 64)])],
)
def test_a_pods_group_grows_before_what_is_in_it_and_shrinks_after(
    tmp_path: Path, before: int, after: int, order: list[tuple[str, int]]
) -> None:
    runtime = Limits()
    assert resized(tmp_path, runtime, before, after) == ("c",)
    assert runtime.set == [(name, size * MIB) for name, size in order]


def test_nothing_changes_while_more_is_used_than_the_new_limit(tmp_path: Path) -> None:
    runtime = Limits(used=100 * MIB)
    with pytest.raises(ContainerError, match="cannot decrease memory limits") as failure:
        resized(tmp_path, runtime, 128, 64)
    assert runtime.set == []
    assert f"attempting to set pod memory limit ({64 * MIB}) below current usage ({100 * MIB})" in str(failure.value)
    assert f'attempting to set container "web" memory limit ({64 * MIB})' in str(failure.value)


# ---- looking things up


def test_a_container_is_found_in_whichever_list_it_is() -> None:
    pod = make_pod("web", "main", init=["prepare"])
    assert [container.name for container in containers(pod)] == ["prepare", "main"]
    assert container_spec(pod, "prepare").name == "prepare"
    with pytest.raises(NotFoundError, match="pod web: container other is not in its spec"):
        container_spec(pod, "other")
