"""The pods' turns on the event loop (layer 5): in slices, so that five hundred pods at once leave time for the rest.

asyncio runs everything that is ready before it looks at a descriptor or a timer again. What is queued here takes
`SLICE_S` of that and goes on after the next look.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

SLICE_S = 0.01


class Turns:
    def __init__(self) -> None:
        self._ready: deque[Callable[[], None]] = deque()
        self._scheduled = False

    def soon(self, work: Callable[[], None]) -> None:
        """Calls `work` on a later turn of the loop, in the order of these calls."""
        self._ready.append(work)
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._run)

    def _run(self) -> None:
        loop = asyncio.get_running_loop()
        until = time.monotonic() + SLICE_S
        while self._ready:
            work = self._ready.popleft()
            try:
                work()
            except Exception as error:
                loop.call_exception_handler({"message": f"{work} broke", "exception": error})
            if time.monotonic() >= until:
                break
        self._scheduled = bool(self._ready)
        if self._scheduled:
            loop.call_soon(self._run)
