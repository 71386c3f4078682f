"""In-place resize (layer 5): whether this node has room, and the order in which groups get their new limits.

The allocated resources and the status that reports them are `lifecycle.resize`'s.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from minipod.agent.node import Node
from minipod.api.types import Container, Pod
from minipod.errors import ContainerError
from minipod.failpoint import reached
from minipod.lifecycle.admission import Used, capacity_of, demand_of, shortages
from minipod.plan.configs import CgroupResources, SandboxConfig
from minipod.plan.resources import container_resources
from minipod.runtime.status import ContainerStatus, SandboxStatus

_NAMES = ("cpu", "memory")
PENDING = "Deferred"


def too_large(node: Node, pod: Pod) -> str:
    """Why the pod would not fit even on an empty node (plugin/pkg/admission/podresize); `""` if it would."""
    wanted, capacity = demand_of(pod), capacity_of(node.host_node())
    found = [
        f"{name}, requested: {wanted[name]}, allocatable: {capacity[name]}"
        for name in _NAMES
        if wanted.get(name, 0) > capacity[name]
    ]
    return f"node didn't have enough allocatable resources: {'; '.join(found)}" if found else ""


def no_room(node: Node, new: Pod, old: Pod, others: Used) -> tuple[str, str]:
    """Why a larger request does not fit (lifecycle/predicate.go): reason and message, or `""` twice if it does.
    `others`: what is used without the pod."""
    before, wanted = demand_of(old), demand_of(new)
    larger = {name: wanted.get(name, 0) for name in _NAMES if wanted.get(name, 0) > before.get(name, 0)}
    short = shortages(larger, others, capacity_of(node.host_node()))
    return (f"OutOf{short[0].resource}", short[0].words) if short else ("", "")


async def resize(node: Node, pod: Pod, sandbox: SandboxStatus, running: Iterable[ContainerStatus]) -> tuple[str, ...]:
    """Sets the limits of every cgroup to what the pod is allocated. Returns the containers' ids. Raises ContainerError.

    The pod's cgroup is never smaller than those in it: it grows first and shrinks last.
    """
    specs: dict[str, Container] = {
        container.name: container for container in (*pod.spec.init_containers, *pod.spec.containers)
    }
    wanted = node.planner.sandbox_config(pod, sandbox.config.attempt)
    resized = [
        (status, container_resources(pod, specs[status.config.name]))
        for status in running
        if status.config.name in specs
    ]
    _check_usage(node, sandbox, wanted, resized)
    larger = _larger(sandbox.config.cgroup_resources, wanted.cgroup_resources)
    await node.runtime.update_pod_sandbox_resources(sandbox.id, replace(wanted, cgroup_resources=larger))
    reached("resize.pod-set")
    for status, resources in resized:
        await node.runtime.update_container_resources(status.id, resources)
    await node.runtime.update_pod_sandbox_resources(sandbox.id, wanted)
    reached("resize.containers-set")
    return tuple(status.id for status, _ in resized)


def _check_usage(
    node: Node,
    sandbox: SandboxStatus,
    wanted: SandboxConfig,
    containers: Iterable[tuple[ContainerStatus, CgroupResources]],
) -> None:
    """Raises ContainerError where a new memory limit is below the current usage (kuberuntime_manager.go
    validateMemoryResizeAction): the kernel would refuse it (cgroup v1), or kill processes until it holds (v2).
    """
    errors = []
    if limit := _smaller_limit(sandbox.config.cgroup_resources, wanted.cgroup_resources):
        used = node.runtime.pod_sandbox_stats(sandbox.id).memory_usage_bytes
        if used >= limit:
            errors.append(f"attempting to set pod memory limit ({limit}) below current usage ({used})")
    for status, resources in containers:
        if limit := _smaller_limit(status.config.resources, resources):
            used = node.runtime.container_stats(status.id).memory_usage_bytes
            if used >= limit:
                name = status.config.name
                errors.append(
                    f'attempting to set container "{name}" memory limit ({limit}) below current usage ({used})'
                )
    if errors:
        text = errors[0] if len(errors) == 1 else f"[{', '.join(errors)}]"
        raise ContainerError(f"cannot decrease memory limits: {text}")


def _smaller_limit(before: CgroupResources, after: CgroupResources) -> int | None:
    """The new memory limit, where there was none or a larger one."""
    new, old = after.memory_limit_bytes, before.memory_limit_bytes
    return new if new and (not old or new < old) else None


def _larger(before: CgroupResources, after: CgroupResources) -> CgroupResources:
    """The larger of each limit; None: there is no limit, or it stays as it is."""

    def more(this: int | None, that: int | None) -> int | None:
        return None if this is None or that is None else max(this, that)

    return replace(
        after,
        cpu_shares=more(before.cpu_shares, after.cpu_shares),
        cpu_quota_us=more(before.cpu_quota_us, after.cpu_quota_us),
        memory_limit_bytes=more(before.memory_limit_bytes, after.memory_limit_bytes),
    )
