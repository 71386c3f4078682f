"""How a pod stands, for who waits for it (layer 5, pure): reached, ended, or failing to start."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from minipod.api.types import ContainerStatus, Pod
from minipod.lifecycle.model import ContainerState

# The runtime cannot start it, and nothing in the pod will change that; the kubelet tries again all the same.
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


class Outcome(msgspec.Struct, frozen=True):
    """What the last line of `run` says about a pod."""

    namespace: str
    name: str
    phase: str
    reason: str
    message: str
    exit_codes: dict[str, int]


class Failure(msgspec.Struct, frozen=True):
    """Why a pod does not come up. `by_runtime`: not by its containers' own doing."""

    message: str
    container: str = ""
    by_runtime: bool = False
    tried_again: bool = False


def outcome_of(pod: Pod) -> Outcome:
    status = pod.status
    codes = {}
    for one in (*status.init_container_statuses, *status.container_statuses):
        terminated = one.state.terminated or one.last_state.terminated
        if terminated is not None:
            codes[one.name] = terminated.exit_code
    metadata = pod.metadata
    message = status.message or _why_failed(pod)
    return Outcome(metadata.namespace, metadata.name, status.phase, status.reason, message, codes)


def outcome_of_killed(pod: Pod, containers: Mapping[str, ContainerState]) -> Outcome:
    """Of a pod that was deleted without a grace period: its status tells no more, what ended tells how it ended."""
    told = outcome_of(pod)
    if told.phase in TERMINAL:
        return told
    codes = {name: one.run.exit_code for name, one in containers.items() if one.run and one.run.state == "exited"}
    failed = [f'container "{name}" ended with exit code {code}' for name, code in codes.items() if code]
    phase = "Failed" if failed or not codes else "Succeeded"
    return msgspec.structs.replace(told, phase=phase, message="; ".join(failed), exit_codes=codes)


def _why_failed(pod: Pod) -> str:
    if pod.status.phase != "Failed":
        return ""
    return "; ".join(
        _end(one)
        for one in (*pod.status.init_container_statuses, *pod.status.container_statuses)
        if one.state.terminated is not None and one.state.terminated.exit_code
    )


def _end(one: ContainerStatus) -> str:
    terminated = one.state.terminated
    if terminated is None:
        return ""
    said = f": {terminated.message}" if terminated.message else ""
    return f'container "{one.name}" ended with exit code {terminated.exit_code} ({terminated.reason}){said}'


def is_ready(pod: Pod) -> bool:
    return any(condition.type == "Ready" and condition.status == "True" for condition in pod.status.conditions)


def reached(pod: Pod, until: str | None) -> bool:
    """Whether the pod is, or has been, as far as `until`: created | running | ready | succeeded."""
    phase = pod.status.phase
    if until == "created" or phase == "Succeeded":
        return True
    if until == "running":
        failure = failure_of(pod)  # a pod of containers that never began is Running too, while they are tried again
        return phase == "Running" and not (failure and failure.by_runtime)
    if until == "ready":
        return is_ready(pod)
    return False


def failure_of(pod: Pod) -> Failure | None:
    """Why the pod will not come up by itself, or only by trying again; None while all goes well."""
    status = pod.status
    if status.phase == "Failed":
        return _failed(pod)
    for one in (*status.init_container_statuses, *status.container_statuses):
        waiting = one.state.waiting
        ended = one.state.terminated or one.last_state.terminated
        if ended is not None and ended.reason == START_ERROR and one.state.running is None:
            return Failure(f'container "{one.name}" cannot be started: {ended.message}', one.name, True, True)
        if waiting is None:
            continue
        if waiting.reason in RUNTIME_REASONS:
            said = f": {waiting.message}" if waiting.message else ""
            return Failure(f'container "{one.name}": {waiting.reason}{said}', one.name, True, True)
        if waiting.reason == CRASHING and ended is not None:
            message = f'container "{one.name}" keeps ending with exit code {ended.exit_code} ({ended.reason})'
            return Failure(message, one.name, tried_again=True)
    return None


def _failed(pod: Pod) -> Failure:
    for one in (*pod.status.init_container_statuses, *pod.status.container_statuses):
        terminated = one.state.terminated
        if terminated is not None and terminated.exit_code:
            return Failure(_end(one), one.name, terminated.reason == START_ERROR)
    said = pod.status.message or pod.status.reason or "no reason is known"
    return Failure(f"failed: {said}")
