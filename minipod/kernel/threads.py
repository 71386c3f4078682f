"""Threads of their own for work that needs one (layer 1), where a new thread may find no memory for its first frame.

threading.Thread.start waits until the new thread says that it runs: for ever, where it has no memory to say it. Here a
caller waits `BEGIN_S` for that, and then does without.
"""

from __future__ import annotations

import _thread
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

BEGIN_S = 10.0
_MEMORY_S = 0.1  # between two attempts


class OwnThread(Generic[T]):
    """One call in a thread that ends with it, and that an exiting process does not wait for."""

    def __init__(self, work: Callable[[], T], at_end: Callable[[], object] = lambda: None) -> None:
        """Starts it. `at_end`: called once in any case, also where the call does not begin.

        Raises RuntimeError where there can be no other thread.
        """
        self._work = work
        self._at_end = at_end
        self._ticket = _thread.allocate_lock()  # of the thread that begins, or the caller that gives up
        self._ended = _thread.allocate_lock()
        self._ended.acquire()
        self._results: list[T] = []
        self._failure: BaseException = _no_memory()
        self._begun_at = time.monotonic()
        try:
            _thread.start_new_thread(self._run, ())
        except BaseException:
            at_end()
            raise

    def _run(self) -> None:
        if not self._ticket.acquire(False):
            return
        try:
            self._results.append(self._work())
        except BaseException as error:  # raised in the thread that waits
            self._failure = error
        finally:
            self._ended.release()
            until_there_is_memory(self._at_end)

    def _give_up(self) -> None:
        """Raises MemoryError where the call has not begun: then it never will."""
        if self._ticket.acquire(False):
            self._at_end()
            raise _no_memory()

    def is_done(self) -> bool:
        """Whether the call has ended. Raises MemoryError where it has not begun in time."""
        if self._ended.locked() and time.monotonic() - self._begun_at > BEGIN_S:
            self._give_up()
        return not self._ended.locked()

    def wait(self) -> T:
        """What the call returns. Raises what it raises, and MemoryError as `is_done`."""
        while not self._ended.acquire(timeout=BEGIN_S):
            self._give_up()
        self._ended.release()
        if not self._results:
            raise self._failure
        return self._results[0]


def begin(work: Callable[[], object]) -> bool:
    """Calls it in a thread that nothing waits for. Whether it could be started; without memory it may still not run."""
    try:
        _thread.start_new_thread(work, ())
    except (RuntimeError, MemoryError):
        return False
    return True


def until_there_is_memory(function: Callable[..., object], *arguments: object) -> None:
    """Calls it until it has the memory it needs: what waits for it would wait for ever."""
    while True:
        try:
            function(*arguments)
        except MemoryError:
            time.sleep(_MEMORY_S)
        else:
            return


def _no_memory() -> MemoryError:
    return MemoryError("no memory for another thread")
