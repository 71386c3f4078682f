"""CRI log files (layer 5): parsing, tails and following across rotation. Knows no pods and prints nothing.

A line is `<RFC 3339 time> stdout|stderr P|F <text>`; P: the next line of the same stream continues it
(cri-api's logs format). Work is done on whole chunks: a Python loop per line could not keep up with a container.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from operator import itemgetter

from minipod.runtime.log_history import CHUNK, LINE_LIMIT, OpenLog, at_once, chunks, generation_of, generations

MEMORY_LIMIT = 256 << 20  # of a file at once: a pod with a hostPath may have put anything in a log's place
TAIL_CHUNK = 1 << 18
FULL, PARTIAL = b"F", b"P"
_STAMP = len(b"2026-01-02T15:04:05.123456789Z")
_TEXT = _STAMP + len(b" stdout F ")
_WHOLE = {b" stdout F ", b" stderr F "}
_WHOLE_STDOUT = {b" stdout F "}
_head_of, _text_of = itemgetter(slice(_STAMP, _TEXT)), itemgetter(slice(_TEXT, None))


class Line:
    """One line of the container: `text` without its newline; `whole` is False for a piece of a longer line."""

    __slots__ = ("stamp", "stream", "text", "whole")

    def __init__(self, stamp: bytes, stream: bytes, text: bytes, whole: bool) -> None:
        self.stamp = stamp
        self.stream = stream
        self.text = text
        self.whole = whole


def stamp_key(stamp: bytes) -> bytes:
    """Sorts as the times do: RFC3339Nano drops trailing zeros, and `Z` would sort above a digit."""
    return stamp[:-1] if stamp.endswith(b"Z") else stamp


def parse(data: bytes) -> list[Line]:
    """The lines of a chunk that ends with a newline; what is no CRI line is taken as it stands."""
    lines = []
    for raw in data.split(b"\n")[:-1]:
        parts = raw.split(b" ", 3)
        if len(parts) == 4 and parts[2][:1] in (FULL, PARTIAL):
            lines.append(Line(parts[0], parts[1], parts[3], parts[2][:1] == FULL))
        else:
            lines.append(Line(b"", b"stdout", raw, True))
    return lines


def _equal_rows(data: bytes, heads: set[bytes]) -> list[bytes] | None:
    """The lines of a chunk, where each has a stamp of the length that ours have and one of `heads` after it.

    Then all are cut at the same place, by functions that are not written in Python: this is half of `logs`' time.
    """
    rows = data.split(b"\n")
    rows.pop()
    return rows if heads.issuperset(map(_head_of, rows)) else None


def plain_text(data: bytes) -> bytes:
    """What the container wrote, of a chunk that ends with a newline: the fast path of `logs`."""
    rows = _equal_rows(data, _WHOLE)
    if rows is None:
        return b"".join([line.text + b"\n" if line.whole else line.text for line in parse(data)])
    texts = list(map(_text_of, rows))
    texts.append(b"")
    return b"\n".join(texts)


def stdout_text(data: bytes) -> bytes | None:
    """As `plain_text`, but None where anything is not a whole line of stdout."""
    rows = _equal_rows(data, _WHOLE_STDOUT)
    return None if rows is None else b"\n".join(map(_text_of, rows)) + b"\n"


def decorated_text(data: bytes, prefix: bytes, with_stamp: bool) -> bytes | None:
    """Each line with `prefix` and, if wanted, its stamp in front; None where not all are whole lines of our own."""
    rows = _equal_rows(data, _WHOLE)
    if rows is None:
        return None
    if not with_stamp:
        return b"".join([prefix + row[_TEXT:] + b"\n" for row in rows])
    return b"".join([prefix + row[:_STAMP] + b" " + row[_TEXT:] + b"\n" for row in rows])


def tail_offset(file: OpenLog, count: int) -> tuple[int, int]:
    """Where the last `count` lines of a plain file begin, and how many there are (fewer in a short file).

    Reads from the end. A container's line that was written in pieces counts once: a `P` line belongs to the one that
    follows.
    """
    with open(file.fd, "rb", buffering=0, closefd=False) as source:
        end = position = source.seek(0, os.SEEK_END)
        if count <= 0:
            return end, 0
        found, earliest, cut = 0, end, b""
        while position > 0 and len(cut) <= MEMORY_LIMIT:
            step = min(position, max(TAIL_CHUNK, len(cut)))
            position -= step
            source.seek(position)
            data = source.read(step) + cut
            begin = data.find(b"\n") + 1 if position else 0
            if position and not begin:
                cut = data
                continue
            cut, block = data[:begin], _Block(data[begin:])
            if found and block.is_continued:  # what was taken for the first start of the later block
                found -= 1
            if block.count and found == count:
                break
            if found + block.count > count:  # more, as the first one may still be no start
                return position + begin + block.start_of(block.count - (count - found)), count
            found += block.count
            if block.count:
                earliest = position + begin + block.start_of(0)
        return earliest, found


class _Block:
    """Whole lines of a log, of which the container's lines are counted."""

    def __init__(self, data: bytes) -> None:
        self._rows = _equal_rows(data, _WHOLE) if data.endswith(b"\n") else None
        self._starts = _line_starts(data, True) if self._rows is None else []
        self.count = len(self._starts) if self._rows is None else len(self._rows)
        last = data[data.rfind(b"\n", 0, -1) + 1 :].split(b" ", 3)
        self.is_continued = len(last) == 4 and last[2][:1] == PARTIAL and data.endswith(b"\n")

    def start_of(self, number: int) -> int:
        """The offset of a line, counted from 0."""
        if self._rows is None:
            return self._starts[number]
        return sum(map(len, self._rows[:number])) + number


def tail(files: list[OpenLog], count: int) -> list[tuple[OpenLog, int]]:
    """Those of a log's files, oldest first, and the offsets in them, that hold the last `count` lines."""
    sources: list[tuple[OpenLog, int]] = []
    for file in reversed(files):
        if file.is_compressed:
            starts = _last_starts(file, count)
            start, found = starts[0] if starts else 0, len(starts)
        else:
            start, found = tail_offset(file, count)
        sources.append((file, start))
        count -= found
        if count <= 0:
            break
    return sources[::-1]


def _last_starts(file: OpenLog, count: int) -> deque[int]:
    """The offsets of the last lines of a compressed file."""
    starts: deque[int] = deque(maxlen=count)
    offset, continued = 0, False
    for data in file.chunks():
        starts.extend(offset + start for start in _line_starts(data, not continued))
        continued = not parse(data[data.rfind(b"\n", 0, -1) + 1 :].rstrip(b"\n") + b"\n")[-1].whole
        offset += len(data)
    return starts


def _line_starts(data: bytes, from_start: bool) -> list[int]:
    """Offsets at which a container's line begins; without `from_start` the first, perhaps cut, line is left out."""
    starts = []
    offset = 0
    continued = False
    first = True
    for raw in data.split(b"\n"):
        if not raw:
            break
        if not continued and not (first and not from_start):
            starts.append(offset)
        parts = raw.split(b" ", 3)
        continued = len(parts) == 4 and parts[2][:1] == PARTIAL
        first = False
        offset += len(raw) + 1
    return starts


class Follower:
    """Reads one growing log without missing a rotation. `read` gives what is new; waiting is the caller's."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = -1
        self._rest = b""
        self._older: set[str] | None = None  # generations before the open file, or before the one that comes

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def begin(self, files: list[OpenLog], start: int = 0) -> None:
        """Begin with the newest of these, at an offset; the older ones have been read. Without it `read` does so with
        what there is then.
        """
        self.close()
        self._older = {generation_of(file.path) for file in files if file.path != self.path}
        if files and files[-1].path == self.path:
            self._fd = os.dup(files[-1].fd)
            os.lseek(self._fd, start, os.SEEK_SET)

    def read(self) -> Iterator[bytes]:
        """New content in pieces that end with a newline; continues in the next file where this one was rotated."""
        if self._older is None:
            with at_once(self.path) as files:
                self.begin(files)
        if self._fd < 0:
            self._fd = self._open_after(0)
        while self._fd >= 0:
            yield from self._drain()
            following = self._open_after(1)
            if following < 0:
                return
            # what was written between the last read and the rotation
            yield from self._drain()
            if self._rest:
                yield self._rest + b"\n"
                self._rest = b""
            os.close(self._fd)
            self._fd = following

    def remainder(self) -> bytes:
        """A last line without a newline, at the very end."""
        rest, self._rest = self._rest, b""
        return rest

    def _drain(self) -> Iterator[bytes]:
        while data := os.read(self._fd, CHUNK):
            cut = data.rfind(b"\n") + 1
            if not cut:
                self._rest += data
                if len(self._rest) > LINE_LIMIT:
                    yield self.remainder() + b"\n"
                continue
            yield self._rest + data[:cut] if self._rest else data[:cut]
            self._rest = data[cut:]

    def _open_after(self, done: int) -> int:
        """A descriptor of the file after those that are read: all older ones, and `done` (0 or 1) more. -1: there is
        none yet.
        """
        assert self._older is not None
        while True:
            newer = self._newer()
            if len(newer) < done:
                return -1  # the open file is still the newest
            following = newer[done] if len(newer) > done else self.path
            try:
                fd = _open_generation(following)
            except FileNotFoundError:
                if following == self.path:
                    return -1  # renamed, and no new one yet
                continue
            if following == self.path and len(self._newer()) > done:
                os.close(fd)  # rotated once more in between: what was opened is not the next one
                continue
            self._older.update(map(generation_of, newer[:done]))
            return fd

    def _newer(self) -> list[str]:
        return [name for name in generations(self.path) if generation_of(name) not in (self._older or ())]


def _open_generation(path: str) -> int:
    """A descriptor of a log file's text, also of a compressed one."""
    if not path.endswith(".gz"):
        return OpenLog(path).fd
    fd = os.memfd_create("log", os.MFD_CLOEXEC)
    try:
        size = 0
        for data in chunks(path):
            size += os.write(fd, data)
            if size > MEMORY_LIMIT:
                break
    except BaseException:
        os.close(fd)
        raise
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


class Joiner:
    """Puts the pieces of long lines together again, each stream for itself; a line without end comes in parts."""

    LIMIT = 1 << 20

    def __init__(self) -> None:
        self._open: dict[bytes, list[Line]] = {}

    def feed(self, lines: list[Line]) -> Iterator[Line]:
        """Whole lines, and parts (`whole` False) of lines above a mebibyte."""
        for line in lines:
            pieces = self._open.get(line.stream)
            if line.whole and not pieces:
                yield line
                continue
            if pieces is None:
                pieces = self._open[line.stream] = []
            pieces.append(line)
            if line.whole or sum(len(piece.text) for piece in pieces) >= self.LIMIT:
                yield self._joined(line.stream, line.whole)

    @property
    def is_idle(self) -> bool:
        """Whether no line is waiting for its end."""
        return not self._open

    def flush(self) -> Iterator[Line]:
        """What has no end yet, as lines: for the end of a container."""
        for stream in list(self._open):
            if self._open[stream]:
                yield self._joined(stream, True)

    def _joined(self, stream: bytes, whole: bool) -> Line:
        pieces = self._open.pop(stream)
        return Line(pieces[0].stamp, stream, b"".join(piece.text for piece in pieces), whole)
