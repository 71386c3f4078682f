"""The pod's conditions (layer 4, pure), as pkg/kubelet/status/generate.go makes them from its container statuses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec.structs import replace

from minipod.api.status import TERMINAL_PHASES, is_sidecar
from minipod.api.timestamps import timestamp
from minipod.api.types import Container, ContainerStatus, Pod, PodCondition, PodSpec, PodStatus
from minipod.lifecycle.values import Resizing

RESTARTING = "AllContainersRestarting"
KUBELET_CONDITIONS = (
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
    RESTARTING,
    "PodResizePending",
    "PodResizeInProgress",
)
ByName = Mapping[str, ContainerStatus]


def _words(names: Iterable[str]) -> str:
    """A Go slice of strings, printed."""
    return "[" + " ".join(names) + "]"


def _message(unknown: Sequence[str], others: Sequence[str], word: str) -> str:
    parts = []
    if unknown:
        parts.append(f"containers with unknown status: {_words(unknown)}")
    if others:
        parts.append(f"containers with {word} status: {_words(others)}")
    return ", ".join(parts)


def containers_ready(spec: PodSpec, statuses: ByName, phase: str) -> PodCondition:
    """ContainersReady: every main container and every sidecar is ready."""
    counted = [c.name for c in spec.init_containers if is_sidecar(c)] + [c.name for c in spec.containers]
    unknown = [name for name in counted if name not in statuses]
    unready = [name for name in counted if name in statuses and not statuses[name].ready]
    if phase == "Failed":
        return PodCondition(type="ContainersReady", status="False", reason="PodFailed")
    if phase == "Succeeded" and not unknown:
        return PodCondition(type="ContainersReady", status="False", reason="PodCompleted")
    message = _message(unknown, unready, "unready")
    if message:
        return PodCondition(type="ContainersReady", status="False", reason="ContainersNotReady", message=message)
    return PodCondition(type="ContainersReady", status="True")


def ready(spec: PodSpec, statuses: ByName, phase: str, others: Sequence[PodCondition]) -> PodCondition:
    """Ready: the containers are, and every readiness gate's condition is True."""
    containers = containers_ready(spec, statuses, phase)
    if containers.status != "True":
        return replace(containers, type="Ready")
    missing = []
    for gate in spec.readiness_gates:
        condition = next((c for c in others if c.type == gate.condition_type), None)
        if condition is None:
            missing.append(f'corresponding condition of pod readiness gate "{gate.condition_type}" does not exist.')
        elif condition.status != "True":
            missing.append(
                f'the status of pod readiness gate "{gate.condition_type}" is not "True", but {condition.status}'
            )
    if missing:
        message = ", ".join(missing)
        return PodCondition(type="Ready", status="False", reason="ReadinessGatesNotReady", message=message)
    return PodCondition(type="Ready", status="True")


def _init_done(container: Container, status: ContainerStatus) -> bool:
    return bool(status.started) if is_sidecar(container) else status.ready


def initialized(spec: PodSpec, statuses: ByName, phase: str, was_initialized: bool) -> PodCondition:
    """Initialized: all init containers are done (sidecars: started), or a main container was started already."""
    unknown = [c.name for c in spec.init_containers if c.name not in statuses]
    incomplete = [c.name for c in spec.init_containers if c.name in statuses and not _init_done(c, statuses[c.name])]
    if phase == "Succeeded" and not unknown:
        return PodCondition(type="Initialized", status="True", reason="PodCompleted")
    if any(_started(statuses.get(c.name)) for c in spec.containers):
        return PodCondition(type="Initialized", status="True")
    message = _message(unknown, incomplete, "incomplete")
    if message and not was_initialized:
        return PodCondition(type="Initialized", status="False", reason="ContainersNotInitialized", message=message)
    return PodCondition(type="Initialized", status="True")


def _started(status: ContainerStatus | None) -> bool:
    return status is not None and (status.state.running is not None or status.state.terminated is not None)


def restarting(phase: str, under_way: bool) -> PodCondition:
    """AllContainersRestarting, which only pods with such a rule have."""
    if phase in TERMINAL_PHASES:
        reason = "PodCompleted" if phase == "Succeeded" else "PodFailed"
        return PodCondition(type=RESTARTING, status="False", reason=reason)
    if under_way:
        return PodCondition(
            type=RESTARTING,
            status="True",
            reason="RestartAllContainersStarted",
            message="container exited with restart policy rule",
        )
    return PodCondition(type=RESTARTING, status="False")


def resizes(resizing: Resizing) -> tuple[PodCondition, ...]:
    """PodResizePending and PodResizeInProgress, where they are so (status_manager.go updatedPodResizeCondition)."""
    made = []
    if resizing.reason:
        since, generation = resizing.since, resizing.generation
        made.append(_resize("PodResizePending", resizing.reason, resizing.message, since, generation))
    if resizing.in_progress:
        reason = "Error" if resizing.error else ""
        since, generation = resizing.progress_since, resizing.progress_generation
        made.append(_resize("PodResizeInProgress", reason, resizing.error, since, generation))
    return tuple(made)


def _resize(kind: str, reason: str, message: str, since: float, generation: int) -> PodCondition:
    return PodCondition(
        type=kind,
        status="True",
        reason=reason,
        message=message,
        last_probe_time=timestamp(since),
        last_transition_time=timestamp(since),
        observed_generation=generation,
    )


def gated() -> PodCondition:
    """PodScheduled of a pod with scheduling gates."""
    return PodCondition(
        type="PodScheduled",
        status="False",
        reason="SchedulingGated",
        message="Scheduling is blocked due to non-empty scheduling gates",
    )


def unschedulable(message: str) -> PodCondition:
    """PodScheduled of a pod for which there is no node (schedule_one.go handleSchedulingFailure)."""
    return PodCondition(type="PodScheduled", status="False", reason="Unschedulable", message=message)


def stamped(pod: Pod, old: PodStatus, new: Iterable[PodCondition], now: str) -> tuple[PodCondition, ...]:
    """The conditions with their times: a time stays while the status does. `now`: RFC 3339."""
    before = {condition.type: condition for condition in old.conditions}
    generation = pod.metadata.generation
    result = []
    for condition in new:
        known = before.get(condition.type)
        since = known.last_transition_time if known is not None and known.status == condition.status else now
        observed = 0 if condition.type == RESTARTING else generation
        result.append(replace(condition, last_transition_time=since, observed_generation=observed))
    return tuple(result)


def foreign(status: PodStatus) -> tuple[PodCondition, ...]:
    """Conditions that are not the kubelet's: readiness gates and any others that were set."""
    return tuple(condition for condition in status.conditions if condition.type not in KUBELET_CONDITIONS)
