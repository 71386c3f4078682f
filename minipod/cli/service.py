"""A foreground `minipod run` as a service (layer 6): reports to the service manager that started it, if one did.

`READY=1` when all pods are ready, or have succeeded; `STATUS=` how many are; `STOPPING=1` with the time that they may
take. So `Type=notify` and `ExecStart=minipod run FILE` are a unit that is started when its pods are ready.
"""

from __future__ import annotations

import os

from minipod.cli.values import TYPE_CHECKING, Object

if TYPE_CHECKING:
    from minipod.kernel.sd_notify import ServiceManager
    from minipod.paths import Paths

_END_S = 60.0  # beyond the longest grace period: hooks, sidecars, removal


class Service:
    """What the manager is sent follows from the events of the run. Without a manager all of it has no effect."""

    def __init__(self, manager: ServiceManager | None) -> None:
        self._manager = manager
        self._ready: dict[str, bool] = {}  # by uid
        self._grace_s = 0.0
        self._is_announced = False
        self._is_stopping = False

    @classmethod
    def of_this_process(cls) -> Service:
        if not os.environ.get("NOTIFY_SOCKET"):
            return cls(None)
        from minipod.kernel.sd_notify import ServiceManager

        return cls(ServiceManager.of_this_process())

    @property
    def is_managed(self) -> bool:
        return self._manager is not None

    def wait_for_agent(self, paths: Paths, lost_pid: int) -> None:
        """Return when the agent that was lost has a successor, or has none for a while. The same manager starts it: one
        that is started here would be in its way.
        """
        from minipod.cli.start import wait_restarted

        self._send("STATUS=the agent went away; the next one takes over")
        wait_restarted(paths, lost_pid)

    @property
    def was_stopped(self) -> bool:
        """Whether the service manager has ended this run: that is no failure."""
        return self.is_managed and self._is_stopping

    def show(self, event: Object) -> None:
        """One event of the run. A pod that was ready and is not any more changes the status only."""
        kind = event.get("event")
        if kind == "pod":
            self._ready[str(event["uid"])] = False
            self._grace_s = max(self._grace_s, float(event.get("grace_period_s") or 0))
        elif kind == "ready" and self._ready.get(str(event["uid"])) is not event["ready"]:
            self._ready[str(event["uid"])] = bool(event["ready"])
            self._report()

    def _report(self) -> None:
        ready, all_of_them = sum(self._ready.values()), len(self._ready)
        is_first = ready == all_of_them and not self._is_announced
        self._is_announced = self._is_announced or is_first
        if not self._is_stopping:
            self._send(*(["READY=1"] if is_first else []), f"STATUS={ready} of {all_of_them} pods ready")

    def stopping(self) -> None:
        """The pods are asked to end: the manager waits at least for their grace periods."""
        self._is_stopping = True
        wait_us = int((self._grace_s + _END_S) * 1e6)
        self._send("STOPPING=1", "STATUS=the pods end", f"EXTEND_TIMEOUT_USEC={wait_us}")

    def ended(self, pods: list[Object]) -> None:
        """All pods have ended. Those that succeed before they were seen ready have been started, too."""
        if not self._is_announced and all(pod.get("phase") == "Succeeded" for pod in pods):
            self._send("READY=1")
        self._send("STOPPING=1")

    def _send(self, *lines: str) -> None:
        if self._manager is not None:
            self._manager.notify(*lines)
