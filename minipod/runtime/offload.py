"""Runs work that may block off the event loop (layer 3): bounded threads, deadlines, no waiting for threads at exit.

`asyncio.to_thread` has six threads on a machine with two processors, and an exiting process waits for them: six system
calls that never return (a dead NFS server, a hung FUSE file system) would block everything else. Here a stuck thread is
replaced, and all threads are daemons.
"""

from __future__ import annotations

import _thread
import asyncio
import collections
import contextlib
import functools
import queue
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, InvalidStateError
from typing import Any, ParamSpec, TypeVar

from minipod.kernel.threads import until_there_is_memory

P = ParamSpec("P")
T = TypeVar("T")

THREADS = 8  # working at the same time
MAX_THREADS = 64  # including stuck ones
STUCK_S = 1.0  # a thread that works for longer on one piece of work does not count as one of THREADS
ANSWER_S = 10.0  # for an access to a file system: slow ones answer within this time, others are hung
_FINISH_POLL_S = 0.005
_MEMORY_S = 0.1  # between two attempts to report a result for which there is no memory
LOST_S = 1.0  # between two looks for results whose report is lost


class _Answer(Future[T]):
    """The result of a piece of work. The event loop learns of it by a callback, which may find no memory."""

    def add_done_callback(self, fn: Callable[[Future[T]], object]) -> None:
        """It is called in a thread of the pool: what waits for the report would wait for ever."""
        super().add_done_callback(functools.partial(until_there_is_memory, fn))


class _Worker:
    """What a pool knows of one of its threads: of one that had no memory to begin with, nothing but `since`."""

    __slots__ = ("ended", "is_free", "ran", "since")

    def __init__(self, now: float) -> None:
        self.is_free = True  # it has no work: it is about to take some, or idle
        self.since: float | None = now  # when its start or its current work began; None: it is idle
        self.ran = False
        self.ended = False


class Pool(Executor):
    """Daemon threads, started when none is idle. `submit` and `relieve` are for the event loop's thread.

    The loop shares no lock with them: a thread that is not running would keep it waiting. Where no thread can be
    started (a limit, no memory), work waits until one can, or until another is idle.
    """

    def __init__(self, name: str, threads: int = THREADS, most: int = MAX_THREADS) -> None:
        self._name = name
        self._threads = threads
        self._most = most
        self._queue: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = queue.SimpleQueue()
        self._idle: collections.deque[None] = collections.deque()  # one for each idle thread
        self._workers: list[_Worker] = []
        self._latest: Future[Any] | None = None
        self._expected: dict[Future[Any], asyncio.Future[Any]] = {}
        self._looking: asyncio.AbstractEventLoop | None = None

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = _Answer()
        self._latest = future
        self._queue.put((future, functools.partial(fn, *args, **kwargs)))
        try:
            self._idle.pop()
        except IndexError:
            self._start()
        return future

    def relieve(self) -> bool:
        """Starts threads in place of stuck ones. Returns whether work is waiting for a thread.

        Not for work that free threads are about to take: each piece of work would add a thread, up to the limit.
        """
        waiting = self._queue.qsize()
        for _ in range(min(waiting - self._free(), self._threads)):
            self._start()
        return waiting > 0

    def expect(self, future: asyncio.Future[Any], loop: asyncio.AbstractEventLoop) -> None:
        """`future`: what the loop made of the latest submission. It gets the answer also where the report is lost:
        `concurrent.futures` drops a callback for whose call the thread has no memory.
        """
        answer, self._latest = self._latest, None
        if answer is None or future.done():
            return
        self._expected[answer] = future
        future.add_done_callback(lambda _: self._expected.pop(answer, None))
        if self._looking is not loop:
            self._looking = loop
            loop.call_later(LOST_S, self._look, loop, frozenset[Future[Any]]())

    def _look(self, loop: asyncio.AbstractEventLoop, done_before: frozenset[Future[Any]]) -> None:
        """`done_before`: at the last look; a report that is only late has arrived since."""
        for answer in done_before & self._expected.keys():
            _pass_on(answer, self._expected.pop(answer))
        if self._expected:
            done = frozenset(answer for answer in self._expected if answer.done())
            loop.call_later(LOST_S, self._look, loop, done)
        else:
            self._looking = None

    def _free(self) -> int:
        now = time.monotonic()
        return sum(_is_free(worker, now) for worker in self._workers)

    def is_working(self) -> bool:
        """Whether work has begun, or waits, that is not stuck."""
        now = time.monotonic()
        since = [worker.since for worker in self._workers if not _is_gone(worker, now)]
        return any(begun is not None and now - begun < STUCK_S for begun in since) or self._queue.qsize() > 0

    def _start(self) -> None:
        """Starts a thread, unless enough work. Not by threading.Thread.start, which waits for the thread to run."""
        now = time.monotonic()
        self._workers = [worker for worker in self._workers if not _is_gone(worker, now)]
        since = [worker.since for worker in self._workers]
        busy = sum(begun is not None and now - begun < STUCK_S for begun in since)
        if busy < self._threads and len(self._workers) < self._most:
            worker = _Worker(now)
            with contextlib.suppress(RuntimeError, MemoryError):  # `relieve` tries again
                _thread.start_new_thread(self._run, (worker,))
                self._workers.append(worker)

    def _run(self, worker: _Worker) -> None:
        worker.ran = True
        try:
            while True:
                future, work = self._queue.get()
                failure: MemoryError | None = None
                while True:  # there may be no memory to call anything: what waits for the answer would wait for ever
                    try:
                        if failure is not None:
                            time.sleep(_MEMORY_S)
                            future.set_exception(failure)
                            break
                        worker.since, worker.is_free = time.monotonic(), False
                        if future.set_running_or_notify_cancel():
                            _fulfil(future, work)
                        break
                    except InvalidStateError:  # it was answered
                        break
                    except MemoryError as error:
                        failure = failure or error
                del future, work, failure  # else they would live until the next work is queued
                worker.since, worker.is_free = None, True
                if self._free() > self._threads:  # those that took the place of stuck ones go again
                    return
                self._idle.append(None)
        finally:  # also without memory
            worker.ended = True


def _is_free(worker: _Worker, now: float) -> bool:
    """Whether the thread is about to take work, or idle."""
    begins = worker.since is not None and now - worker.since < STUCK_S
    return worker.is_free and not worker.ended and (worker.ran or begins)


def _is_gone(worker: _Worker, now: float) -> bool:
    """Whether the thread has ended, or has not got as far as its first line."""
    return worker.ended or (not worker.ran and worker.since is not None and now - worker.since > ANSWER_S)


def _pass_on(answer: Future[Any], future: asyncio.Future[Any]) -> None:
    if future.done():
        return
    if answer.cancelled():
        future.cancel()
    elif (failure := answer.exception()) is not None:
        future.set_exception(failure)
    else:
        future.set_result(answer.result())


def _fulfil(future: Future[Any], work: Callable[[], Any]) -> None:
    try:
        result = work()
    except BaseException as error:  # raised in the caller, which is in another thread
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

    A cancellation ends the wait; `work` continues in its thread if it has begun. Raises what `work` raises.
    """
    return await in_pool(_quick(), work, *args, **kwargs)


async def slowly_off_loop(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """As `off_loop`, for work of unbounded size, as the removal of a tree: in threads that quick work does not use."""
    return await in_pool(_slow(), work, *args, **kwargs)


async def finish(timeout_s: float) -> None:
    """Waits for work that has begun, also where no task waits for its result any more; not for stuck work. For an agent
    that exits: the next one must not meet what this one still does.
    """
    deadline = time.monotonic() + timeout_s
    while (_quick().is_working() or _slow().is_working()) and time.monotonic() < deadline:
        await asyncio.sleep(_FINISH_POLL_S)


_hung: dict[str, asyncio.Future[Any]] = {}


async def within(seconds: float, place: str, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """As `off_loop`, for an access that may never return, as to a path on a mount. Raises TimeoutError.

    Fails at once while an earlier access to `place` is stuck, so that retries do not cost a thread each.
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
    """As `off_loop`, in the threads of `pool`."""
    loop = asyncio.get_running_loop()
    future = loop.run_in_executor(pool, functools.partial(work, *args, **kwargs))
    pool.expect(future, loop)
    if not future.done():
        _watch_queue(pool, loop)
    return await future


def _watch_queue(pool: Pool, loop: asyncio.AbstractEventLoop) -> None:
    """Checks for stuck threads while work is waiting."""
    if pool.relieve():
        loop.call_later(STUCK_S, _watch_queue, pool, loop)
