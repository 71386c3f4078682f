"""What is on its way from a container's pipe into its log, in memory that survives a kill -9 of the agent (layer 3).

What read(2) has taken out of a pipe is in the reader's memory alone until it is written. Here that memory is a mapped
file of `<run-dir>/staged`, one for each thread that writes logs. The next agent (`recover`) finds in it what was read,
and how much of it the log has, and puts the rest to the unfinished line of its stream. Costs no system call.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import mmap
import os
import struct
import threading

from minipod.kernel.regular import open_regular, opened_folder
from minipod.kernel.rename import replace
from minipod.paths import LOG_FOLDERS, Paths
from minipod.runtime.log_file import format_lines, last_line, raw_output

CHUNK = 64 * 1024  # larger ones leave the processor's cache between being read and being written
_IDLE, _READING, _READ = 0, 1, 2
#: state, whether the stream has ended, length of what was read, of what was unfinished before, of the names; the append
#: that is under way: the log's inode and size before it, which part of the text it writes
_HEADER = struct.Struct("=B?xxIIIQQII")
_LENGTH = struct.Struct("=I")
_LENGTH_AT = 4
_APPEND = struct.Struct("=QQII")
_APPEND_AT = _HEADER.size - _APPEND.size
_NAMES_AT, _NAMES_LIMIT = 64, 12 << 10
_DATA_AT = _NAMES_AT + _NAMES_LIMIT
_REST_AT, _REST_LIMIT = _DATA_AT + CHUNK, 256 << 10
_SIZE = _REST_AT + _REST_LIMIT
_ZEROS = bytes(CHUNK)

log = logging.getLogger(__name__)


def staged_folder(paths: Paths) -> str:
    return f"{paths.root}/staged"


class Names:
    """Whose output it is: where the unfinished line is kept, the log's path, the stream."""

    def __init__(self, partial: str, log_path: str, stream: str) -> None:
        self.encoded = json.dumps([partial, log_path, stream]).encode()


class Stage:
    """One stream's chunk at a time. Without a `view` nothing survives: there was no memory for it."""

    def __init__(self, view: mmap.mmap | None) -> None:
        self._view = view
        self._data = memoryview(view or b"")[_DATA_AT:_REST_AT]

    def read(self, fd: int, names: Names, rest: bytes) -> bytes:
        """read(2) of up to CHUNK bytes; `rest`: the unfinished line before it. Raises OSError, as BlockingIOError."""
        if self._view is None:
            return os.read(fd, CHUNK)
        self._describe(names, rest)
        self._view[0] = _READING
        try:
            size = os.readv(fd, [self._data])
        except OSError:
            self._view[0] = _IDLE
            raise
        _LENGTH.pack_into(self._view, _LENGTH_AT, size)
        self._view[0] = _READ if size else _IDLE
        return bytes(self._data[:size])

    def begin(self, names: Names, rest: bytes, at_end: bool = False) -> None:
        """What was kept is being written; `at_end`: it is the stream's last line."""
        if self._view is not None and len(rest) <= _REST_LIMIT:
            self._describe(names, rest, at_end)
            self._view[0] = _READ

    def appends(self, inode: int, size: int, start: int, end: int) -> None:
        """That part of the text will be written to the log file, which has `size` bytes before."""
        if self._view is not None:
            _APPEND.pack_into(self._view, _APPEND_AT, inode, size, start, end)

    def done(self) -> None:
        """It is in the log, and its unfinished line is kept."""
        if self._view is None or self._view[0] == _IDLE:
            return
        self._view[0] = _IDLE
        (size,) = _LENGTH.unpack_from(self._view, _LENGTH_AT)
        self._data[:size] = _ZEROS[:size]

    def _describe(self, names: Names, rest: bytes, at_end: bool = False) -> None:
        """The state comes last: a kill comes between any two instructions."""
        assert self._view is not None
        view = self._view
        view[_NAMES_AT : _NAMES_AT + len(names.encoded)] = names.encoded
        view[_REST_AT : _REST_AT + len(rest)] = rest
        _HEADER.pack_into(view, 0, _IDLE, int(at_end), 0, len(rest), len(names.encoded), 0, 0, 0, 0)


class Stages:
    """Those of one agent, by thread."""

    def __init__(self, folder: str) -> None:
        """Where there is no memory for one, that is logged, and its thread has none."""
        self._folder = folder
        self._numbers = itertools.count()
        self._own = threading.local()

    def of_this_thread(self) -> Stage:
        found: Stage | None = getattr(self._own, "stage", None)
        if found is None:
            found = self._own.stage = Stage(self._mapped())
        return found

    def _mapped(self) -> mmap.mmap | None:
        with contextlib.suppress(OSError):
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
        path = f"{self._folder}/{os.getpid()}.{next(self._numbers)}"
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            log.warning("%s: %s: a kill of the agent may lose what it has just read", path, error.strerror)
            return None
        try:
            os.posix_fallocate(fd, 0, _SIZE)  # a page that is not there would be SIGBUS
            return mmap.mmap(fd, _SIZE, flags=mmap.MAP_SHARED)
        except OSError as error:
            log.warning("%s: %s: a kill of the agent may lose what it has just read", path, error.strerror)
            os.unlink(path)
            return None
        finally:
            os.close(fd)

    def remove(self) -> None:
        """The agent exits. What a thread still writes, on a disk that does not answer, is left to the next one."""
        for name in _entries(self._folder):
            with contextlib.suppress(OSError), open(f"{self._folder}/{name}", "rb") as file:
                if file.read(1) == bytes([_IDLE]):
                    os.unlink(f"{self._folder}/{name}")
        with contextlib.suppress(OSError):
            os.rmdir(self._folder)


#: for a log whose output may be lost with its process
UNSTAGED = Stage(None)


def recover(folder: str) -> None:
    """Keeps what a killed agent had read and not written for those who go on with its streams."""
    for name in _entries(folder):
        path = f"{folder}/{name}"
        try:
            with open(path, "rb") as file:
                _recover(file.read())
            os.unlink(path)
        except (OSError, ValueError, struct.error) as error:
            log.error("%s: what was read of a container's output is not recovered: %s", path, error)


def _entries(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def _recover(image: bytes) -> None:
    state, at_end, size, rest_size, names_size, inode, before, start, end = _HEADER.unpack_from(image)
    if state == _IDLE:
        return
    partial, log_path, stream = json.loads(image[_NAMES_AT : _NAMES_AT + names_size])
    data = image[_DATA_AT:_REST_AT]
    rest = image[_REST_AT : _REST_AT + rest_size]
    data = data[:size] if state == _READ else data.rstrip(b"\0")  # its length was not noted yet
    written = _written(log_path, inode, before, start, end) if end else 0
    left, cut = unwritten(rest + data, stream, at_end, written)
    if cut:
        _shorten(log_path, cut)
    if not os.path.isdir(os.path.dirname(partial)):
        return  # the container is removed
    with open(f"{partial}.new", "wb") as file:
        file.write(left)
    replace(f"{partial}.new", partial)


def unwritten(raw: bytes, stream: str, at_end: bool, written: int) -> tuple[bytes, int]:
    """(output that the log does not have, how many bytes of a line that was cut off are at its end). Pure.

    `written`: bytes of the text that `raw` becomes in the log; its length does not depend on the time in it.
    """
    text, rest = (last_line(raw, stream.encode(), 0), b"") if at_end else format_lines(raw, stream.encode(), 0)
    whole = text.rfind(b"\n", 0, written) + 1
    if at_end:  # it stays unfinished, as the stream ends once more
        return (b"" if whole else raw), written - whole
    return raw_output(text[whole:]) + rest, written - whole


def _written(log_path: str, inode: int, before: int, start: int, end: int) -> int:
    """How much of the text is in the log. A file of another inode was begun after that append was complete."""
    try:
        found = os.stat(log_path)
    except FileNotFoundError:
        return end
    if found.st_ino != inode:
        return end
    return start + max(0, min(found.st_size - before, end - start))


def _shorten(log_path: str, cut: int) -> None:
    folder, name = os.path.split(log_path)
    with opened_folder(folder, LOG_FOLDERS) as folder_fd:
        fd = open_regular(name, os.O_WRONLY, folder_fd, log_path)
    try:
        os.ftruncate(fd, os.fstat(fd).st_size - cut)
    finally:
        os.close(fd)
