"""Takes containers' output to their logs (layer 3): off the event loop, in order, one container at a time in a thread.

What is read is written before more is read, so that nothing piles up here: where the disk is slow or full a container
waits for its pipe. The unfinished last line of a stream, and what could not be written yet, are also kept in a small
file, so that they survive a crash of the agent.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import logging
import os
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

from minipod.runtime.log_copy import Copy, State, Turn
from minipod.runtime.log_file import LogFile
from minipod.runtime.log_history import History
from minipod.runtime.offload import ANSWER_S, Pool, in_pool, slowly_off_loop
from minipod.runtime.staged import CHUNK, Stages
from minipod.runtime.tasks import Tasks

_BUSY_S = 0.01  # a stream with new output after less than this …
_PAUSE_S = 0.002  # … is not read for this long, unless there was much: a read for each write would cost more
_RETRY_S = 0.5  # after a write found no space
_FULL_TAP_S = 0.01  # until a listener that is behind is looked at again
_WRITE_S = 1.0  # the end of a container is not delayed by longer, if its log can't be written
_LEAVE_S = 2.0  # an agent that exits waits for so long for a write that was begun
_HELD_BYTES = 1 << 20  # a listener that is not that far yet is waited for
_THREADS = 4  # all logs are on one file system: where it is stuck, more threads would be stuck

T = TypeVar("T")

#: called with every chunk, in its order; with nothing at the stream's end
Tap = Callable[[bytes], None]

log = logging.getLogger(__name__)


@functools.cache
def _pool() -> Pool:
    return Pool("logs", _THREADS, _THREADS)


class Listener:
    """A tap and whether it is behind. With `is_late` it first gets what is in the log (`replay`)."""

    def __init__(self, tap: Tap, is_full: Callable[[], bool] = lambda: False, *, is_late: bool = False) -> None:
        self._tap = tap
        self._is_full = is_full
        self._held: list[bytes] | None = [] if is_late else None
        self._held_bytes = 0

    def is_full(self) -> bool:
        return self._is_full() if self._held is None else self._held_bytes >= _HELD_BYTES

    def __call__(self, chunk: bytes) -> None:
        if self._held is None:
            self._tap(chunk)
        else:
            self._held.append(chunk)
            self._held_bytes += len(chunk)

    async def replay(self, history: History, stream: str) -> None:
        """Passes on what `history` has of the stream, then what was held back."""
        texts: Iterator[bytes] = history.texts(stream.encode())
        try:
            while text := await slowly_off_loop(next, texts, b""):
                while self._is_full():
                    await asyncio.sleep(_FULL_TAP_S)
                self._tap(text)
        finally:
            history.close()
            held, self._held = self._held or [], None
        for chunk in held:
            self._tap(chunk)


class LogStream:
    """One stream on the event loop: when it is read, and who listens."""

    def __init__(self, copy: Copy, name: str, ready: Callable[[LogStream], None]) -> None:
        """`ready`: called when it can be read."""
        os.set_blocking(copy.fd, False)
        self.name = name
        self.copy = copy
        self.rest = self.copy.rest
        self.ended = asyncio.Event()
        self.listeners: list[Listener] = []
        self.is_ending = False  # a listener that is behind is not waited for any more
        self.is_draining = False  # nothing more is read but by `last_turn`
        self._ready = ready
        self._loop = asyncio.get_running_loop()
        self._read_at = 0.0
        self._pause: asyncio.TimerHandle | None = None
        self._listens = False
        if self.copy.is_behind:
            ready(self)
        else:
            self.listen()

    def listen(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        if not self._listens and self.copy.fd >= 0:
            self._listens = True
            self._loop.add_reader(self.copy.fd, self._readable)

    def stop_listening(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        if self._listens:
            self._listens = False
            self._loop.remove_reader(self.copy.fd)

    def _readable(self) -> None:
        self.stop_listening()
        self._ready(self)

    def took(self, turn: Turn) -> None:
        """Passes on what a turn has brought, and decides when the next one is."""
        for chunk in turn.chunks:
            for listener in list(self.listeners):
                listener(chunk)
        self.rest = turn.rest
        if turn.state is State.ENDED:
            self.end()
            return
        if self.is_draining:
            return
        before, self._read_at = self._read_at, self._loop.time()
        if turn.state is State.FULL:
            self._later(_RETRY_S, self._readable)
        elif self._has_full_listener():
            self._later(_FULL_TAP_S, self._when_read)
        elif turn.state is State.MORE:
            self._ready(self)
        elif sum(map(len, turn.chunks)) < CHUNK // 2 and self._read_at - before < _BUSY_S:
            self._later(_PAUSE_S, self.listen)
        else:
            self.listen()

    def _later(self, seconds: float, work: Callable[[], None]) -> None:
        self._pause = self._loop.call_later(seconds, work)

    def _when_read(self) -> None:
        if self._has_full_listener():
            self._later(_FULL_TAP_S, self._when_read)
        else:
            self.listen()

    def _has_full_listener(self) -> bool:
        return not self.is_ending and any(listener.is_full() for listener in self.listeners)

    def hurry(self) -> None:
        """The container has ended: reads at once what is left."""
        self.is_ending = True
        if self._pause is not None:
            self._readable()

    def end(self) -> None:
        """No more comes to the listeners."""
        self.stop_listening()
        if not self.ended.is_set():
            self.ended.set()
            for listener in self.listeners:
                listener(b"")


class ContainerLog:
    """All streams of one container and their file."""

    def __init__(
        self, path: str, max_size: int, max_files: int, partial_directory: str, stages: Stages | None = None
    ) -> None:
        """The file is opened by `open`, or when it is written to. Without `stages` a kill may lose what is read."""
        self._stages = stages
        self._path = path
        self._file = LogFile(path, max_size, max_files)
        self._partial_directory = partial_directory
        self._streams: list[LogStream] = []
        self._ready: list[LogStream] = []
        self._lock = asyncio.Lock()
        self._turns: asyncio.Task[None] | None = None
        self._tasks = Tasks()
        self._work: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._is_idle = threading.Event()
        self._is_idle.set()
        self._is_detached = False
        self._is_late = False  # the end of its container is reported, and lines are still to be written

    async def open(self) -> None:
        """Raises OSError, also where the file system of the logs does not answer."""
        try:
            async with asyncio.timeout(ANSWER_S):
                await self._alone(self._file.open)
        except TimeoutError:
            raise OSError(errno.ETIMEDOUT, "the file system of the logs does not answer", self._path) from None

    reopen = open

    def add(self, fd: int, stream: str) -> None:
        """Takes `fd` over."""
        partial = f"{self._partial_directory}/{stream}.partial"
        self._streams.append(LogStream(Copy(fd, stream, self._file, partial, self._stages), stream, self._take_turn))

    def add_rest(self, stream: str) -> None:
        """A stream that has ended, if an earlier agent has left some of it unwritten."""
        with contextlib.suppress(FileNotFoundError):
            if os.path.getsize(f"{self._partial_directory}/{stream}.partial"):
                ended_fd, writer_fd = os.pipe2(os.O_CLOEXEC)
                os.close(writer_fd)
                self.add(ended_fd, stream)

    def descriptors(self) -> dict[str, int]:
        """What is read, by stream; not copies."""
        return {stream.name: stream.copy.fd for stream in self._streams if stream.copy.fd >= 0}

    # --- turns in threads

    async def _alone(self, work: Callable[[], T]) -> T:
        """In a thread, while no other work of this log runs there."""
        async with self._lock:
            return await self._in_thread(work)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        self._is_idle.clear()
        try:
            return await in_pool(_pool(), self._noting_its_end, work)
        finally:
            if self._is_detached:
                self._close()

    def _noting_its_end(self, work: Callable[[], T]) -> T:
        try:
            return work()
        finally:
            self._is_idle.set()

    def _may_go_on(self) -> bool:
        return not self._is_detached

    def _take_turn(self, stream: LogStream) -> None:
        self._ready.append(stream)
        if self._turns is None or self._turns.done():
            self._turns = self._tasks.begin(self._take_turns())

    async def _take_turns(self) -> None:
        while self._ready and not self._is_detached:
            async with self._lock:
                streams, self._ready = self._ready, []
                turns = await self._in_thread(lambda: [s.copy.turn(self._may_go_on) for s in streams])  # noqa: B023
                for stream, turn in zip(streams, turns, strict=True):
                    stream.took(turn)

    # --- listeners

    def tap(
        self, stream: str, tap: Tap, whole: bool = False, is_full: Callable[[], bool] = lambda: False
    ) -> Callable[[], None]:
        """Passes a stream to `tap`, beginning with the unfinished line, which may be a prompt; returns what ends this.

        A missing or ended stream is empty. `whole`: begin with the output that is in the log. `is_full`: whether the
        listener is behind; then the container is not read, and waits.
        """
        listener = Listener(tap, is_full, is_late=whole)
        source = next((found for found in self._streams if found.name == stream and not found.ended.is_set()), None)
        if whole:
            late = self._tasks.begin(self._listen_late(listener, stream, source))
        else:
            late = None
            _add(listener, source)

        def stop() -> None:
            if late is not None:
                late.cancel()
            if source is not None and listener in source.listeners:
                source.listeners.remove(listener)

        return stop

    async def _listen_late(self, listener: Listener, name: str, source: LogStream | None) -> None:
        async with self._lock:  # what is read in the meantime is not in the history, and comes to the listener
            history = await self._in_thread(lambda: History(self._path))
            _add(listener, source)
        await listener.replay(history, name)

    # --- ends

    async def finish(self, timeout_s: float) -> bool:
        """Whether every line that was written is in the file; waits for the pipes' ends for `timeout_s`.

        Where there is no space or the disk does not answer it is False, and writing continues (`until_written`).
        """
        for stream in self._streams:
            stream.hurry()
        work = self._work = asyncio.ensure_future(self._finished(timeout_s))
        _lingering.add(work)
        work.add_done_callback(_lingering.discard)
        await asyncio.wait((work,), timeout=timeout_s + _WRITE_S)
        self._is_late = not work.done()
        for stream in self._streams:
            stream.end()
        if work.done():
            work.result()
        return work.done()

    async def until_written(self) -> None:
        """After `finish`."""
        await asyncio.shield(self._work)

    async def _finished(self, timeout_s: float) -> None:
        ends = [asyncio.ensure_future(stream.ended.wait()) for stream in self._streams]
        if ends:
            _, pending = await asyncio.wait(ends, timeout=timeout_s)
            for end in pending:
                end.cancel()
        for stream in self._streams:
            stream.is_draining = True
            stream.stop_listening()
        left = list(self._streams)
        try:
            await self._write_rest(left)
        except asyncio.CancelledError:  # the agent exits
            if self._is_late:
                log.warning("log %s: its last lines are lost: there was no space until the agent ended", self._path)
            raise
        self._is_detached = True
        self._close()

    async def _write_rest(self, left: list[LogStream]) -> None:
        """Writes what the streams still have, as soon as there is space."""
        while left and not self._is_detached:
            turns = await self._alone(lambda: [s.copy.last_turn(self._may_go_on) for s in left])  # noqa: B023
            for stream, turn in zip(left, turns, strict=True):
                stream.took(turn)
            left = [stream for stream, turn in zip(left, turns, strict=True) if turn.state is State.FULL]
            if left and self._file.is_removed():
                break
            if left:
                await asyncio.sleep(_RETRY_S)
        self._is_detached = True
        self._close()

    def detach(self) -> None:
        """Stop reading and leave the rest to the next agent. Waits for a write that was begun."""
        self._is_detached = True
        for stream in self._streams:
            stream.stop_listening()
        if self._is_idle.wait(_LEAVE_S if self._streams and not _Stuck.seen else 0):
            self._close()
        else:
            _Stuck.seen = True

    def _close(self) -> None:
        for stream in self._streams:
            stream.stop_listening()
            stream.copy.close()
        self._file.close()


class _Stuck:
    """Whether an exiting agent has waited for a write in vain: it does not wait once for each container."""

    seen = False


#: logs of containers that have ended and whose last lines are not written yet
_lingering: set[asyncio.Future[None]] = set()


def _add(listener: Listener, source: LogStream | None) -> None:
    if source is None or source.ended.is_set():
        listener(b"")
        return
    if source.rest:
        listener(source.rest)
    source.listeners.append(listener)


async def replay(path: str, stream: str, tap: Tap, is_full: Callable[[], bool]) -> None:
    """Passes what is in a log that is complete to `tap`, then nothing."""
    listener = Listener(tap, is_full, is_late=True)
    listener(b"")
    await listener.replay(await slowly_off_loop(History, path), stream)
