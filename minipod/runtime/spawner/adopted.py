"""Children of a spawner that has died (layer 3): held for the agent, their ends seen by pidfd.

How they end is known from the pidfd (PIDFD_GET_INFO, Linux 6.15), or while init has not reaped them yet.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable

from minipod.kernel.process import EXIT_ATTEMPTS, exit_of
from minipod.runtime.spawner.child import Child


class Adopted:
    """Those that live. `ended` is called for each once its exit is set."""

    def __init__(self, poll: select.epoll, ended: Callable[[Child], None]) -> None:
        self._poll = poll
        self._ended = ended
        self._by_pidfd: dict[int, Child] = {}
        self._ending: dict[int, int] = {}  # pidfd -> attempts that are left

    def __bool__(self) -> bool:
        return bool(self._by_pidfd)

    @property
    def is_pending(self) -> bool:
        """Whether `retry` is due after EXIT_PAUSE_S."""
        return bool(self._ending)

    def take(self, child: Child) -> None:
        self._by_pidfd[child.pidfd] = child
        self._poll.register(child.pidfd, select.EPOLLIN)

    def read(self, fd: int) -> bool:
        """Whether the descriptor is one of these: it is readable, so its process has ended."""
        if fd not in self._by_pidfd:
            return False
        self._poll.unregister(fd)
        self._ending[fd] = EXIT_ATTEMPTS
        self.retry()
        return True

    def retry(self) -> None:
        for fd, left in tuple(self._ending.items()):
            child = self._by_pidfd[fd]
            found = exit_of(fd, child.pid)
            if found is None and left > 0:
                self._ending[fd] = left - 1
                continue
            del self._ending[fd], self._by_pidfd[fd]
            child.close_pidfd()
            code, number = found or (137, 0)
            child.end(code, number, time.time_ns(), known=found is not None)
            self._ended(child)

    def drop(self, child: Child) -> None:
        """It is forgotten while it lives."""
        if self._by_pidfd.pop(child.pidfd, None) is not None and self._ending.pop(child.pidfd, None) is None:
            self._poll.unregister(child.pidfd)
