"""What a client that waits for a pod needs to know (layer 5, pure): condition reached, outcome, failure to start."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

from minipod.api.types import ContainerStatus, Pod
from minipod.lifecycle.model import ContainerState

# Waiting reasons for which the runtime, not the container, is the cause. They are retried all the same.
RUNTIME_REASONS = frozenset(
    (
        "CreateContainerConfigError",
        "CreateContainerError",
        "ErrImageNeverPull",
        "ErrImagePull",
        "ImageInspectError",
        "ImagePullBackOff",
        "InvalidImageName",
        "RunContainerError",
    )
)
CRASHING = "CrashLoopBackOff"
START_ERROR = "StartError"
TERMINAL = ("Succeeded", "Failed")
WHILE_PULLED = "cancelled while its image was pulled"


class Outcome(msgspec.Struct, frozen=True):
    """How a pod ended, in the last line of `run`."""

    namespace: str
    name: str
    phase: str
    reason: str
    message: str
    exit_codes: dict[str, int]


class Failure(msgspec.Struct, frozen=True):
    """Why a pod does not start. `by_runtime`: not because of what its containers do; `retried`: it is retried."""

    message: str
    container: str = ""
    by_runtime: bool = False
    retried: bool = False


def outcome_of(pod: Pod, cut_off: Collection[str] = ()) -> Outcome:
    """`cut_off`: containers that never ran, as the pod was ended while their images were pulled."""
    status = pod.status
    codes = {}
    for container in _containers(pod):
        terminated = container.state.terminated or container.last_state.terminated
        if terminated is not None and container.name not in cut_off:
            codes[container.name] = terminated.exit_code
    metadata = pod.metadata
    message = status.message or _why_failed(pod, cut_off)
    return Outcome(metadata.namespace, metadata.name, status.phase, status.reason, message, codes)


def outcome_of_killed(pod: Pod, containers: Mapping[str, ContainerState]) -> Outcome:
    """Of a pod deleted without a grace period: its status may not show the ends that the lifecycle has observed."""
    outcome = outcome_of(pod)
    if outcome.phase in TERMINAL:
        return outcome
    runs = {name: container.run for name, container in containers.items()}
    codes = {name: run.exit_code for name, run in runs.items() if run is not None and run.state == "exited"}
    failed = [f'container "{name}" ended with exit code {code}' for name, code in codes.items() if code]
    phase = "Failed" if failed or not codes else "Succeeded"
    return msgspec.structs.replace(outcome, phase=phase, message="; ".join(failed), exit_codes=codes)


def cancelled(pod: Pod, pulling: bool) -> Outcome:
    """The outcome of a pod that is interrupted before any of its containers has started. `pulling`: an image is."""
    message = WHILE_PULLED if pulling else "cancelled before its containers started"
    return Outcome(pod.metadata.namespace, pod.metadata.name, pod.status.phase or "Pending", "", message, {})


def _why_failed(pod: Pod, cut_off: Collection[str]) -> str:
    if pod.status.phase != "Failed":
        return ""
    return "; ".join(
        f'container "{container.name}" was {WHILE_PULLED}' if container.name in cut_off else _end(container)
        for container in _containers(pod)
        if container.state.terminated is not None and container.state.terminated.exit_code
    )


def _containers(pod: Pod) -> tuple[ContainerStatus, ...]:
    return (*pod.status.init_container_statuses, *pod.status.container_statuses)


def _end(container: ContainerStatus) -> str:
    terminated = container.state.terminated
    if terminated is None:
        return ""
    message = f": {terminated.message}" if terminated.message else ""
    return f'container "{container.name}" ended with exit code {terminated.exit_code} ({terminated.reason}){message}'


def is_ready(pod: Pod) -> bool:
    return any(condition.type == "Ready" and condition.status == "True" for condition in pod.status.conditions)


def reached(pod: Pod, until: str | None) -> bool:
    """Whether the pod is, or was, in the state `until`: created | running | ready | succeeded."""
    phase = pod.status.phase
    if until == "created" or phase == "Succeeded":
        return True
    if until == "running":
        failure = failure_of(pod)  # the phase is Running too while containers that never started are retried
        return phase == "Running" and not (failure and failure.by_runtime)
    if until == "ready":
        return is_ready(pod)
    return False


def failure_of(pod: Pod) -> Failure | None:
    """Why the pod cannot start, or is retried; None while there is no failure."""
    if pod.status.phase == "Failed":
        return _failed(pod)
    for container in _containers(pod):
        name, waiting = container.name, container.state.waiting
        ended = container.state.terminated or container.last_state.terminated
        if ended is not None and ended.reason == START_ERROR and container.state.running is None:
            return Failure(f'container "{name}" cannot be started: {ended.message}', name, True, True)
        if waiting is None:
            continue
        if waiting.reason in RUNTIME_REASONS:
            detail = f": {waiting.message}" if waiting.message else ""
            return Failure(f'container "{name}": {waiting.reason}{detail}', name, True, True)
        if waiting.reason == CRASHING and ended is not None:
            message = f'container "{name}" keeps ending with exit code {ended.exit_code} ({ended.reason})'
            return Failure(message, name, retried=True)
    return None


def _failed(pod: Pod) -> Failure:
    for container in _containers(pod):
        terminated = container.state.terminated
        if terminated is not None and terminated.exit_code:
            return Failure(_end(container), container.name, terminated.reason == START_ERROR)
    reason = pod.status.message or pod.status.reason or "no reason is known"
    return Failure(f"failed: {reason}")
