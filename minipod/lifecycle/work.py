"""One step in the making (layer 4, pure): the state so far and the actions so far. Decides nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from minipod.lifecycle.model import Action, ContainerExited, ContainerState, PodState, RecordEvent, Run
from minipod.lifecycle.spec import field_path

if TYPE_CHECKING:
    from typing import Unpack

    from minipod.lifecycle.changes import ContainerChanges, PassChanges, PodChanges, RunChanges

_EMPTY = ContainerState()


class Work:
    """Mutable inside one `step` only; `state` itself is replaced, never changed."""

    __slots__ = ("actions", "ahead_s", "alone", "now", "state")

    def __init__(self, state: PodState, now: float, ahead_s: float = 0.0) -> None:
        self.state = state
        self.now = now
        self.ahead_s = ahead_s
        self.actions: list[Action] = []
        self.alone = False  # nothing follows in this step

    @property
    def wall(self) -> float:
        """The wall clock, for times that are shown."""
        return self.now + self.ahead_s

    def ahead_at(self, stamp: float) -> float:
        """`Run.ahead_s` for a time that the wall clock has stamped: never in the future, also if the clock was set back
        since."""
        return max(self.ahead_s, stamp - self.now)

    def set(self, **changes: Unpack[PodChanges]) -> None:
        self.state = replace(self.state, **changes)

    def set_pass(self, **changes: Unpack[PassChanges]) -> None:
        """Change the pass under way; nothing where there is none."""
        if self.state.current_pass is not None:
            self.set(current_pass=replace(self.state.current_pass, **changes))

    def container(self, name: str) -> ContainerState:
        return self.state.containers.get(name, _EMPTY)

    def set_container(self, name: str, **changes: Unpack[ContainerChanges]) -> None:
        container = replace(self.container(name), **changes)
        self.set(containers={**self.state.containers, name: container})

    def set_run(self, name: str, **changes: Unpack[RunChanges]) -> None:
        """Change the current instance, where there is one."""
        run = self.container(name).run
        if run is not None:
            self.set_container(name, run=replace(run, **changes))

    def end_run(self, name: str, end: Run | ContainerExited) -> None:
        """The current instance has ended, as `end` reports; a reason that it leaves out follows from the exit code."""
        run = self.container(name).run
        started_at = run.started_at if run is not None else 0.0
        self.set_run(
            name,
            state="exited",
            pid=0,
            exit_code=end.exit_code,
            signal=end.signal,
            reason=end.reason or ("Completed" if end.exit_code == 0 else "Error"),
            message=end.message,
            started_at=end.started_at or started_at,
            finished_at=end.finished_at,
            ahead_s=self.ahead_at(end.finished_at),
        )

    def run_with_id(self, name: str, container_id: str) -> Run | None:
        """The current instance, if it has this id: late events about older instances are ignored."""
        run = self.container(name).run
        return run if run is not None and run.id == container_id else None

    def pass_within(self, seconds: float) -> None:
        """A pass begins by then."""
        at = self.now + seconds
        self.set(pass_at=at if self.state.pass_at is None else min(self.state.pass_at, at))

    def act(self, action: Action) -> None:
        self.actions.append(action)

    def record(self, kind: str, reason: str, message: str, container: str = "", component: str = "kubelet") -> None:
        """`kind`: Normal | Warning. `container`: its name, where the event is about a container."""
        path = field_path(self.state.pod, container) if container else ""
        self.act(RecordEvent(type=kind, reason=reason, message=message, field_path=path, component=component))
