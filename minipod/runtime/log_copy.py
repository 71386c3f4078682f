"""Copies one stream of a container into its log (layer 3), turn by turn. Blocks: called in threads.

The unfinished last line, and what could not be written yet, are also kept in a small file, so that they survive a crash
of the agent; what is being written survives it in a stage.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from minipod.failpoint import reached
from minipod.runtime.log_file import LogFile, format_lines, last_line, raw_output
from minipod.runtime.staged import UNSTAGED, Names, Stage, Stages

_TURN_CHUNKS = 8  # of one stream, then it is another container's turn
_LAST_TURNS = 2  # a mebibyte, as much as a pipe holds (fs.pipe-max-size)
_MORE = 2048  # after a read of less there is hardly more; a pty never has more than 4095 bytes at once

log = logging.getLogger(__name__)


class State(Enum):
    MORE = "there is more to read"
    EMPTY = "nothing more to read now"
    FULL = "no space for what was read"
    ENDED = "ended, and everything is written"


class Turn(NamedTuple):
    """What one turn of a stream has brought. `rest`: its unfinished line then."""

    chunks: list[bytes]
    rest: bytes
    state: State


class Copy:
    """Copies one pipe (or pty master) into the log file. Only one thread at a time uses it."""

    def __init__(self, fd: int, stream: str, file: LogFile, partial_path: str, stages: Stages | None) -> None:
        """`partial_path`: where the unfinished line is kept."""
        self.fd = fd
        self._stream = stream.encode()
        self._file = file
        self._partial_path = partial_path
        self._partial_fd = -1
        self._rest = b""
        self._unwritten, self._rest = format_lines(self._kept(), self._stream, time.time_ns())
        self._at_end = False
        self._names = Names(partial_path, file.path, stream)
        self._stages = stages

    @property
    def _stage(self) -> Stage:
        """Of this thread."""
        return self._stages.of_this_thread() if self._stages is not None else UNSTAGED

    @property
    def rest(self) -> bytes:
        return self._rest

    @property
    def is_behind(self) -> bool:
        """Whether there are lines that an earlier agent could not write."""
        return bool(self._unwritten)

    def turn(self, may_go_on: Callable[[], bool]) -> Turn:
        """Writes what could not be written before, then what there is to read, up to a limit."""
        chunks: list[bytes] = []
        state = self._written() if may_go_on() else State.EMPTY
        while state is None and may_go_on():
            chunk = self._read()
            if chunk is None:
                state = State.EMPTY
            elif not chunk:
                state = self._end()
            else:
                chunks.append(chunk)
                state = self._take(chunk)
                if state is None and len(chunk) < _MORE:
                    state = State.EMPTY
                elif state is None and len(chunks) == _TURN_CHUNKS:
                    state = State.MORE
        return Turn(chunks, self._rest, state or State.EMPTY)

    def last_turn(self, may_go_on: Callable[[], bool]) -> Turn:
        """The rest of a stream that has ended: what is in the pipe and no more, as a process may still hold it open."""
        chunks: list[bytes] = []
        for _ in range(_LAST_TURNS):
            turn = self.turn(may_go_on)
            chunks += turn.chunks
            if turn.state is not State.MORE:
                break
        ends = turn.state in (State.EMPTY, State.MORE) and may_go_on()
        return Turn(chunks, self._rest, self._end() if ends else turn.state)

    def _read(self) -> bytes | None:
        """None where there is nothing now, nothing at the end."""
        try:
            return self._stage.read(self.fd, self._names, self._rest)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno != errno.EIO:  # a pty whose last slave was closed
                log.warning("log %s: %s", self._file.path, error.strerror)
            return b""

    def _take(self, chunk: bytes) -> State | None:
        reached("log.read")
        before = self._rest
        text, self._rest = format_lines(before + chunk, self._stream, time.time_ns())
        self._unwritten = self._file.write(text, self._stage.appends) if text else b""
        reached("log.written")
        if self._rest or before or self._unwritten:
            self._keep()
        self._stage.done()
        return State.FULL if self._unwritten else None

    def _written(self) -> State | None:
        """Tries again what there was no space for."""
        if self._unwritten:
            self._stage.begin(self._names, raw_output(self._unwritten) + self._rest)
            self._unwritten = self._file.write(self._unwritten, self._stage.appends)
            self._keep()
            self._stage.done()
        if self._unwritten:
            return State.FULL
        return State.ENDED if self._at_end else None

    def _end(self) -> State:
        """Completes an unfinished line."""
        self._at_end = True
        if self._rest:
            self._stage.begin(self._names, self._rest, at_end=True)
            text = last_line(self._rest, self._stream, time.time_ns())
            self._unwritten = self._file.write(text, self._stage.appends)
            self._rest = b""
            self._keep()
            self._stage.done()
        return State.FULL if self._unwritten else State.ENDED

    def _kept(self) -> bytes:
        try:
            with open(self._partial_path, "rb") as file:
                return file.read()
        except FileNotFoundError:
            return b""

    def _keep(self) -> None:
        kept = raw_output(self._unwritten) + self._rest if self._unwritten else self._rest
        try:
            if self._partial_fd < 0:
                self._partial_fd = os.open(self._partial_path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            os.ftruncate(self._partial_fd, os.pwrite(self._partial_fd, kept, 0))
        except OSError:
            pass  # a full /run: only a killed agent would miss it

    def close(self) -> None:
        for fd in (self.fd, self._partial_fd):
            if fd >= 0:
                os.close(fd)
        self.fd = self._partial_fd = -1
