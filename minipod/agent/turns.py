"""The pods' share of the event loop (layer 5): in slices, so that hundreds of busy pods do not delay everything else.

asyncio runs all callbacks that are ready before it polls descriptors and timers again. The work that is queued here
runs for `SLICE_S` at most, and continues after the next poll.
The time of the tasks that the last slice has started is taken off the next one.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

SLICE_S = 0.01


class Turns:
    """A queue of work for the loop's thread."""

    def __init__(self) -> None:
        self._ready: deque[Callable[[], None]] = deque()
        self._scheduled = False
        self._ended: float | None = None  # the last slice, where another follows

    def soon(self, work: Callable[[], None]) -> None:
        """Calls `work` in a later iteration of the loop; works are called in the order in which they were queued."""
        self._ready.append(work)
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._run)

    def _run(self) -> None:
        loop = asyncio.get_running_loop()
        begun = time.monotonic()
        until = (begun if self._ended is None else self._ended) + SLICE_S
        while self._ready:
            work = self._ready.popleft()
            try:
                work()
            except Exception as error:
                loop.call_exception_handler({"message": f"{work} broke", "exception": error})
            if time.monotonic() >= until:
                break
        self._scheduled = bool(self._ready)
        self._ended = time.monotonic() if self._scheduled else None
        if self._scheduled:
            loop.call_soon(self._run)
