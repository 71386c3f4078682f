"""The progress that a user is shown while a pod starts (layer 5, pure): steps derived from the lifecycle's events.

`minipod run` prints them. They are not part of the API, whose counterpart are the v1 Events.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from minipod.agent.specs import container_spec
from minipod.api.types import ContainerStatus, Pod, PodStatus
from minipod.lifecycle import model


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One line for the user; a failure has the step `failed`. `container`, `attempt`: the instance that it is about."""

    step: str
    message: str
    container: str = ""
    attempt: int = 0
    fatal: bool = False  # a failure that the pod's status does not show
    is_pull: bool = False  # the container's image begins to be pulled
    layers: tuple[tuple[str, str, int, int], ...] = ()  # of a pull: digest, state, bytes done, bytes in all


# Warnings of which another step says more: the failure itself, the back-off, the end of the pod.
_SAID_OTHERWISE = frozenset(
    (
        *("BackOff", "ErrImageNeverPull", "Failed", "FailedCreatePodSandBox", "FailedMount", "FailedScheduling"),
        *("FailedPostStartHook", "FailedPreStopHook", "InspectFailed", "Unhealthy"),
    )
)


def of_actions(actions: Iterable[model.Action], state: model.PodState) -> list[Step]:
    """The steps of the v1 Events that are recorded: warnings, and why a container is ended that will run again."""
    found = []
    for action in actions:
        if not isinstance(action, model.RecordEvent) or state.stage not in ("syncing", "terminating"):
            continue
        if action.type == "Warning" and action.reason not in _SAID_OTHERWISE:
            found.append(Step(step="warning", message=f"{action.reason}: {action.message}"))
        elif action.reason == "Killing" and state.stage == "syncing" and state.pod.metadata.deletion_timestamp is None:
            container = action.field_path.partition("{")[2].rstrip("}")
            message = action.message if container in action.message else f"{container}: {action.message}"
            found.append(Step(step="killing", message=message, container=container))
    return found


def of_event(event: model.Event, before: model.PodState, state: model.PodState) -> list[Step]:
    """The steps that an event causes. `before`, `state`: the pod's state before and after it."""
    if not _is_news(event, before, state):
        return []
    if isinstance(event, model.SandboxReady):
        address = " ".join(event.ips) or "the host's"
        return [Step(step="sandbox", message=event.id[:12]), Step(step="ip", message=address)]
    step = _of_event(event, state)
    return [] if step is None else [step]


def _is_news(event: model.Event, before: model.PodState, state: model.PodState) -> bool:
    """False for repetitions: an exit is reported by its watcher and by a stop; a deletion may be requested again."""
    if isinstance(event, model.ContainerExited):
        known = before.containers.get(event.name)
        run = known.run if known is not None else None
        return run is not None and run.id == event.container_id and run.state != "exited"
    if isinstance(event, model.Unscheduled):
        return before.status is not state.status
    if isinstance(event, model.DeleteRequested):
        old, new = before.pod.metadata, state.pod.metadata
        return old.deletion_timestamp is None or old.deletion_timestamp != new.deletion_timestamp
    return True


def _of_event(event: model.Event, state: model.PodState) -> Step | None:
    pod = state.pod
    match event:
        case model.Unscheduled(message=message, hint=hint, hopeless=hopeless):
            return Step(step="pending", message=f"{message.partition('. ')[0]} ({hint})", fatal=hopeless)
        case model.SandboxFailed(message=message):
            return Step(step="failed", message=f"sandbox: {message}", fatal=True)
        case model.VolumesReady() if pod.spec.volumes:
            return Step(step="volumes", message=" ".join(volume.name for volume in pod.spec.volumes))
        case model.VolumesFailed(message=message):
            return Step(step="failed", message=message, fatal=True)
        case model.ImagePulling(name=name):
            message = f"{name}: pulling {container_spec(pod, name).image}"
            return Step(step="image", message=message, container=name, is_pull=True)
        case model.ImageReady(name=name, present=present, seconds=seconds, size_bytes=size):
            pulled = "" if present else f" pulled in {seconds:.1f} s, {size / 1e6:.1f} MB"
            return Step(step="image", message=f"{name}: {container_spec(pod, name).image}{pulled}", container=name)
        case model.ImageFailed(name=name, message=message) | model.ContainerCreateFailed(name=name, message=message):
            return Step(step="failed", message=f"{name}: {message}", container=name)
        case model.ContainerStartFailed(name=name, message=message):
            return Step(step="failed", message=f"{name}: {message}", container=name)
        case model.ProbeResult(name=name, kind=kind, result="failure" | "error" as result, message=words):
            how = "failed" if result == "failure" else "could not be made"
            message = f"{name}: {kind} probe {how}: {words.strip()}"
            return Step(step="unhealthy", message=message, container=name)
        case model.HookDone(ok=False, name=name, hook=hook, message=words):
            return Step(step="warning", message=f"{name}: {hook} hook failed: {words}", container=name)
        case model.ContainerStarted(name=name):
            return _started(pod, name, attempt_of(state, name))
        case model.ContainerExited(name=name, exit_code=code, reason=reason):
            message = f"{name}: exit code {code}" + (f" ({reason})" if reason not in ("Completed", "Error", "") else "")
            return Step(step="exited", message=message, container=name, attempt=attempt_of(state, name))
        case model.DeleteRequested():
            return Step(step="terminating", message=f"grace period {_grace_s(state):.0f} s")
        case _:
            return None


def of_status(before: PodStatus, after: PodStatus) -> list[Step]:
    """The steps that a change of status causes: readiness and back-off."""
    if before is after:
        return []
    steps = []
    if not _is_ready(before) and _is_ready(after):
        steps.append(Step(step="ready", message="all containers are ready"))
    old = {status.name: _waiting(status) for status in _all_statuses(before)}
    for status in _all_statuses(after):
        reason, message = _waiting(status)
        if reason in ("CrashLoopBackOff", "ImagePullBackOff") and old.get(status.name, ("", ""))[0] != reason:
            steps.append(Step(step="backoff", message=f"{status.name}: {reason}: {message}", container=status.name))
    return steps


def _started(pod: Pod, name: str, attempt: int) -> Step:
    inits = [container.name for container in pod.spec.init_containers]
    again = f", restart {attempt}" if attempt else ""
    if name in inits:
        message = f"{inits.index(name) + 1}/{len(inits)} {name}{again}"
        return Step(step="init", message=message, container=name, attempt=attempt)
    return Step(step="container", message=f"{name} runs{again}", container=name, attempt=attempt)


def attempt_of(state: model.PodState, name: str) -> int:
    """The restart count of the container's current instance."""
    container = state.containers.get(name)
    return container.run.attempt if container is not None and container.run is not None else 0


def _grace_s(state: model.PodState) -> float:
    seconds = state.pod.metadata.deletion_grace_period_seconds
    return 0.0 if seconds is None else float(seconds)


def _all_statuses(status: PodStatus) -> tuple[ContainerStatus, ...]:
    return (*status.init_container_statuses, *status.container_statuses, *status.ephemeral_container_statuses)


def _waiting(status: ContainerStatus) -> tuple[str, str]:
    waiting = status.state.waiting if status.state is not None else None
    return (waiting.reason, waiting.message) if waiting is not None else ("", "")


def _is_ready(status: PodStatus) -> bool:
    return any(condition.type == "Ready" and condition.status == "True" for condition in status.conditions)
