"""What kubectl's table shows of pods (layer 1, pure): pkg/printers/internalversion.

Rows are lists of text; laying them out is the caller's. `now` is seconds since the epoch.
"""

from __future__ import annotations

from minipod.api.status import TERMINAL_PHASES, is_sidecar
from minipod.api.timestamps import human_duration, seconds_of
from minipod.api.types import ContainerStateTerminated, ContainerStatus, Pod

POD_COLUMNS = ("NAME", "READY", "STATUS", "RESTARTS", "AGE")
POD_WIDE_COLUMNS = (*POD_COLUMNS, "IP", "NODE", "NOMINATED NODE", "READINESS GATES")
NONE = "<none>"
UNKNOWN = "<unknown>"


def age(timestamp: str | None, now: float) -> str:
    """How long ago, in the words of kubectl's AGE column."""
    seconds = seconds_of(timestamp)
    return UNKNOWN if seconds is None else human_duration(now - seconds)


# -- pods ------------------------------------------------------------


class _Summary:
    """What the columns add up while they look at the containers (printPod)."""

    def __init__(self, pod: Pod) -> None:
        self.pod = pod
        self.sidecars = {c.name for c in pod.spec.init_containers if is_sidecar(c)}
        self.total = len(pod.spec.containers) + len(self.sidecars)
        self.ready = 0
        self.restarts = 0
        self.sidecar_restarts = 0
        self.last_restart: float | None = None
        self.last_sidecar_restart: float | None = None
        self.initializing = False
        self.reason = pod.status.reason or pod.status.phase
        if any(c.type == "PodScheduled" and c.reason == "SchedulingGated" for c in pod.status.conditions):
            self.reason = "SchedulingGated"

    def look_at_inits(self) -> None:
        """Until the first that is not done."""
        for index, status in enumerate(self.pod.status.init_container_statuses):
            self.restarts += status.restart_count
            self.last_restart = _later(self.last_restart, status)
            sidecar = status.name in self.sidecars
            if sidecar:
                self.sidecar_restarts += status.restart_count
                self.last_sidecar_restart = _later(self.last_sidecar_restart, status)
            ended = status.state.terminated
            if ended is not None and ended.exit_code == 0:
                continue
            if sidecar and status.started:
                self.ready += status.ready
                continue
            self.initializing = True
            waiting = status.state.waiting
            if ended is not None:
                self.reason = "Init:" + _end_word(ended)
            elif waiting is not None and waiting.reason not in ("", "PodInitializing"):
                self.reason = "Init:" + waiting.reason
            else:
                self.reason = f"Init:{index}/{len(self.pod.spec.init_containers)}"
            return

    def look_at_mains(self) -> None:
        """From the last to the first, so that the first container's reason counts."""
        self.restarts, self.last_restart = self.sidecar_restarts, self.last_sidecar_restart
        running, error = False, ""
        for status in reversed(self.pod.status.container_statuses):
            self.restarts += status.restart_count
            self.last_restart = _later(self.last_restart, status)
            waiting, ended = status.state.waiting, status.state.terminated
            if waiting is not None and waiting.reason:
                self.reason = waiting.reason
            elif ended is not None:
                self.reason = _end_word(ended)
                error = self.reason if ended.exit_code else error
            elif status.ready and status.state.running is not None:
                running = True
                self.ready += 1
        if self.reason != "Completed":
            return
        if running and _is_true(self.pod, "Ready"):
            self.reason = "Running"
        elif error:
            self.reason = error
        elif running:
            self.reason = "NotReady"


def _later(known: float | None, status: ContainerStatus) -> float | None:
    ended = status.last_state.terminated
    at = seconds_of(ended.finished_at) if ended is not None else None
    return at if known is None or (at is not None and at > known) else known


def _end_word(ended: ContainerStateTerminated) -> str:
    return ended.reason or (f"Signal:{ended.signal}" if ended.signal else f"ExitCode:{ended.exit_code}")


def _is_true(pod: Pod, condition: str) -> bool:
    return any(c.type == condition and c.status == "True" for c in pod.status.conditions)


def _summary(pod: Pod) -> _Summary:
    summary = _Summary(pod)
    summary.look_at_inits()
    if not summary.initializing or _is_true(pod, "Initialized"):
        summary.look_at_mains()
    if pod.metadata.deletion_timestamp is not None:
        if pod.status.reason == "NodeLost":
            summary.reason = "Unknown"
        elif pod.status.phase not in TERMINAL_PHASES:
            summary.reason = "Terminating"
    return summary


def status_word(pod: Pod) -> str:
    """The STATUS column: Running, Init:1/2, CrashLoopBackOff, Completed, Terminating …"""
    return _summary(pod).reason


def pod_row(pod: Pod, now: float, *, wide: bool = False) -> list[str]:
    """One row under POD_COLUMNS or POD_WIDE_COLUMNS (printers.go printPod)."""
    summary = _summary(pod)
    restarts = str(summary.restarts)
    if summary.restarts and summary.last_restart is not None:
        restarts += f" ({human_duration(now - summary.last_restart)} ago)"
    row = [
        pod.metadata.name,
        f"{summary.ready}/{summary.total}",
        summary.reason,
        restarts,
        age(pod.metadata.creation_timestamp, now),
    ]
    if wide:
        row += [
            pod.status.pod_ips[0].ip if pod.status.pod_ips else NONE,
            pod.spec.node_name or NONE,
            pod.status.nominated_node_name or NONE,
            _gates(pod),
        ]
    return row


def _gates(pod: Pod) -> str:
    if not pod.spec.readiness_gates:
        return NONE
    met = sum(_is_true(pod, gate.condition_type) for gate in pod.spec.readiness_gates)
    return f"{met}/{len(pod.spec.readiness_gates)}"
