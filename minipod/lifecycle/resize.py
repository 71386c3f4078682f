"""In-place resize of cpu and memory (layer 4, pure): what was allocated, what runs with what, what the status shows.

After pkg/kubelet/allocation and kuberuntime_manager.go computePodResizeAction. The agent decides whether the node has
room; as long as it has none, the pod keeps what it was allocated before.
"""

from __future__ import annotations

import msgspec

from minipod.api.types import Container, Pod, ResourceRequirements
from minipod.api.validation.same import same
from minipod.lifecycle.allocation import allocated_pod, allocation
from minipod.lifecycle.model import PodState, ResizeAsked, ResizeDone, ResizePod
from minipod.lifecycle.publish import publish
from minipod.lifecycle.values import Resizing
from minipod.lifecycle.work import Work

INFEASIBLE = "Infeasible"
DEFERRED = "Deferred"


def asked(work: Work, event: ResizeAsked) -> None:
    """The spec is the new one in any case; what is allocated changes only where there is room."""
    state = work.state
    metadata = msgspec.structs.replace(
        event.pod.metadata,
        deletion_timestamp=state.pod.metadata.deletion_timestamp,
        deletion_grace_period_seconds=state.pod.metadata.deletion_grace_period_seconds,
    )
    pod = msgspec.structs.replace(event.pod, metadata=metadata, status=state.pod.status)
    work.set(pod=pod, published=state.published + 1)
    if same(_resources(pod), _resources(allocated_pod(state))):
        work.set(resizing=msgspec.structs.replace(state.resizing, reason="", message="", allocated={}, pod_level=None))
    elif event.reason:
        _pending(work, allocated_pod(state), event)
    else:
        work.record("Normal", "ResizeStarted", f"Pod resize started: {_summary(pod)}")
        generation = pod.metadata.generation
        work.set(resizing=Resizing(in_progress=True, progress_generation=generation, progress_since=work.wall))
    if state.stage == "syncing":
        publish(work)
        work.set(changed=True)


def _pending(work: Work, old: Pod, event: ResizeAsked) -> None:
    """There is no room: `old`, as it was allocated, stays (status_manager.go SetPodResizePendingCondition)."""
    pod, before = work.state.pod, work.state.resizing
    reason = INFEASIBLE if event.reason == INFEASIBLE else DEFERRED
    generation = pod.metadata.generation
    if (before.reason, before.generation) != (reason, generation):
        text = f"Pod resize {event.reason}: {_summary(pod, event.message)}"
        work.record("Warning", f"Resize{reason}", text)
    work.set(
        resizing=msgspec.structs.replace(
            before,
            reason=reason,
            message=event.message,
            generation=generation,
            since=before.since if before.reason == reason else work.wall,
            allocated=allocation(old),
            pod_level=old.spec.resources,
        )
    )


def _resources(pod: Pod) -> tuple[object, ...]:
    """What can be resized: of the pod and of each container, in the order of the spec."""
    containers = (*pod.spec.init_containers, *pod.spec.containers)
    return (pod.spec.resources, *(c.resources for c in containers))


def _summary(pod: Pod, error: str = "", generation: int | None = None) -> str:
    """As the kubelet's events show it: the resources of every container, the generation (events/resize.go)."""
    summary: dict[str, object] = {}
    for name, group in (("initContainers", pod.spec.init_containers), ("containers", pod.spec.containers)):
        if group:
            summary[name] = [{"name": c.name, "resources": _sorted(c.resources)} for c in group]
    summary["generation"] = pod.metadata.generation if generation is None else generation
    if error:
        summary["error"] = error
    return msgspec.json.encode(summary).decode()


def _sorted(resources: ResourceRequirements) -> dict[str, dict[str, str]]:
    both = {"limits": resources.limits, "requests": resources.requests}
    return {name: dict(sorted(group.items())) for name, group in both.items() if group}


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
    return next(c.resources for c in (*spec.init_containers, *spec.containers) if c.name == name)


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
    """Whether the runtime has to set new resources."""
    return state.resizing.in_progress and not state.resizing.applied


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
        _failed(work, event.message)
        return
    for name, known in work.state.containers.items():
        run = known.run
        if run is not None and run.id in event.resized:
            work.set_run(name, resources=_of(work.state, name))
    work.set(resizing=msgspec.structs.replace(resizing, under_way=False, applied=True, error=""), changed=True)


def _failed(work: Work, error: str) -> None:
    resizing = work.state.resizing
    if error != resizing.error:
        text = _summary(allocated_pod(work.state), error, resizing.progress_generation)
        work.record("Warning", "ResizeError", f"Pod resize error: {text}")
    since = resizing.progress_since if resizing.error else work.wall
    work.set(resizing=msgspec.structs.replace(resizing, under_way=False, error=error, progress_since=since))
    work.set_pass(failed=True)


def complete(work: Work) -> None:
    """Where nothing differs any more, the condition is removed, with an event."""
    state = work.state
    spec = allocated_pod(state).spec
    under_way = not state.resizing.applied or any(differs(state, c) for c in (*spec.init_containers, *spec.containers))
    if state.resizing.in_progress and not under_way:
        work.set(resizing=msgspec.structs.replace(state.resizing, in_progress=False, applied=False, error=""))
        text = _summary(allocated_pod(state), generation=state.resizing.progress_generation)
        work.record("Normal", "ResizeCompleted", f"Pod resize completed: {text}")
