"""Who watches what (layer 5): changes are handed to every open watch. Keeps nothing for those who come later."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")

MAX_UNREAD = 100_000


class Watch(Generic[T]):
    """One watcher's queue: `with hub.watch(...) as watch: change = await watch.next()`."""

    def __init__(self, hub: Hub[T], wanted: Callable[[T], bool]) -> None:
        self._hub = hub
        self.wanted = wanted
        self._changes: deque[T] = deque()
        self._waiter: asyncio.Future[None] | None = None

    def __enter__(self) -> Watch[T]:
        self._hub.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hub.remove(self)

    def offer(self, change: T) -> None:
        if len(self._changes) >= MAX_UNREAD:  # a reader that hangs must not eat the agent's memory
            self._changes.clear()
        self._changes.append(change)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def pending(self) -> bool:
        """Whether `next` would not wait."""
        return bool(self._changes)

    async def next(self) -> T:
        """The next change, in order. One caller at a time; may be cancelled without losing a change."""
        while not self._changes:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._changes.popleft()


class Hub(Generic[T]):
    """All watches of one sort of change."""

    def __init__(self) -> None:
        self._watches: set[Watch[T]] = set()

    def watch(self, wanted: Callable[[T], bool] = lambda _: True) -> Watch[T]:
        return Watch(self, wanted)

    def add(self, watch: Watch[T]) -> None:
        self._watches.add(watch)

    def remove(self, watch: Watch[T]) -> None:
        self._watches.discard(watch)

    def publish(self, change: T) -> None:
        for watch in self._watches:
            if watch.wanted(change):
                watch.offer(change)
