"""In-place resize of cpu and memory (layer 4, pure): what was allocated, what runs with what, and how that is told.

After pkg/kubelet/allocation and kuberuntime_manager.go computePodResizeAction. Whether the node has room is the
agent's to say; as long as it has not, the pod goes on with what it was allocated before.
"""

from __future__ import annotations

import msgspec

from minipod.api.types import Container, Pod, ResourceRequirements
from minipod.lifecycle.allocation import allocated_pod, allocation
from minipod.lifecycle.model import PodState, ResizeAsked, ResizeDone, ResizePod, Resizing
from minipod.lifecycle.publish import publish
from minipod.lifecycle.work import Work


def asked(work: Work, event: ResizeAsked) -> None:
    """The spec is the new one in any case; what is allocated changes only where there is room."""
    state = work.state
    metadata = msgspec.structs.replace(
        event.pod.metadata,
        deletion_timestamp=state.pod.metadata.deletion_timestamp,
        deletion_grace_period_seconds=state.pod.metadata.deletion_grace_period_seconds,
    )
    pod = msgspec.structs.replace(event.pod, metadata=metadata, status=state.pod.status)
    resizing, old = state.resizing, allocated_pod(state)
    if event.reason:
        if (resizing.reason, resizing.message) != (event.reason, event.message) or pod != state.pod:
            word = f"Pod resize {event.reason}: {_summary(pod, event.message)}"
            work.record("Warning", f"Resize{event.reason}", word)
        resizing = msgspec.structs.replace(
            resizing,
            reason=event.reason,
            message=event.message,
            allocated=allocation(old),
            pod_level=old.spec.resources,
        )
        work.set(pod=pod, resizing=resizing, published=state.published + 1)
    else:
        work.record("Normal", "ResizeStarted", f"Pod resize started: {_summary(pod)}")
        work.set(pod=pod, resizing=Resizing(in_progress=True), published=state.published + 1)
    if state.stage == "syncing":
        publish(work)
        work.set(changed=True)


def _summary(pod: Pod, error: str = "") -> str:
    """As the kubelet's events show it: the resources of every container, the generation."""
    said: dict[str, object] = {}
    for name, group in (("initContainers", pod.spec.init_containers), ("containers", pod.spec.containers)):
        if group:
            said[name] = [{"name": one.name, "resources": one.resources} for one in group]
    said["generation"] = pod.metadata.generation
    if error:
        said["error"] = error
    return msgspec.json.encode(said).decode()


def _compute(resources: ResourceRequirements | None) -> tuple[str | None, ...]:
    """What a resize can change, in the order cpu, cpu, memory, memory."""
    if resources is None:
        return (None,) * 4
    return tuple(group.get(name) for name in ("cpu", "memory") for group in (resources.requests, resources.limits))


def differs(state: PodState, container: Container) -> bool:
    """Whether the running instance has other resources than are allocated to it."""
    known = state.containers.get(container.name)
    if known is None or known.run is None or known.run.state != "running" or known.run.resources is None:
        return False
    return _compute(known.run.resources) != _compute(_of(state, container.name))


def _of(state: PodState, name: str) -> ResourceRequirements:
    spec = allocated_pod(state).spec
    return next(one.resources for one in (*spec.init_containers, *spec.containers) if one.name == name)


def needs_restart(state: PodState, container: Container) -> bool:
    """Whether what differs may not be changed while it runs (resizePolicy RestartContainer)."""
    if not differs(state, container):
        return False
    run = state.containers[container.name].run
    assert run is not None
    now, then = _compute(run.resources), _compute(_of(state, container.name))
    changed = {("cpu", "cpu", "memory", "memory")[place] for place in range(4) if now[place] != then[place]}
    policies = {policy.resource_name: policy.restart_policy for policy in container.resize_policy}
    return any(policies.get(name) == "RestartContainer" for name in changed)


def is_due(state: PodState) -> bool:
    """Whether the runtime has to be told of new resources."""
    return state.resizing.in_progress and not state.resizing.told


def begin(work: Work) -> None:
    """In a pass, before anything is started."""
    if is_due(work.state):
        work.set(resizing=msgspec.structs.replace(work.state.resizing, under_way=True))
        work.act(ResizePod())


def done(work: Work, event: ResizeDone) -> None:
    resizing = work.state.resizing
    if not resizing.under_way:
        return
    if event.message:
        text = _summary(allocated_pod(work.state), event.message)
        work.record("Warning", "ResizeError", f"Pod resize error: {text}")
        work.set(resizing=msgspec.structs.replace(resizing, under_way=False, error=event.message))
        work.set(failed=True)
        return
    for name, known in work.state.containers.items():
        run = known.run
        if run is not None and run.id in event.resized:
            work.set_run(name, resources=_of(work.state, name))
    work.set(resizing=msgspec.structs.replace(resizing, under_way=False, told=True, error=""), changed=True)


def complete(work: Work) -> None:
    """Nothing differs any more: the condition goes, with an event."""
    state = work.state
    spec = allocated_pod(state).spec
    under_way = not state.resizing.told or any(differs(state, one) for one in (*spec.init_containers, *spec.containers))
    if state.resizing.in_progress and not under_way:
        work.set(resizing=msgspec.structs.replace(state.resizing, in_progress=False, told=False, error=""))
        work.record("Normal", "ResizeCompleted", f"Pod resize completed: {_summary(allocated_pod(state))}")
