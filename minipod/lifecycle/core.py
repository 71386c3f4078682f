"""The pure core (layer 4): `step(state, event, now) -> (state, actions)`. No clock, no input, no output.

Each event changes what is known (`_on_…`); then `passes.advance` does what follows from it. See `model` for the
contract with the worker, and docs/lifecycle.md for the rules and where they come from.
"""

from __future__ import annotations

import msgspec

from minipod.api.status import TERMINAL_PHASES, qos_class
from minipod.api.timestamps import timestamp
from minipod.api.types import HostIP, Pod, PodCondition, PodIP, PodStatus
from minipod.lifecycle import kill, passes, probes, recovery, resize, starting
from minipod.lifecycle.model import (
    EVICTED,
    Action,
    AgentStarted,
    ConditionsSet,
    ContainerCreated,
    ContainerCreateFailed,
    ContainerExited,
    ContainerKillFailed,
    ContainerStarted,
    ContainerStartFailed,
    DeleteRequested,
    Event,
    Evict,
    Forget,
    HookDone,
    ImageFailed,
    ImagePulling,
    ImageReady,
    NodeHalted,
    PodAdded,
    PodState,
    PodUpdated,
    ProbeResult,
    Rejected,
    ResizeAsked,
    ResizeDone,
    Sandbox,
    SandboxFailed,
    SandboxReady,
    SandboxStopped,
    Scheduled,
    SourcesChanged,
    TearDown,
    TearDownFailed,
    Tick,
    TornDown,
    Unscheduled,
    VolumesFailed,
    VolumesReady,
)
from minipod.lifecycle.publish import (
    publish,
    publish_final,
    publish_gated,
    publish_readiness,
    publish_rejected,
    publish_unscheduled,
    set_status,
)
from minipod.lifecycle.work import Work
from minipod.plan.configs import HostFacts
from minipod.plan.env import CONFIG_ERROR
from minipod.plan.pod import SYSCTL_FORBIDDEN, sysctl_refusal

SCHEDULER = "default-scheduler"
_VOLUME_RETRY_S = 0.5
_VOLUME_RETRY_MAX_S = 122.0
_TEARDOWN_RETRY_S = 2.0


def new_state(pod: Pod, now: float, *, max_backoff_s: float = 300.0, assigned: bool = True) -> PodState:
    """The state of a pod that was just accepted: defaulted, valid, with uid and creationTimestamp. `assigned`: it has a
    node; else it waits for the scheduler."""
    stage = "gated" if pod.spec.scheduling_gates else "syncing" if assigned else "unscheduled"
    return PodState(
        pod=pod,
        status=PodStatus(phase="Pending", qos_class=qos_class(pod)),
        stage=stage,
        added_at=now,
        max_backoff_s=max_backoff_s,
    )


def step(state: PodState, event: Event, now: float, ahead_s: float = 0.0) -> tuple[PodState, tuple[Action, ...]]:
    """What follows from one event. `now`: seconds since the epoch by a clock that is never set, so never less than in
    the step before. `ahead_s`: by how much the wall clock is ahead of it.
    """
    work = Work(state, now, ahead_s)
    if state.stage != "gone":
        _on(work, event)
        if not work.alone:
            passes.advance(work)
    elif isinstance(event, AgentStarted):
        work.act(Forget())  # an old agent saved that it would, and did not get to it
    return work.state, tuple(work.actions)


def next_wakeup(state: PodState) -> float | None:
    """When a Tick is wanted at the latest; None: only events bring the pod on."""
    times: list[float | None] = [*kill.wakeups(state), state.retry_at]
    if state.stage == "syncing" and passes.at_rest(state) and not passes.is_halted(state):
        times += [state.pass_at, state.publish_at, *probes.still_started(state).values()]
        if not state.evicted_reason:
            times.append(passes.deadline(state))
    return min((at for at in times if at is not None), default=None)


def pod_status(state: PodState, facts: HostFacts) -> PodStatus:
    """The v1 status to be shown: the published one with the node's addresses."""
    status = state.status
    if status.start_time is None or not facts.node_ips:
        return status
    addresses = facts.node_ips[:2]
    pod_ips = status.pod_ips
    if state.pod.spec.host_network:
        pod_ips = tuple(PodIP(ip=ip) for ip in addresses)
    return msgspec.structs.replace(
        status,
        host_ip=addresses[0],
        host_ips=tuple(HostIP(ip=ip) for ip in addresses),
        pod_ips=pod_ips,
        pod_ip=pod_ips[0].ip if pod_ips else "",
    )


def _on(work: Work, event: Event) -> None:
    """Take the event into the state."""
    match event:  # the most frequent ones first
        case Tick():
            _on_tick(work)
        case ProbeResult():
            probes.probed(work, event)
        case ContainerExited():
            starting.on_exited(work, event)
        case ContainerCreated() | ContainerStarted() | ContainerCreateFailed() | ContainerStartFailed():
            starting.on_container(work, event)
        case ImageReady() | ImagePulling() | ImageFailed():
            starting.on_image(work, event)
        case HookDone():
            starting.on_hook(work, event)
        case ContainerKillFailed():
            _on_kill_failed(work, event)
        case SandboxReady() | SandboxFailed() | SandboxStopped():
            _on_sandbox(work, event)
        case VolumesReady() | VolumesFailed():
            _on_volumes(work, event)
        case PodAdded():
            _on_added(work, event)
        case Unscheduled():
            _on_unscheduled(work, event)
        case Scheduled():
            _on_scheduled(work, event)
        case Rejected():
            _reject(work, event.reason, event.message)
        case PodUpdated():
            _on_updated(work, event.pod)
        case AgentStarted():
            recovery.recover(work, event)
        case ResizeAsked():
            resize.asked(work, event)
        case ResizeDone():
            resize.done(work, event)
        case ConditionsSet():
            _on_conditions(work, event)
        case SourcesChanged():
            _on_sources(work)
        case NodeHalted():
            work.set(halted=event.halted, halt_grace_s=event.grace_s, changed=True)
        case Evict():
            _on_evict(work, event)
        case DeleteRequested():
            _on_delete(work, event)
        case TornDown() | TearDownFailed():
            _on_torn_down(work, event)


def _on_added(work: Work, event: PodAdded) -> None:
    if work.state.stage == "gated":
        publish_gated(work)
    elif work.state.stage == "syncing":
        _assigned(work, scheduled=event.scheduled)


def _assigned(work: Work, *, scheduled: bool) -> None:
    if scheduled:
        metadata, node = work.state.pod.metadata, work.state.pod.spec.node_name
        message = f"Successfully assigned {metadata.namespace}/{metadata.name} to {node}"
        work.record("Normal", "Scheduled", message, component=SCHEDULER)
    refusal = sysctl_refusal(work.state.pod)
    if refusal:
        _reject(work, SYSCTL_FORBIDDEN, refusal)
        return
    work.set(stage="syncing", changed=True)


def _reject(work: Work, reason: str, message: str) -> None:
    """kubelet.go rejectPod; a pod that has been admitted stays so."""
    if work.state.stage == "syncing" and work.state.start_time is None:
        work.record("Warning", reason, message)
        publish_rejected(work, reason, message)
        work.set(stage="finished")


def _on_unscheduled(work: Work, event: Unscheduled) -> None:
    if work.state.stage == "unscheduled" and publish_unscheduled(work, event.message):
        work.record("Warning", "FailedScheduling", event.message, component=SCHEDULER)


def _on_scheduled(work: Work, event: Scheduled) -> None:
    pod = work.state.pod
    if work.state.stage == "unscheduled":
        spec = msgspec.structs.replace(pod.spec, node_name=event.node_name)
        work.set(pod=msgspec.structs.replace(pod, spec=spec), published=work.state.published + 1)
        _assigned(work, scheduled=True)


def _on_updated(work: Work, pod: Pod) -> None:
    """Spec and metadata are taken over, but not deletion: only DeleteRequested changes that."""
    old = work.state.pod
    metadata = msgspec.structs.replace(
        pod.metadata,
        deletion_timestamp=old.metadata.deletion_timestamp,
        deletion_grace_period_seconds=old.metadata.deletion_grace_period_seconds,
    )
    images = {c.name: c.image for c in (*old.spec.containers, *old.spec.init_containers)}
    work.set(
        pod=msgspec.structs.replace(pod, metadata=metadata, status=PodStatus()), published=work.state.published + 1
    )
    for container in (*pod.spec.containers, *pod.spec.init_containers):
        if images.get(container.name) != container.image:
            work.set_container(container.name, backoff=None)
    if work.state.stage == "gated" and not pod.spec.scheduling_gates:
        work.set(stage="unscheduled")
    elif work.state.stage == "syncing":
        work.set(changed=True)


def _on_conditions(work: Work, event: ConditionsSet) -> None:
    """Those of readiness gates, or any others that are not the kubelet's."""
    status = work.state.status
    conditions = status.conditions
    for wanted in event.conditions:
        old = next((c for c in conditions if c.type == wanted.type), None)
        same = old is not None and old.status == wanted.status
        condition = PodCondition(
            type=wanted.type,
            status=wanted.status,
            reason=wanted.reason,
            message=wanted.message,
            last_transition_time=old.last_transition_time if old is not None and same else timestamp(work.wall),
        )
        conditions = (condition, *(c for c in conditions if c.type != wanted.type))
    set_status(work, msgspec.structs.replace(status, conditions=conditions))
    if work.state.stage in ("syncing", "terminating") and status.start_time is not None:
        publish_readiness(work)


def _on_volumes(work: Work, event: VolumesReady | VolumesFailed) -> None:
    if work.state.volumes != "setting-up":
        return
    if isinstance(event, VolumesReady):
        work.set(volumes="ready", volume_failures=0, changed=True)
        return
    failures = work.state.volume_failures
    wait = min(_VOLUME_RETRY_S * 2**failures, _VOLUME_RETRY_MAX_S)
    work.record("Warning", "FailedMount", event.message)
    work.set(volumes="none", volume_failures=failures + 1, pass_at=work.now + wait)


def _on_evict(work: Work, event: Evict) -> None:
    """eviction_manager.go evictPod."""
    state = work.state
    if state.stage != "syncing" or state.evicted_reason or state.pod.metadata.deletion_timestamp is not None:
        return
    work.record("Warning", EVICTED, event.message)
    work.set(evicted_reason=EVICTED, evicted_message=event.message, changed=True)


def _on_sources(work: Work) -> None:
    """A pod that waits for an object tries again at once."""
    state = work.state
    if state.stage != "syncing":
        return
    if state.volumes == "none" and state.volume_failures:
        work.set(pass_at=work.now)
    elif any(known.waiting is not None and known.waiting.reason == CONFIG_ERROR for known in state.containers.values()):
        work.set(changed=True)


def _on_sandbox(work: Work, event: SandboxReady | SandboxFailed | SandboxStopped) -> None:
    sandbox = work.state.sandbox
    if isinstance(event, SandboxStopped):
        if event.id == sandbox.id and sandbox.state in ("ready", "stopping"):
            work.set(sandbox=msgspec.structs.replace(sandbox, state="stopped"), changed=True)
        return
    if sandbox.state != "creating":
        return
    if isinstance(event, SandboxReady):
        ready = Sandbox(state="ready", id=event.id, attempt=sandbox.attempt, ips=event.ips)
        work.set(sandbox=ready)
        work.set_pass(made_sandbox=True)
        if work.state.pod.metadata.deletion_timestamp is None:
            publish(work)
        return
    work.set(sandbox=Sandbox(state="none", attempt=sandbox.attempt))
    work.record("Warning", "FailedCreatePodSandBox", f"Failed to create pod sandbox: {event.message}")
    passes.sandbox_failed(work)


def _on_kill_failed(work: Work, event: ContainerKillFailed) -> None:
    if work.run_with_id(event.name, event.container_id) is not None:
        work.record("Warning", "FailedKillPod", f"error killing pod: {event.message}")
        kill.kill_failed(work, event.name)


def _on_tick(work: Work) -> None:
    state = work.state
    if state.retry_at is not None and work.now >= state.retry_at and state.stage == "terminated":
        work.set(retry_at=None)
        work.act(TearDown())
    elif state.stage == "syncing":
        work.set(retry_at=None)
    probes.meet(work)


def _on_torn_down(work: Work, event: TornDown | TearDownFailed) -> None:
    if work.state.stage != "terminated":
        return
    if isinstance(event, TearDownFailed):
        work.record("Warning", "FailedKillPod", f"error killing pod: {event.message}")
        work.set(retry_at=work.now + _TEARDOWN_RETRY_S)
        return
    publish_final(work)
    work.set(stage="finished", volumes="none", retry_at=None)
    if work.state.pod.metadata.deletion_timestamp is not None:
        _forget(work)


def _forget(work: Work) -> None:
    work.set(stage="gone")
    work.act(Forget())


# -- deletion ------------------------------------------------------------------------------------------------------


def _on_delete(work: Work, event: DeleteRequested) -> None:
    """The metadata changes first, as the API server comes before the kubelet; a running pod ends gracefully, a pod that
    is not on the host any more is forgotten."""
    state = work.state
    first = state.pod.metadata.deletion_timestamp is None
    shorter = _mark_deleted(work, event.grace_period_s)
    if state.stage in ("gated", "unscheduled", "finished"):
        _forget(work)
    elif state.stage == "terminating" and (first or shorter):
        for name in kill.running(state):
            kill.shorten(work, name, kill.pod_grace_s(work.state))
    elif first and not passes.publishes_alone(work) and passes.in_post_start(state):
        work.set(retry_at=work.now)
        work.alone = True


def _mark_deleted(work: Work, requested_s: int | None) -> bool:
    """Set deletionTimestamp and deletionGracePeriodSeconds; whether a known grace period became shorter.

    A pod without a node or in a terminal phase has no grace period (registry/core/pod CheckGracefulDelete).
    """
    state = work.state
    metadata = state.pod.metadata
    grace = kill.pod_grace_s(state) if requested_s is None else float(max(requested_s, 0))
    if state.stage in ("gated", "unscheduled") or state.status.phase in TERMINAL_PHASES:
        grace = 0.0
    known = metadata.deletion_grace_period_seconds
    if known is not None and grace >= known:
        return False
    metadata = msgspec.structs.replace(
        metadata,
        deletion_timestamp=timestamp(work.wall + grace),
        deletion_grace_period_seconds=int(grace),
        # Another behaviour is wanted from now on (rest/delete.go BeforeDelete).
        generation=metadata.generation + (known is None and metadata.generation > 0),
    )
    work.set(pod=msgspec.structs.replace(state.pod, metadata=metadata), published=state.published + 1)
    return known is not None
