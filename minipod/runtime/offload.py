"""Work that may block, off the event loop (layer 3): bounded threads, deadlines, nothing that an exit waits for.

`asyncio.to_thread` has six threads on a machine with two processors, and an agent that leaves waits for them: six
system calls that never return (a dead NFS server, a hung FUSE file system) would hold up everything else. Here a
thread that is stuck is replaced, and all are daemons.
"""

from __future__ import annotations

import _thread
import asyncio
import collections
import functools
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

THREADS = 8  # that work at the same time
MAX_THREADS = 128  # with those that are stuck
STUCK_S = 1.0  # so long at one piece of work, and a thread does not count as one of THREADS any more
ANSWER_S = 10.0  # for a look at a file system: slow ones answer within, what does not is hung


class Pool(Executor):
    """Daemon threads, started when none is idle. `submit` and `relieve` are for the event loop's thread.

    The loop shares no lock with them: a thread that is not running would keep it waiting.
    """

    def __init__(self, name: str, threads: int = THREADS, most: int = MAX_THREADS) -> None:
        self._name = name
        self._threads = threads
        self._most = most
        self._started = 0
        self._queue: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = queue.SimpleQueue()
        self._idle: collections.deque[None] = collections.deque()  # one for each thread that nothing was queued for
        self._begun: dict[int, float] = {}  # thread -> when it began what it works at

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        self._queue.put((future, functools.partial(fn, *args, **kwargs)))
        try:
            self._idle.pop()
        except IndexError:
            self._start()
        return future

    def relieve(self) -> bool:
        """Starts threads in the place of those that are stuck; whether anything waits for a thread."""
        waiting = self._queue.qsize()
        for _ in range(min(waiting, self._threads)):
            self._start()
        return waiting > 0

    def _start(self) -> None:
        """Unless enough work. threading.Thread.start would wait for it to run."""
        now = time.monotonic()
        working = sum(now - begun < STUCK_S for begun in list(self._begun.values()))
        starting = self._started - len(self._begun) - len(self._idle)
        if working + starting < self._threads and self._started < self._most:
            self._started += 1
            _thread.start_new_thread(self._run, ())

    def _run(self) -> None:
        me = threading.get_ident()
        while True:
            future, work = self._queue.get()
            self._begun[me] = time.monotonic()
            if future.set_running_or_notify_cancel():
                _fulfil(future, work)
            del future, work  # or it would live until the next piece comes
            del self._begun[me]
            self._idle.append(None)


def _fulfil(future: Future[Any], work: Callable[[], Any]) -> None:
    try:
        result = work()
    except BaseException as error:  # the caller's, who is in another thread
        future.set_exception(error)
    else:
        future.set_result(result)


@functools.cache
def _quick() -> Pool:
    return Pool("work")


@functools.cache
def _slow() -> Pool:
    return Pool("slow work")


async def off_loop(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """`work(…)` in a thread: for what takes milliseconds but may wait for the kernel or another process.

    Cancelled, it ends at once; what has begun goes on in its thread. Raises what `work` raises.
    """
    return await in_pool(_quick(), work, *args, **kwargs)


async def slowly_off_loop(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The same for what grows with its object (removing a tree): it keeps no quick work waiting."""
    return await in_pool(_slow(), work, *args, **kwargs)


_hung: dict[str, asyncio.Future[Any]] = {}


async def within(seconds: float, place: str, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The same for a look at something that may never answer, a path on a mount. Raises TimeoutError.

    Where an earlier look at `place` is still stuck it fails at once: a retry must not cost a thread each time.
    """
    if place in _hung:
        raise TimeoutError(f"{place}: has not answered yet")
    future = asyncio.ensure_future(in_pool(_quick(), work, *args, **kwargs))
    try:
        done, _ = await asyncio.wait([future], timeout=seconds)
    except asyncio.CancelledError:
        future.cancel()
        raise
    if done:
        return future.result()
    _hung[place] = future
    future.add_done_callback(lambda ended: (_hung.pop(place, None), ended.cancelled() or ended.exception()))
    raise TimeoutError(f"{place}: does not answer within {seconds:g} s")


async def in_pool(pool: Pool, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The same in threads of a kind of its own."""
    loop = asyncio.get_running_loop()
    future = loop.run_in_executor(pool, functools.partial(work, *args, **kwargs))
    if not future.done():
        _watch_queue(pool, loop)
    return await future


def _watch_queue(pool: Pool, loop: asyncio.AbstractEventLoop) -> None:
    """Looks again while something waits for a thread: those that work may be stuck by then."""
    if pool.relieve():
        loop.call_later(STUCK_S, _watch_queue, pool, loop)
