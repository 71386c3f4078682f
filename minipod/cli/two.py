"""Prints a large log on two processors (layer 6): two processes take turns, one cuts its lines while the other writes.

Nearly all of the time of `logs` is spent on cutting lines, which Python does on one processor.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from minipod.errors import AgentError
from minipod.runtime.log_history import CHUNK, LINE_LIMIT, OpenLog

PIECE = 1 << 19  # bytes of a turn
LEAST = 16 << 20  # for less a second process costs more than it saves
BROKEN_PIPE = 141

Convert = Callable[[bytes], bytes]
Write = Callable[[bytes], None]


def is_worth_it(file: OpenLog, start: int) -> bool:
    """Whether so much is to be printed of a log, and a processor is idle: on a busy machine turns take longer."""
    return not file.is_compressed and file.size() - start >= LEAST and _runnable() < _processors()


def _processors() -> int:
    return len(os.sched_getaffinity(0))


def _runnable() -> int:
    """How many threads run or wait for a processor at this moment, this one included (proc_loadavg(5))."""
    with open("/proc/loadavg", "rb") as file:
        return int(file.read().split()[3].partition(b"/")[0])


def print_in_two(file: OpenLog, start: int, convert: Convert, write: Write) -> None:
    """Writes what a log has from offset `start` on, where a line begins. Raises OSError.

    `convert`: what is printed of whole lines; does not depend on the lines before. Nothing may be buffered that `write`
    would write first.
    """
    fd, end = file.fd, file.size()
    to_child, to_parent = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.close(to_child[1])
        os.close(to_parent[0])
        os._exit(_child(_Half(fd, start, end, 1, to_child[0], to_parent[1]), convert, write))
    os.close(to_child[0])
    os.close(to_parent[1])
    try:
        _Half(fd, start, end, 0, to_parent[0], to_child[1]).print(convert, write)
    finally:
        for each in (to_child[1], to_parent[0]):
            os.close(each)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status == BROKEN_PIPE:
        raise BrokenPipeError
    if status:
        raise AgentError(f"{file.path}: the process that printed every second piece of it ended with {status}")


def _child(half: _Half, convert: Convert, write: Write) -> int:
    try:
        half.print(convert, write)
    except BrokenPipeError:
        return BROKEN_PIPE
    except BaseException:
        return 1
    return 0


class _Half:
    """Every second piece of a log, and the pipes by which the two processes wait for each other."""

    def __init__(self, fd: int, start: int, end: int, first: int, my_turn: int, other_turn: int) -> None:
        self._fd = fd
        self._start = start
        self._end = end
        self._first = first
        self._my_turn = my_turn
        self._other_turn = other_turn

    def print(self, convert: Convert, write: Write) -> None:
        pieces = -(-(self._end - self._start) // PIECE)
        for number in range(self._first, pieces, 2):
            texts = [convert(lines) for lines in self._lines(number)]
            if number and not os.read(self._my_turn, 1):
                return  # the other has failed, and reports it
            for text in texts:
                write(text)
            if number + 1 < pieces:
                try:
                    os.write(self._other_turn, b".")
                except BrokenPipeError:
                    return  # as above

    def _lines(self, number: int) -> Iterator[bytes]:
        """The lines that begin in a piece, some at a time, each with its newline."""
        at, end = self._line_start(number), self._line_start(number + 1)
        rest = b""
        while at < end and (data := os.pread(self._fd, min(CHUNK, end - at), at)):
            at += len(data)
            cut = data.rfind(b"\n") + 1
            if cut:
                yield rest + data[:cut]
                rest = data[cut:]
            else:
                rest += data
        if rest:
            yield rest + b"\n"

    def _line_start(self, number: int) -> int:
        """Where the first line begins that is in a piece or after it. What has no end is cut there."""
        begin = min(self._start + number * PIECE, self._end)
        at = begin - 1
        while number and at < min(self._end, begin + LINE_LIMIT):
            data = os.pread(self._fd, CHUNK // 4, at)
            newline = data.find(b"\n")
            if newline >= 0:
                return min(at + newline + 1, self._end)
            if not data:
                break
            at += len(data)
        return self._end if number and at >= self._end else begin
