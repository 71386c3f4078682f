"""In-place resize (layer 5): whether this node has room, and the order in which groups get their new limits.

What the pod is allocated and what is told of it is `lifecycle.resize`'s.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec.structs import replace

from minipod.agent.debug import next_generation, refuse, stored
from minipod.agent.listing import converted
from minipod.agent.node import Node
from minipod.agent.pods import Pods
from minipod.agent.wire import Connection, Message
from minipod.api import quantity
from minipod.api.status import pod_requests
from minipod.api.types import Container, Pod, PodSpec, ResourceRequirements
from minipod.api.validation import validate_pod_resize
from minipod.errors import NotFoundError
from minipod.lifecycle import model
from minipod.lifecycle.allocation import allocated_pod
from minipod.plan.configs import CgroupResources
from minipod.plan.resources import container_resources
from minipod.runtime.status import ContainerStatus, SandboxStatus


class ResizeRequest(msgspec.Struct, frozen=True):
    """`container` None: the pod as a whole. Quantities by name; what is not named stays as it is."""

    namespace: str
    pod: str
    container: str | None = None
    requests: dict[str, str] = {}
    limits: dict[str, str] = {}


def refusal(node: Node, new: Pod, old: Pod, others: Iterable[model.PodState]) -> tuple[str, str]:
    """Reason and message where a larger request finds no room (pkg/kubelet/allocation/handlers.go), else nothing.

    `others`: the pods of the node.
    """
    wanted, before = _requests(new), _requests(old)
    capacity = {"cpu": node.facts.cpus * 1000, "memory": node.facts.memory_bytes}
    used = {"cpu": 0, "memory": 0}
    for state in others:
        if state.stage in ("syncing", "terminating") and state.pod.metadata.uid != new.metadata.uid:
            for name, amount in _requests(allocated_pod(state)).items():
                used[name] += amount
    for name, amount in wanted.items():
        if amount > capacity[name] and amount > before[name]:
            words = f"Node didn't have enough capacity: {name}, requested: {amount}, capacity: {capacity[name]}"
            return "Infeasible", words
    for name, amount in wanted.items():
        if amount > capacity[name] - used[name] and amount > before[name]:
            words = f"Node didn't have enough resource: {name}, requested: {amount}, used: {used[name]}"
            return "Deferred", f"{words}, capacity: {capacity[name]}"
    return "", ""


async def ask(node: Node, pods: Pods, connection: Connection, message: Message) -> dict[str, Any]:
    """The verb `resize`, as the resize subresource. Raises NotFoundError, UsageError, ManifestError."""
    request = converted(message, ResizeRequest)
    worker = pods.find(request.namespace, request.pod)
    old = worker.state.pod
    new = next_generation(replace(old, spec=_resized(old.spec, request)))
    refuse(worker.name, validate_pod_resize(stored(new, worker), stored(old, worker)))
    reason, words = refusal(node, new, allocated_pod(worker.state), _states(pods))
    worker.tell(model.ResizeAsked(pod=new, reason=reason, message=words))
    return {"reason": reason, "message": words}


def retry(node: Node, pods: Pods) -> None:
    """Somebody else has gone: those that waited for room are looked at again."""
    for worker in pods.select(None, None):
        state = worker.state
        if state.resizing.reason == "Deferred":
            reason, _ = refusal(node, state.pod, allocated_pod(state), _states(pods))
            if not reason:
                worker.tell(model.ResizeAsked(pod=state.pod))


def _states(pods: Pods) -> list[model.PodState]:
    return [worker.state for worker in pods.select(None, None)]


def _resized(spec: PodSpec, request: ResizeRequest) -> PodSpec:
    if request.container is None:
        return replace(spec, resources=_merged(spec.resources or ResourceRequirements(), request))
    names = [one.name for one in (*spec.init_containers, *spec.containers)]
    if request.container not in names:
        raise NotFoundError(f"container {request.container} is not valid for the pod: it has {', '.join(names)}")

    def each(containers: tuple[Container, ...]) -> tuple[Container, ...]:
        return tuple(
            replace(one, resources=_merged(one.resources, request)) if one.name == request.container else one
            for one in containers
        )

    return replace(spec, containers=each(spec.containers), init_containers=each(spec.init_containers))


def _merged(old: ResourceRequirements, request: ResizeRequest) -> ResourceRequirements:
    return replace(old, requests={**old.requests, **request.requests}, limits={**old.limits, **request.limits})


def _requests(pod: Pod) -> dict[str, int]:
    """cpu in millis, memory in bytes."""
    requests = pod_requests(pod)
    return {"cpu": quantity.millis(requests.get("cpu", "0")), "memory": quantity.value(requests.get("memory", "0"))}


async def resize(node: Node, pod: Pod, sandbox: SandboxStatus, running: Iterable[ContainerStatus]) -> tuple[str, ...]:
    """Gives every group what the pod is allocated; the ids of the containers. Raises ContainerError.

    The pod's group is never smaller than what is in it: it grows first and shrinks last.
    """
    specs: dict[str, Container] = {one.name: one for one in (*pod.spec.init_containers, *pod.spec.containers)}
    wanted = node.planner.sandbox_config(pod, sandbox.config.attempt)
    larger = _larger(sandbox.config.cgroup_resources, wanted.cgroup_resources)
    await node.runtime.update_pod_sandbox_resources(sandbox.id, replace(wanted, cgroup_resources=larger))
    done = []
    for status in running:
        if status.config.name in specs:
            resources = container_resources(pod, specs[status.config.name])
            await node.runtime.update_container_resources(status.id, resources)
            done.append(status.id)
    await node.runtime.update_pod_sandbox_resources(sandbox.id, wanted)
    return tuple(done)


def _larger(one: CgroupResources, other: CgroupResources) -> CgroupResources:
    """The more generous of each; None is no limit, or one that stays as it is."""

    def more(this: int | None, that: int | None) -> int | None:
        return None if this is None or that is None else max(this, that)

    return replace(
        other,
        cpu_shares=more(one.cpu_shares, other.cpu_shares),
        cpu_quota_us=more(one.cpu_quota_us, other.cpu_quota_us),
        memory_limit_bytes=more(one.memory_limit_bytes, other.memory_limit_bytes),
    )
