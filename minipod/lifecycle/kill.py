"""Ending containers (layer 4, pure): preStop, turn, stop signal, KILL; kuberuntime_container.go killContainer.

A kill has three stages: `hook` (preStop runs), `turn` (a sidecar waits for those that end before it), `stop` (the
runtime was asked). The time of the first two is taken from the grace period, in whole seconds, as the kubelet does.
"""

from __future__ import annotations

import msgspec

from minipod.api.status import is_sidecar
from minipod.lifecycle.model import EVICTED, KillContainer, PodState, RunHook
from minipod.lifecycle.spec import DEFAULT_GRACE_S, AnyContainer, find_container, probe_of
from minipod.lifecycle.values import Kill
from minipod.lifecycle.work import Work

MINIMUM_GRACE_S = 2.0  # kuberuntime_manager.go minimumGracePeriodInSeconds
EVICTION_GRACE_S = 1.0  # eviction_manager.go immediateEvictionGracePeriodSeconds
RETRY_S = 2.0
_ALIVE = ("running", "unknown")


def pod_grace_s(state: PodState) -> float:
    """deletionGracePeriodSeconds, else terminationGracePeriodSeconds."""
    deletion = state.pod.metadata.deletion_grace_period_seconds
    if deletion is not None:
        return float(deletion)
    if state.evicted_reason == EVICTED:
        return EVICTION_GRACE_S
    own = state.pod.spec.termination_grace_period_seconds
    return float(DEFAULT_GRACE_S if own is None else own)


def _grace_s(state: PodState, container: AnyContainer, reason: str) -> float:
    """The pod's, or that of the probe which failed (setTerminationGracePeriod)."""
    if state.pod.metadata.deletion_grace_period_seconds is None and reason in ("livenessProbe", "startupProbe"):
        probe = probe_of(container, reason.removesuffix("Probe"))
        if probe is not None and probe.termination_grace_period_seconds is not None:
            return float(probe.termination_grace_period_seconds)
    return pod_grace_s(state)


def running(state: PodState) -> list[str]:
    """The names of the containers that run, or may run for all that is known."""
    return [name for name, c in state.containers.items() if c.run is not None and c.run.state in _ALIVE]


def killing(state: PodState) -> bool:
    return any(container.kill is not None for container in state.containers.values())


def start_kill(
    work: Work, name: str, *, reason: str = "", message: str = "", grace_s: float | None = None, ordered: bool = False
) -> None:
    """Begin to end a running container; one that has ended already is left alone.

    `grace_s`: instead of the pod's. `ordered`: a sidecar waits for the main containers and for later sidecars.
    """
    known = work.container(name)
    container = find_container(work.state.pod, name)
    if known.run is None or known.run.state not in _ALIVE or known.kill is not None or container is None:
        return
    work.record("Normal", "Killing", message or f"Stopping container {name}", name)
    grace = _grace_s(work.state, container, reason) if grace_s is None else grace_s
    kill = Kill(container_id=known.run.id, stage="hook", ordered=ordered, grace_s=grace, since=work.now)
    work.set_container(name, kill=kill)
    hook = container.lifecycle.pre_stop if container.lifecycle is not None else None
    if hook is not None and grace > 0:
        work.act(RunHook(name=name, container_id=kill.container_id, hook="preStop", timeout_s=grace))
        return
    _next_stage(work, name, kill)


def hook_done(work: Work, name: str) -> None:
    """The preStop hook has ended, well or not."""
    kill = work.container(name).kill
    if kill is not None and kill.stage == "hook":
        _next_stage(work, name, kill)


def _next_stage(work: Work, name: str, kill: Kill) -> None:
    """From `hook` or `turn` onwards, with what is left of the grace period."""
    spent = float(int(work.now - kill.since))
    kill = msgspec.structs.replace(kill, grace_s=max(kill.grace_s - spent, 0.0), since=work.now)
    if kill.stage == "hook" and kill.ordered and kill.grace_s > 0 and _must_wait(work.state, name):
        work.set_container(name, kill=msgspec.structs.replace(kill, stage="turn"))
        return
    _stop(work, name, kill)


def _stop(work: Work, name: str, kill: Kill) -> None:
    grace = max(kill.grace_s, _minimum_s(work.state))
    work.set_container(
        name, kill=msgspec.structs.replace(kill, stage="stop", grace_s=grace, since=work.now, retry_at=None)
    )
    work.act(KillContainer(name=name, container_id=kill.container_id, grace_s=grace))


def _minimum_s(state: PodState) -> float:
    """What the kubelet leaves a container between the stop signal and KILL at least. A deletion with a grace period
    of 0 wants it gone: the API server forgets the object at once."""
    return 0.0 if state.pod.metadata.deletion_grace_period_seconds == 0 else MINIMUM_GRACE_S


def _must_wait(state: PodState, name: str) -> bool:
    """A sidecar waits while a main container or a later sidecar runs (kuberuntime_termination_order.go)."""
    inits = state.pod.spec.init_containers
    place = next((i for i, c in enumerate(inits) if c.name == name and is_sidecar(c)), None)
    if place is None:
        return False
    before = {c.name for c in state.pod.spec.containers} | {c.name for c in inits[place + 1 :] if is_sidecar(c)}
    return not before.isdisjoint(running(state))


def advance_kills(work: Work) -> None:
    """Everything that has become due: hooks given up, turns that have come, stops that failed."""
    for name, known in work.state.containers.items():
        kill = known.kill
        if kill is None:
            continue
        over = work.now >= kill.since + kill.grace_s
        if kill.stage == "stop":
            if kill.retry_at is not None and work.now >= kill.retry_at:
                rest = kill.since + kill.grace_s - work.now
                _stop(work, name, msgspec.structs.replace(kill, grace_s=rest))
        elif over or (kill.stage == "turn" and not _must_wait(work.state, name)):
            _next_stage(work, name, kill)


def shorten(work: Work, name: str, grace_s: float) -> None:
    """The pod is to be gone within `grace_s` from now: what would last longer is cut, what is shorter stays."""
    kill = work.container(name).kill
    if kill is None:
        return
    end = kill.since + kill.grace_s
    if kill.stage == "stop":
        if work.now + max(grace_s, _minimum_s(work.state)) < end:
            _stop(work, name, msgspec.structs.replace(kill, grace_s=grace_s))
    elif work.now + grace_s < end:
        kill = msgspec.structs.replace(kill, grace_s=grace_s, since=work.now)
        work.set_container(name, kill=kill)
        if grace_s <= 0:
            _next_stage(work, name, kill)


def kill_failed(work: Work, name: str) -> None:
    kill = work.container(name).kill
    if kill is not None and kill.stage == "stop":
        work.set_container(name, kill=msgspec.structs.replace(kill, retry_at=work.now + RETRY_S))


def resume(work: Work) -> None:
    """A new agent: hooks that were under way run again, stops are asked for again, with what is left of the grace."""
    for name, known in work.state.containers.items():
        kill = known.kill
        if kill is None:
            continue
        if known.run is None or known.run.state not in _ALIVE:
            work.set_container(name, kill=None)
            continue
        rest = kill.since + kill.grace_s - work.now
        if kill.stage == "hook" and rest > 0:
            work.set_container(name, kill=msgspec.structs.replace(kill, grace_s=rest, since=work.now))
            work.act(RunHook(name=name, container_id=kill.container_id, hook="preStop", timeout_s=rest))
        elif kill.stage == "hook":
            _next_stage(work, name, kill)
        elif kill.stage == "stop":
            _stop(work, name, msgspec.structs.replace(kill, grace_s=rest))


def wakeups(state: PodState) -> list[float]:
    times = []
    for known in state.containers.values():
        kill = known.kill
        if kill is None:
            continue
        if kill.stage != "stop":
            times.append(kill.since + kill.grace_s)
        elif kill.retry_at is not None:
            times.append(kill.retry_at)
    return times
