"""The answerer's event loop (layer 2): descriptors and timers, no threads. asyncio would be half of its memory."""

from __future__ import annotations

import heapq
import select
import time
from collections.abc import Callable


class Timer:
    """Something that happens later, unless it is cancelled."""

    __slots__ = ("_act", "at")

    def __init__(self, at: float, act: Callable[[], None]) -> None:
        self.at = at
        self._act: Callable[[], None] | None = act

    def __lt__(self, other: Timer) -> bool:
        return self.at < other.at

    def cancel(self) -> None:
        self._act = None

    def fire(self) -> None:
        act, self._act = self._act, None
        if act is not None:
            act()


class Loop:
    """`turn` waits for the next things to do and does them."""

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._timers: list[Timer] = []

    @staticmethod
    def now() -> float:
        return time.monotonic()

    def watch(self, fd: int, events: int, handler: Callable[[int], None]) -> None:
        self._poll.register(fd, events)
        self._handlers[fd] = handler

    def change(self, fd: int, events: int) -> None:
        self._poll.modify(fd, events)

    def forget(self, fd: int) -> None:
        """Before the descriptor is closed. Nothing where it is not watched."""
        if self._handlers.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def later(self, seconds: float, act: Callable[[], None]) -> Timer:
        timer = Timer(self.now() + seconds, act)
        heapq.heappush(self._timers, timer)
        return timer

    def turn(self) -> None:
        # a timeout of epoll is whole milliseconds, rounded up
        timeout = max(0.0, self._timers[0].at - self.now()) if self._timers else None
        for fd, events in self._poll.poll(timeout):
            handler = self._handlers.get(fd)  # none where another one has just forgotten it
            if handler is not None:
                handler(events)
        now = self.now()
        while self._timers and self._timers[0].at <= now:
            heapq.heappop(self._timers).fire()
