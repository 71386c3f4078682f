"""Tasks of the event loop that nothing else refers to (layer 3): without that one might be gone before it is done."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


class Tasks:
    """Each until it is done."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    def begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def done(self) -> None:
        """Once all are, also those that others have begun."""
        while self._running:
            await asyncio.wait(self._running)

    async def cancel(self) -> None:
        """Raises nothing that they raise."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
