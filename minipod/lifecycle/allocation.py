"""What a pod was allocated, also while a resize of it waits, and how its status shows that (layer 4, pure)."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from minipod.api import quantity
from minipod.api.status import pod_limits, pod_requests
from minipod.api.types import Container, Pod, ResourceRequirements
from minipod.config import Config
from minipod.lifecycle.model import PodState
from minipod.plan.cgroup import MIN_SHARES
from minipod.plan.configs import CgroupResources
from minipod.plan.resources import QUOTA_PERIOD_US, container_resources, pod_cgroup_resources, shares_millicores

MIN_MILLI_LIMIT = 10  # cm/helpers_linux.go MinMilliCPULimit: a smaller limit is shown as it was asked for


def allocated_pod(state: PodState) -> Pod:
    """The pod as it is to run: its spec, except for resources that the node has no room for yet."""
    resizing = state.resizing
    if not resizing.reason:
        return state.pod
    spec = state.pod.spec
    return replace(
        state.pod,
        spec=replace(
            spec,
            resources=resizing.pod_level,
            containers=_with(spec.containers, resizing.allocated),
            init_containers=_with(spec.init_containers, resizing.allocated),
        ),
    )


def allocation(pod: Pod) -> dict[str, ResourceRequirements]:
    """By container."""
    return {c.name: c.resources for c in (*pod.spec.init_containers, *pod.spec.containers)}


def _with(containers: tuple[Container, ...], resources: Mapping[str, ResourceRequirements]) -> tuple[Container, ...]:
    return tuple(replace(c, resources=resources.get(c.name, c.resources)) for c in containers)


def pod_resources(state: PodState) -> ResourceRequirements:
    """status.resources (kubelet_pods.go convertToAPIPodLevelResourcesStatus): of a running pod, what its group has.

    So it shows a limit only where the pod as a whole has it.
    """
    pod, published = allocated_pod(state), state.status
    requests = pod_requests(pod)
    if published.phase != "Running":
        return ResourceRequirements(requests=requests, limits=pod_limits(pod))
    if state.resizing.in_progress and not state.resizing.applied and published.resources is not None:
        return published.resources
    own = pod.spec.resources or ResourceRequirements()
    if "memory" in requests:
        own = replace(own, requests={**own.requests, "memory": requests["memory"]})
    return _as_in_group(own, pod_cgroup_resources(pod, Config()))


def running_resources(state: PodState, container: Container, made_with: ResourceRequirements) -> ResourceRequirements:
    """A running container's status.resources (convertContainerStatusResources): what it was `made_with`, cpu and
    memory as its group has them, so also a limit that is the pod's. Where it has no limits at all, it shows none.
    """
    group = container_resources(allocated_pod(state), replace(container, resources=made_with))
    actual = _as_in_group(made_with, group)
    return ResourceRequirements(
        claims=made_with.claims,
        requests=actual.requests if made_with.requests else {},
        limits=actual.limits if made_with.limits else {},
    )


def _as_in_group(resources: ResourceRequirements, group: CgroupResources) -> ResourceRequirements:
    """Requests and limits as the group has them; an amount too small for a group stays as it was asked for."""
    requests, limits = dict(resources.requests), dict(resources.limits)
    if group.cpu_shares is not None:
        _set_cpu(requests, shares_millicores(group.cpu_shares), MIN_SHARES)
    if group.cpu_quota_us is not None:
        _set_cpu(limits, group.cpu_quota_us * 1000 // QUOTA_PERIOD_US, MIN_MILLI_LIMIT)
    if group.memory_limit_bytes is not None:
        limits["memory"] = _same(limits.get("memory"), quantity.from_value(group.memory_limit_bytes, binary=True))
    return replace(resources, requests=requests, limits=limits)


def _set_cpu(amounts: dict[str, str], millis: int, least: int) -> None:
    if millis > least or quantity.millis(amounts.get("cpu", "0")) > least:
        amounts["cpu"] = _same(amounts.get("cpu"), quantity.from_millis(millis))


def _same(asked: str | None, found: str) -> str:
    """Equal amounts stay spelled as they were asked for."""
    return asked if asked is not None and quantity.equal(asked, found) else found
