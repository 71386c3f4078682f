"""Measures for how long the event loop is blocked, and by what (layer 5). Logs and counts; changes nothing.

A turn is the time between two polls of the loop's selector, in which it handles no descriptor and no timer. It is
measured around the selector, which costs two readings of the clock and no wake-up. A thread that a timer wakes when a
turn takes longer than `LATE_S` samples the loop's stack; it sleeps while the loop is idle or quick.
"""

from __future__ import annotations

import asyncio
import logging
import os
import selectors
import sys
import threading
import time
from collections import Counter
from functools import partial
from types import FrameType
from typing import Any

import minipod
from minipod.kernel import threads
from minipod.kernel.clock import Timer

log = logging.getLogger("minipod.agent")

LATE_S = 0.05
RECENT_S = 60.0  # "recent" is this long, or up to twice as long
STILL_S = 5.0  # a turn that takes longer is logged while it lasts
LOG_EVERY_S = 10.0
_FRAMES = 3  # frames of a stack that are named

_PACKAGE = os.path.dirname(minipod.__file__) + os.sep


class Lateness:
    """The figures, in seconds. Pure: the caller passes the time as `now`."""

    def __init__(self) -> None:
        self.worst = 0.0  # the longest turn
        self.worst_in = ""  # what ran in it, if it was late
        self.late = 0  # turns of more than LATE_S
        self.woken_late = 0.0  # the longest delay between a timer and the loop's wake-up, which is the host's doing
        self.recent_max = 0.0  # the longest turn of the current period
        self.recent_ends = 0.0
        self._before = 0.0  # the longest turn of the previous period

    def turn(self, now: float, took: float, what: str = "") -> None:
        self.roll(now)
        self.recent_max = max(self.recent_max, took)
        self.late += took > LATE_S
        if took > self.worst:
            self.worst, self.worst_in = took, what

    def roll(self, now: float) -> None:
        """Begins a new period once the current one has ended."""
        if now < self.recent_ends:
            return
        self._before = self.recent_max if now < self.recent_ends + RECENT_S else 0.0
        self.recent_max, self.recent_ends = 0.0, now + RECENT_S

    def fields(self, now: float) -> dict[str, Any]:
        """The figures for `status`, in milliseconds."""
        self.roll(now)
        return {
            "loop_worst_ms": _ms(self.worst),
            "loop_worst_in": self.worst_in,
            "loop_recent_ms": _ms(max(self.recent_max, self._before)),
            "loop_late": self.late,
            "loop_woken_late_ms": _ms(self.woken_late),
        }


class Watchdog:
    """Watches the loop that `new_loop` makes; from `start` on it names what blocked it. `close` ends the thread."""

    def __init__(self) -> None:
        self.lateness = Lateness()
        self.begun = 0.0  # when the current turn began; 0 while the loop polls
        self._armed = True  # there is no timer yet
        self._timer: Timer | None = None
        self._loop_thread = 0
        self._seen: Counter[str] = Counter()  # samples of the turn that began at `_seen_in`
        self._seen_in = 0.0
        self._log_at = 0.0
        self._not_logged = 0

    def new_loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.SelectorEventLoop(_Selector(self))

    def fields(self) -> dict[str, Any]:
        return self.lateness.fields(time.monotonic())

    def start(self) -> None:
        """Starts the sampling thread. Called on the loop's thread."""
        self._loop_thread = threading.get_ident()
        self._timer = Timer()
        threads.begin(partial(self._watch, self._timer))  # without a thread nothing is sampled
        self._armed = False

    def close(self) -> None:
        if self._timer is not None:
            self._armed = True
            timer, self._timer = self._timer, None
            timer.set(0)

    # -- the loop's side ----------------------------------------------------------------------------------------

    def begins(self, now: float) -> None:
        self.begun = now
        if not self._armed and self._timer is not None:
            self._armed = True
            self._timer.set(LATE_S)

    def ends(self, now: float) -> None:
        begun, self.begun = self.begun, 0.0
        if not begun:
            return
        took = now - begun
        if took > LATE_S:
            self._late(now, begun, took)
        elif took > self.lateness.recent_max or now >= self.lateness.recent_ends:
            self.lateness.turn(now, took)

    def _late(self, now: float, begun: float, took: float) -> None:
        what = ""
        if self._seen_in == begun and self._seen:
            what = self._seen.most_common(1)[0][0]
        self.lateness.turn(now, took, what)
        if now < self._log_at:
            self._not_logged += 1
            return
        more = f" ({self._not_logged} times more since the last such line)" if self._not_logged else ""
        log.warning("the event loop stood still for %.0f ms in %s%s", took * 1000, what or "something unseen", more)
        self._log_at, self._not_logged = now + LOG_EVERY_S, 0

    # -- the thread's side --------------------------------------------------------------------------------------

    def _watch(self, timer: Timer) -> None:
        while True:
            timer.wait()
            if self._timer is not timer:
                timer.close()
                return
            begun = self.begun
            if not begun:
                self._armed = False
                if not self.begun:  # else a turn has begun in between, and found it armed
                    continue
                self._armed = True
                begun = self.begun
            timer.set(self._look(begun) if begun else LATE_S)

    def _look(self, begun: float) -> float:
        """Samples the loop's stack if the turn is late. Returns in how many seconds to look again."""
        took = time.monotonic() - begun
        if took < LATE_S:
            return LATE_S - took
        if self._seen_in != begun:
            self._seen.clear()
            self._seen_in = begun
        frame = sys._current_frames().get(self._loop_thread)
        self._seen[described(frame)] += 1
        if took < STILL_S:
            return min(LATE_S, STILL_S - took) if took < 1.0 else STILL_S - took
        log.warning("the event loop has stood still for %.0f s in %s", took, described(frame))
        return 60.0


def described(frame: FrameType | None) -> str:
    """A stack's innermost function, then those of this package: `lease (runtime/network.py:61) < run (…)`."""
    found: list[str] = []
    if frame is not None and not frame.f_code.co_filename.startswith(_PACKAGE):
        found.append(f"{frame.f_code.co_name} ({os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno})")
    while frame is not None and len(found) < _FRAMES:
        code = frame.f_code
        if code.co_filename.startswith(_PACKAGE) and code.co_filename != __file__:
            found.append(f"{code.co_name} ({code.co_filename.removeprefix(_PACKAGE)}:{frame.f_lineno})")
        frame = frame.f_back
    return " < ".join(found)


class _Selector(selectors.EpollSelector):
    def __init__(self, watchdog: Watchdog) -> None:
        super().__init__()
        self._watchdog = watchdog

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        watchdog = self._watchdog
        rests = time.monotonic()
        watchdog.ends(rests)
        ready = super().select(timeout)
        now = time.monotonic()
        if timeout is not None and now - rests - timeout > watchdog.lateness.woken_late:
            watchdog.lateness.woken_late = now - rests - max(0.0, timeout)
        watchdog.begins(now)
        return ready


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)
