"""What failing probes say, for the client of `run` (layer 6): not each time, but after a while, with a count."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from msgspec.structs import replace

from minipod.agent.pods.steps import Step
from minipod.api.timestamps import human_duration

FIRST_S = 5.0  # a container that has just started may need this long
LONGEST_S = 300.0


class _Failing:
    """The failures of one container's probes since it was last said."""

    def __init__(self, now_s: float) -> None:
        self.since_s = now_s
        self.wait_s = FIRST_S
        self.count = 0
        self.last: Step | None = None
        self.timer: asyncio.TimerHandle | None = None


class Unhealthy:
    """`show`: prints a step of the pod with this uid. Each pause is twice the one before."""

    def __init__(self, show: Callable[[str, Step], None]) -> None:
        self._show = show
        self._loop = asyncio.get_running_loop()
        self._failing: dict[tuple[str, str], _Failing] = {}

    def take(self, uid: str, step: Step) -> bool:
        """Whether the step is kept for later. Others say what was kept, or make it void."""
        match step.step:
            case "unhealthy":
                self._failed(uid, step)
                return True
            case "killing":
                self._say(uid, step.container)
                self._clear(uid, step.container)
            case "ready" | "terminating":
                self._clear(uid)
            case "container" | "init" | "exited":
                self._clear(uid, step.container)
        return False

    def _failed(self, uid: str, step: Step) -> None:
        key = (uid, step.container)
        known = self._failing.setdefault(key, _Failing(self._loop.time()))
        known.count, known.last = known.count + 1, step
        if known.timer is None:
            known.timer = self._loop.call_later(known.wait_s, self._say, *key)

    def _say(self, uid: str, container: str) -> None:
        known = self._failing.get((uid, container))
        if known is None or known.last is None:
            return
        if known.timer is not None:
            known.timer.cancel()
            known.timer = None
        took_s = self._loop.time() - known.since_s
        times = f"{known.count} times" + (f" in {human_duration(took_s)}" if took_s >= 1 else "")
        text = f"{known.last.message} ({times})" if known.count > 1 else known.last.message
        self._show(uid, replace(known.last, message=text))
        known.last, known.wait_s = None, min(known.wait_s * 2, LONGEST_S)

    def _clear(self, uid: str, container: str | None = None) -> None:
        for key in [key for key in self._failing if key[0] == uid and container in (None, key[1])]:
            known = self._failing.pop(key)
            if known.timer is not None:
                known.timer.cancel()

    def close(self) -> None:
        for uid in {uid for uid, _ in self._failing}:
            self._clear(uid)
