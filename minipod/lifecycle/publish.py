"""From what the core knows to v1.PodStatus (layer 4, pure): kubelet_pods.go generateAPIPodStatus and what it calls.

`publish` is called where the kubelet calls it, so that a watcher sees the same sequence of statuses.
"""

from __future__ import annotations

import msgspec

from minipod.api import status as rules
from minipod.api.timestamps import timestamp
from minipod.api.types import (
    Container,
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStateWaiting,
    ContainerStatus,
    ContainerUser,
    LinuxContainerUser,
    Pod,
    PodCondition,
    PodIP,
    PodStatus,
    ResourceRequirements,
    VolumeMountStatus,
)
from minipod.lifecycle import conditions
from minipod.lifecycle.allocation import allocated_pod, allocation, pod_resources, running_resources
from minipod.lifecycle.model import EVICTED, PodState, Run
from minipod.lifecycle.model import ContainerState as Known
from minipod.lifecycle.spec import AnyContainer, is_probed, is_regular_init, kind_of, probe_of
from minipod.lifecycle.work import Work

UNKNOWN = "ContainerStatusUnknown"
_LOST = "The container could not be located when the pod was terminated"
_RESTARTED = "The container is removed because RestartAllContainers in place"
MAX_MESSAGE_BYTES_PER_POD = 12 * 1024  # termination messages; shared equally (status_manager.go normalizeStatus)


def container_uri(container_id: str) -> str:
    """status.containerID: the runtime's name and the id."""
    return f"minipod://{container_id}"


def publish(work: Work, *, terminal: bool = False, held: bool = True) -> None:
    """Generate the status and make it the published one.

    `terminal`: no container will run again. `held`: a terminal phase is not published yet (the old one stays), because
    something of the pod may still run (status_manager.go mergePodStatus).
    """
    state = work.state
    if state.evicted_reason and state.evicted_reason != EVICTED:  # recorded when it was decided
        work.record("Normal", state.evicted_reason, state.evicted_message)
    if state.start_time is None:
        work.set(start_time=work.now)
    mains = _statuses(work, state.pod.spec.containers)
    inits = _statuses(work, state.pod.spec.init_containers)
    ephemerals = _statuses(work, state.pod.spec.ephemeral_containers)

    # The kubelet decides on the phase before it asks the probes: a sidecar counts as started once that was published.
    was_started = {s.name: s.started for s in state.status.init_container_statuses}
    before = [msgspec.structs.replace(s, started=was_started.get(s.name, False)) for s in inits]
    phase = rules.phase_of(state.pod.spec, (*mains, *before), terminal=terminal, initialized=_main_started(state))
    if phase not in rules.TERMINAL_PHASES and state.phase in rules.TERMINAL_PHASES:
        phase = state.phase
    if state.evicted_reason:
        phase = "Failed"
    work.set(phase=phase, publish_at=None)
    _publish(work, phase, tuple(sorted(mains, key=lambda s: s.name)), tuple(inits), tuple(ephemerals), held)


def _publish(
    work: Work,
    phase: str,
    mains: tuple[ContainerStatus, ...],
    inits: tuple[ContainerStatus, ...],
    ephemerals: tuple[ContainerStatus, ...],
    held: bool,
) -> None:
    state, old = work.state, work.state.status
    shown = phase
    if held and phase in rules.TERMINAL_PHASES and old.phase not in rules.TERMINAL_PHASES:
        shown = old.phase or "Pending"
    evicted = state.evicted_reason and shown == "Failed"
    ips = () if state.pod.spec.host_network else state.sandbox.ips
    pod_ips = tuple(PodIP(ip=ip) for ip in ips)
    pod = allocated_pod(state)
    set_status(
        work,
        PodStatus(
            phase=shown,
            reason=state.evicted_reason if evicted else "",
            message=state.evicted_message if evicted else "",
            conditions=_conditions(work, phase, mains, inits),
            container_statuses=mains,
            init_container_statuses=inits,
            ephemeral_container_statuses=ephemerals,
            pod_ip=pod_ips[0].ip if pod_ips else "",
            pod_ips=pod_ips,
            start_time=old.start_time or timestamp(work.wall),
            qos_class=old.qos_class or rules.qos_class(state.pod),
            observed_generation=state.pod.metadata.generation,
            resources=pod_resources(state),
            allocated_resources=rules.pod_requests(pod),
        ),
    )


def set_status(work: Work, status: PodStatus) -> None:
    """Of a pod that was deleted without a grace period nothing more is published: on a cluster the object is gone."""
    if status != work.state.status and work.state.pod.metadata.deletion_grace_period_seconds != 0:
        work.set(status=status, published=work.state.published + 1)


def _conditions(
    work: Work, phase: str, mains: tuple[ContainerStatus, ...], inits: tuple[ContainerStatus, ...]
) -> tuple[PodCondition, ...]:
    state = work.state
    spec = state.pod.spec
    by_name = {status.name: status for status in (*mains, *inits)}
    was_initialized = any(c.type == "Initialized" and c.status == "True" for c in state.status.conditions)
    others = conditions.foreign(state.status)
    sandbox = "True" if state.sandbox.state == "ready" else "False"
    made = [
        PodCondition(type="PodReadyToStartContainers", status=sandbox),
        conditions.initialized(spec, by_name, phase, was_initialized),
        conditions.ready(spec, by_name, phase, others),
        conditions.containers_ready(spec, by_name, phase),
        PodCondition(type="PodScheduled", status="True"),
    ]
    if rules.all_containers_could_restart(spec):
        made.append(conditions.restarting(phase, state.restart_all))
    own = conditions.stamped(state.pod, state.status, made, timestamp(work.wall))
    return others + conditions.resizes(state.resizing) + own


def publish_gated(work: Work) -> None:
    """The status of a pod with scheduling gates: nothing but that."""
    _publish_pending(work, conditions.gated())


def publish_unscheduled(work: Work, message: str) -> bool:
    """The status of a pod for which the scheduler has no node. Whether that is news."""
    before = work.state.status
    _publish_pending(work, conditions.unschedulable(message))
    return work.state.status is not before


def _publish_pending(work: Work, condition: PodCondition) -> None:
    pod = work.state.pod
    made = conditions.stamped(pod, work.state.status, [condition], timestamp(work.wall))
    others = conditions.foreign(work.state.status)
    set_status(work, PodStatus(phase="Pending", conditions=others + made, qos_class=rules.qos_class(pod)))


def publish_rejected(work: Work, reason: str, message: str) -> None:
    """The status of a pod that this node does not take (kubelet.go rejectPod): nothing but that."""
    pod = work.state.pod
    work.set(phase="Failed", start_time=work.now)
    set_status(
        work,
        PodStatus(
            phase="Failed",
            reason=reason,
            message=f"Pod was rejected: {message}",
            start_time=timestamp(work.wall),
            qos_class=rules.qos_class(pod),
            observed_generation=pod.metadata.generation,
        ),
    )


def publish_readiness(work: Work) -> None:
    """Publish started and ready again, and nothing else (status_manager.go SetContainerReadiness)."""
    state = work.state
    mains = tuple(_with_current_readiness(state, status) for status in state.status.container_statuses)
    inits = tuple(_with_current_readiness(state, status) for status in state.status.init_container_statuses)
    made = _conditions(work, state.phase, mains, inits)
    keep = {c.type: c for c in state.status.conditions}
    updated = tuple(c if c.type in ("Ready", "ContainersReady") else keep.get(c.type, c) for c in made)
    set_status(
        work,
        msgspec.structs.replace(
            state.status, container_statuses=mains, init_container_statuses=inits, conditions=updated
        ),
    )


def publish_started(work: Work, name: str, started: bool) -> None:
    """Publish one container's `started`, and nothing else (status_manager.go SetContainerStartup)."""
    status = work.state.status

    def updated(statuses: tuple[ContainerStatus, ...]) -> tuple[ContainerStatus, ...]:
        return tuple(msgspec.structs.replace(s, started=started) if s.name == name else s for s in statuses)

    mains, inits = updated(status.container_statuses), updated(status.init_container_statuses)
    set_status(work, msgspec.structs.replace(status, container_statuses=mains, init_container_statuses=inits))


def _main_started(state: PodState) -> bool:
    """HasAnyActiveRegularContainerStarted: in the present sandbox."""
    runs = (state.containers.get(c.name, Known()).run for c in state.pod.spec.containers)
    return any(run is not None and run.active for run in runs)


# -- one container ----------------------------------------------------------------------------------------------------


def _statuses(work: Work, containers: tuple[AnyContainer, ...]) -> list[ContainerStatus]:
    status = work.state.status
    everything = (*status.container_statuses, *status.init_container_statuses, *status.ephemeral_container_statuses)
    old = {s.name: s for s in everything}
    return [container_status(work.state, container, old.get(container.name)) for container in containers]


def container_status(state: PodState, container: AnyContainer, old: ContainerStatus | None) -> ContainerStatus:
    """The v1 status of one container; `old`: as it was published last (convertToAPIContainerStatuses)."""
    known = state.containers.get(container.name, Known())
    status = _without_run(state, container, old) if known.run is None else _of_run(state, container, known, old)
    status = _waiting(state, container, known, status)
    return with_readiness(state, status, was_started=old is not None and bool(old.started))


def _without_run(state: PodState, container: AnyContainer, old: ContainerStatus | None) -> ContainerStatus:
    """Never made, or removed since: waiting to be made, unless its end is known."""
    reason = "PodInitializing" if state.pod.spec.init_containers else "ContainerCreating"
    status = ContainerStatus(
        name=container.name,
        image=container.image,
        state=ContainerState(waiting=ContainerStateWaiting(reason=reason)),
        volume_mounts=_volume_mounts(container),
    )
    if old is None:
        return status
    if state.removed_all and old.state.waiting is None:
        gone = ContainerStateTerminated(reason=rules.RESTARTING_ALL_CONTAINERS, message=_RESTARTED, exit_code=137)
        waiting = ContainerStateWaiting(reason=rules.RESTARTING_ALL_CONTAINERS, message=_RESTARTED)
        return msgspec.structs.replace(
            old if old.state.terminated is not None else status,
            state=ContainerState(waiting=waiting),
            last_state=ContainerState(terminated=gone),
            restart_count=old.restart_count + 1,
        )
    if old.state.terminated is not None:
        return old
    return msgspec.structs.replace(status, restart_count=old.restart_count, last_state=old.last_state)


def _of_run(state: PodState, container: AnyContainer, known: Known, old: ContainerStatus | None) -> ContainerStatus:
    run, pod = known.run, state.pod
    assert run is not None
    allocated = allocation(allocated_pod(state)).get(container.name, container.resources)
    last = ContainerState(terminated=_terminated(pod, known.previous)) if known.previous else ContainerState()
    if known.previous is None and old is not None:
        last = old.last_state
    user = None
    if run.user is not None:
        groups = run.user.supplemental_groups
        linux = LinuxContainerUser(uid=run.user.uid, gid=run.user.gid, supplemental_groups=groups)
        user = ContainerUser(linux=linux)
    return ContainerStatus(
        name=container.name,
        state=_state(pod, run),
        last_state=last,
        restart_count=max(run.attempt, old.restart_count if old is not None else 0),
        image=run.image or container.image,
        image_id=run.image_id,
        container_id=container_uri(run.id),
        resources=_resources(state, container, run, allocated),
        allocated_resources=allocated.requests,
        user=user,
        volume_mounts=_volume_mounts(container),
    )


def _resources(
    state: PodState, container: AnyContainer, run: Run, allocated: ResourceRequirements
) -> ResourceRequirements:
    """What it runs with; of an ended container, what it would get now."""
    if run.state != "running" or not isinstance(container, Container):
        return allocated
    return running_resources(state, container, run.resources or allocated)


def _state(pod: Pod, run: Run) -> ContainerState:
    if run.state == "running":
        return ContainerState(running=ContainerStateRunning(started_at=timestamp(run.started_at)))
    if run.state == "exited":
        return ContainerState(terminated=_terminated(pod, run))
    if run.state == "unknown":
        lost = ContainerStateTerminated(
            reason=UNKNOWN, message=_LOST, exit_code=137, container_id=container_uri(run.id)
        )
        return ContainerState(terminated=lost)
    return ContainerState(waiting=ContainerStateWaiting())


def _terminated(pod: Pod, run: Run) -> ContainerStateTerminated:
    containers = len(pod.spec.containers) + len(pod.spec.init_containers) + len(pod.spec.ephemeral_containers)
    limit = MAX_MESSAGE_BYTES_PER_POD // max(containers, 1)
    return ContainerStateTerminated(
        exit_code=run.exit_code,
        reason=run.reason,
        message=run.message.encode()[:limit].decode(errors="ignore"),
        started_at=timestamp(run.started_at) if run.started_at else None,
        # Not before its start, also where the clock was set back in between.
        finished_at=timestamp(max(run.finished_at, run.started_at)) if run.finished_at else None,
        container_id=container_uri(run.id),
    )


def _waiting(state: PodState, container: AnyContainer, known: Known, status: ContainerStatus) -> ContainerStatus:
    """A container that is to be started, but could not be, is waiting for the reason that is known."""
    run = known.run
    done = run is not None and run.state == "exited" and run.exit_code == 0
    if known.waiting is None or (done and kind_of(state.pod, container.name) == "init"):  # a sidecar too
        return status
    if not should_be_restarted(state, container, run):
        return status
    last = status.last_state
    if status.state.terminated is not None:
        last = ContainerState(terminated=status.state.terminated)
    waiting = ContainerStateWaiting(reason=known.waiting.reason, message=known.waiting.message)
    return msgspec.structs.replace(status, state=ContainerState(waiting=waiting), last_state=last)


def should_be_restarted(state: PodState, container: AnyContainer, run: Run | None) -> bool:
    """container/helpers.go ShouldContainerBeRestarted: is it missing, or has it ended in a way that starts it again."""
    if state.pod.metadata.deletion_timestamp is not None:
        return False
    if run is None or run.state in ("created", "unknown"):
        return True
    if run.state == "running":
        return False
    if any(container.name == ephemeral.name for ephemeral in state.pod.spec.ephemeral_containers):
        return False
    spec = state.pod.spec
    regular = next(c for c in (*spec.containers, *spec.init_containers) if c.name == container.name)
    return rules.container_should_restart(regular, spec, run.exit_code)


def with_readiness(state: PodState, status: ContainerStatus, *, was_started: bool) -> ContainerStatus:
    """started and ready, by the probes (prober_manager.go UpdatePodStatus).

    `was_started`: as published last. It stays true for an instance that the startup probe's worker has not met yet.
    """
    pod = state.pod
    if any(status.name == ephemeral.name for ephemeral in pod.spec.ephemeral_containers):
        return status
    running = status.state.running is not None
    started = running and (_probe_says(state, status, "startup") or (was_started and not _is_met(state, status)))
    is_ready = started and is_probed(pod, status.name) and _probe_says(state, status, "readiness")
    if is_regular_init(pod, status.name):
        ended = status.state.terminated
        is_ready = status.ready or (ended is not None and ended.exit_code == 0)
    return msgspec.structs.replace(status, started=started, ready=is_ready)


def _with_current_readiness(state: PodState, status: ContainerStatus) -> ContainerStatus:
    return with_readiness(state, status, was_started=bool(status.started))


def _is_met(state: PodState, status: ContainerStatus) -> bool:
    """The startup probe has had a turn since this very instance was published."""
    probe = state.containers.get(status.name, Known()).probes.get("startup")
    return probe is not None and container_uri(probe.container_id) == status.container_id


def _probe_says(state: PodState, status: ContainerStatus, kind: str) -> bool:
    """No such probe, or it has succeeded for this very instance."""
    container = next(
        (c for c in (*state.pod.spec.containers, *state.pod.spec.init_containers) if c.name == status.name), None
    )
    if container is None or probe_of(container, kind) is None:
        return True
    known = state.containers.get(status.name, Known())
    probe = known.probes.get(kind)
    return probe is not None and probe.result == "success" and container_uri(probe.container_id) == status.container_id


def _volume_mounts(container: AnyContainer) -> tuple[VolumeMountStatus, ...]:
    result = []
    for mount in container.volume_mounts:
        mode = None
        if mount.read_only:
            mode = "Enabled" if mount.recursive_read_only in ("Enabled", "IfPossible") else "Disabled"
        result.append(
            VolumeMountStatus(
                name=mount.name, mount_path=mount.mount_path, read_only=mount.read_only, recursive_read_only=mode
            )
        )
    return tuple(result)


# -- the end ----------------------------------------------------------------------------------------------------------


def publish_final(work: Work) -> None:
    """Nothing of the pod is left: what has no end is lost, the phase is terminal (status_manager.go TerminatePod)."""
    state = work.state
    old = state.status
    mains, inits = old.container_statuses, old.init_container_statuses
    if state.initialized:
        mains = tuple(_lost(status) for status in mains)
    tried = _tried(inits)
    inits = tuple(_lost(status) for status in inits[:tried]) + inits[tried:]
    phase = old.phase if old.phase in rules.TERMINAL_PHASES else "Failed"
    work.set(phase=phase)
    reason, message = (state.evicted_reason, state.evicted_message) if phase == "Failed" else ("", "")
    set_status(
        work,
        msgspec.structs.replace(
            old,
            phase=phase,
            reason=reason,
            message=message,
            container_statuses=mains,
            init_container_statuses=inits,
        ),
    )


def _lost(status: ContainerStatus) -> ContainerStatus:
    if status.state.terminated is not None:
        return status
    ended = ContainerStateTerminated(reason=UNKNOWN, message=_LOST, exit_code=137)
    return msgspec.structs.replace(status, state=ContainerState(terminated=ended), ready=False, started=False)


def has_initialized(pod: Pod, status: PodStatus) -> bool:
    """By the published status, main containers were to be started or were (status_manager.go hasPodInitialized)."""
    if not pod.spec.init_containers:
        return True
    if any(s.last_state.terminated is not None or s.state.waiting is None for s in status.container_statuses):
        return True
    if not status.init_container_statuses:
        return False
    last, container = status.init_container_statuses[-1], pod.spec.init_containers[-1]
    if rules.is_sidecar(container):
        return last.state.running is not None and bool(last.started)
    ends = (last.last_state.terminated, last.state.terminated)
    return any(end is not None and end.exit_code == 0 for end in ends)


def _tried(statuses: tuple[ContainerStatus, ...]) -> int:
    """How many init containers were tried: all but the waiting ones at the end, and at least the first."""
    for index in range(len(statuses) - 1, -1, -1):
        if statuses[index].state.waiting is None or statuses[index].last_state.terminated is not None:
            return index + 1
    return min(len(statuses), 1)
