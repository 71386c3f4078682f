"""Which probes are to be made, and what their results mean (layer 4, pure): pkg/kubelet/prober/worker.go.

The agent keeps the time and makes the probes; here is who is probed, and the thresholds.
"""

from __future__ import annotations

import math

import msgspec

from minipod.api.status import TERMINAL_PHASES
from minipod.api.types import Probe
from minipod.lifecycle import passes
from minipod.lifecycle.model import ContainerState, PodState, ProbeResult
from minipod.lifecycle.publish import publish_readiness, publish_started
from minipod.lifecycle.spec import AnyContainer, kind_of, probe_of
from minipod.lifecycle.values import ProbeState
from minipod.lifecycle.work import Work

KINDS = ("startup", "liveness", "readiness")
# A node's workers begin this long before it has the first container running; here that runs at once. From a
# container's start to its first turn it is as long as there.
_HEAD_START_S = 0.4
# In the turn of a startup probe that finds a new instance the other probes still see it as started: they are made.
# After that it is published as not started, and a pass follows.
_TURN_S = 0.3
_PASS_S = 0.5
_INITIAL = {"startup": "unknown", "liveness": "success", "readiness": "failure"}


class WantedProbe(msgspec.Struct, frozen=True, kw_only=True):
    """One probe to be made every `probe.period_seconds`; `first_at` says from when on.

    `since`: when the pod's probes began to be kept; startup and liveness probes have their turns counted from there.
    """

    name: str
    container_id: str
    kind: str
    probe: Probe
    started_at: float
    since: float


def first_at(wanted: WantedProbe, now: float) -> float:
    """When a probe that has become wanted is made first.

    The kubelet's workers begin with the pod, not with the container: their turns come every period from then on, over
    restarts too. Only readiness is asked at once, and counted from there (prober_manager.go UpdatePodStatus). In the
    initial delay turns pass unused; it is counted from the start as the status shows it, in whole seconds.
    """
    since = now if wanted.kind == "readiness" else wanted.since
    earliest = max(now, math.floor(wanted.started_at) + wanted.probe.initial_delay_seconds)
    return next_at(wanted, since, earliest)


def next_at(wanted: WantedProbe, since: float, earliest: float) -> float:
    """The first turn not before `earliest`, of those that are counted from `since`."""
    period = wanted.probe.period_seconds
    return since + max(0, math.ceil((earliest - since) / period)) * period


def is_asked_at_once(state: PodState, wanted: WantedProbe) -> bool:
    """Whether a change of status has this probe made out of turn: readiness, as long as it is not there."""
    known = state.containers.get(wanted.name)
    return (
        wanted.kind == "readiness"
        and known is not None
        and _now(known, wanted.container_id, "readiness").result != "success"
    )


def wanted_probes(state: PodState) -> tuple[WantedProbe, ...]:
    """The probes of this moment; the agent compares after every step and starts or stops its timers.

    Until a container is `started` only its startup probe runs, afterwards only the others. A liveness probe that
    failed, and any startup probe that came to a result, rest until the container is another one. Once the pod is
    being deleted only readiness is probed.
    """
    if state.stage not in ("syncing", "terminating") or state.phase in TERMINAL_PHASES:
        return ()
    wanted: list[WantedProbe] = []
    for container in (*state.pod.spec.containers, *state.pod.spec.init_containers):
        known = state.containers.get(container.name)
        if known is not None and known.run is not None and known.run.state == "running" and known.post_start_done:
            wanted.extend(_of_container(state, container, known))
    return tuple(wanted)


def _of_container(state: PodState, container: AnyContainer, known: ContainerState) -> list[WantedProbe]:
    run = known.run
    assert run is not None
    started = container.startup_probe is None or _now(known, run.id, "startup").result == "success"
    started = started or container.name in still_started(state)
    result = []
    for kind in KINDS:
        probe = probe_of(container, kind)
        if probe is None or (kind == "startup") == started or _now(known, run.id, kind).on_hold:
            continue
        if kind != "readiness" and (state.stage == "terminating" or state.pod.metadata.deletion_timestamp is not None):
            continue
        result.append(
            WantedProbe(
                name=container.name,
                container_id=run.id,
                kind=kind,
                probe=probe,
                started_at=run.began,
                since=_turns_since(state),
            )
        )
    return result


def _turns_since(state: PodState) -> float:
    return (state.added_at if state.start_time is None else state.start_time) - _HEAD_START_S


def _now(known: ContainerState, container_id: str, kind: str) -> ProbeState:
    """What is known of this instance. A new one has no result, but the count continues over a restart, as the kubelet's
    worker does."""
    probe = known.probes.get(kind)
    if probe is None:
        return ProbeState(container_id=container_id, result=_INITIAL[kind])
    if probe.container_id == container_id:
        return probe
    return msgspec.structs.replace(probe, container_id=container_id, result=_INITIAL[kind], on_hold=False)


def still_started(state: PodState) -> dict[str, float]:
    """Containers that are published as started because the instance before was, although they have a startup probe;
    and when that ends: with the next turn of this probe (prober_manager.go isContainerStarted, worker.go doProbe)."""
    started = {s.name for s in (*state.status.container_statuses, *state.status.init_container_statuses) if s.started}
    result: dict[str, float] = {}
    if not started or state.stage != "syncing" or state.pod.metadata.deletion_timestamp is not None:
        return result
    for container in (*state.pod.spec.containers, *state.pod.spec.init_containers):
        known, probe = state.containers.get(container.name), container.startup_probe
        if container.name not in started or probe is None or known is None or known.run is None:
            continue
        met = known.probes.get("startup")
        if known.run.state == "running" and known.post_start_done and (met is None or met.container_id != known.run.id):
            since, period = _turns_since(state), probe.period_seconds
            turns = max(0, math.ceil((known.run.began - since) / period))
            result[container.name] = since + turns * period + _TURN_S
    return result


def meet(work: Work) -> None:
    """The startup probe's turn has come for those: they are not started after all, and at the next pass not ready."""
    for name, at in still_started(work.state).items():
        known = work.container(name)
        if work.now < at or known.run is None:
            continue
        work.set_container(name, probes={**known.probes, "startup": _now(known, known.run.id, "startup")})
        publish_started(work, name, False)
        work.pass_within(_PASS_S)


def probed(work: Work, event: ProbeResult) -> None:
    """One result: record a failure, count, and past the threshold change what is known."""
    run = work.run_with_id(event.name, event.container_id)
    containers = (*work.state.pod.spec.containers, *work.state.pod.spec.init_containers)
    container = next((c for c in containers if c.name == event.name), None)
    probe = probe_of(container, event.kind) if container is not None else None
    if run is None or run.state != "running" or probe is None:
        return
    word = event.kind.capitalize()
    if event.result == "error":
        message = f"{word} probe errored and resulted in unknown state: {event.message}"
        work.record("Warning", "Unhealthy", message, event.name)
        return
    if event.result == "failure":
        work.record("Warning", "Unhealthy", f"{word} probe failed: {event.message}", event.name)
    elif event.result == "warning":
        work.record("Warning", "ProbeWarning", f"{word} probe warning: {event.message}", event.name)
    known = work.container(event.name)
    old = _now(known, run.id, event.kind)
    result = "failure" if event.result == "failure" else "success"
    threshold = probe.failure_threshold if result == "failure" else probe.success_threshold
    # Not counted further: the same result again must not change the state, which would have to be saved.
    count = min(old.run + 1 if old.last == result else 1, threshold)
    new = msgspec.structs.replace(old, last=result, run=count)
    if count >= threshold:
        hold = event.kind == "startup" or (event.kind == "liveness" and result == "failure")
        new = msgspec.structs.replace(new, result=result, on_hold=hold, run=0 if hold else count)
    if new == known.probes.get(event.kind):
        return
    work.set_container(event.name, probes={**known.probes, event.kind: new})
    if new.result != old.result:
        _changed(work, event.name, new, event.kind)


def _changed(work: Work, name: str, probe: ProbeState, kind: str) -> None:
    if kind == "readiness":
        publish_readiness(work)
    elif kind == "startup":
        publish_started(work, name, probe.result == "success")
        if kind_of(work.state.pod, name) == "main" and passes.publishes_alone(work):
            return
    if work.state.stage == "syncing":
        work.set(changed=True)
