"""Writes one container's log file in CRI's format, and rotates it (layer 3). Blocks: called in threads.

A line is `<RFC3339Nano> stdout|stderr F|P <text>`; P is a part of a line longer than 16 KiB.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import time
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from minipod.failpoint import reached
from minipod.kernel.error_text import limit_of
from minipod.kernel.regular import make_regular, open_regular, opened_folder
from minipod.paths import LOG_FOLDERS

LINE_LIMIT = 16 * 1024  # bytes; containerd's max_container_log_line_size
MODE = 0o640  # of every log file: the output of containers is not for all users
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_STAMP = "%Y%m%d-%H%M%S"

log = logging.getLogger(__name__)


def timestamp(now_ns: int) -> bytes:
    """RFC3339Nano in UTC."""
    seconds, nanoseconds = divmod(now_ns, 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)).encode() + b".%09dZ" % nanoseconds


def format_lines(data: bytes, stream: bytes, now_ns: int) -> tuple[bytes, bytes]:
    """(log text, the unfinished rest) of raw output; the rest is shorter than LINE_LIMIT."""
    begin = timestamp(now_ns) + b" " + stream
    full, part = begin + b" F ", begin + b" P "
    complete, newline, rest = data.rpartition(b"\n")
    out = []
    if newline:
        if _has_long_line(complete):
            for line in complete.split(b"\n"):
                *parts, last = _split(line)
                out += [part + piece + b"\n" for piece in parts]
                out.append(full + last + b"\n")
        else:
            out += [full, complete.replace(b"\n", b"\n" + full), b"\n"]
    *parts, rest = _split(rest)
    out += [part + piece + b"\n" for piece in parts]
    return b"".join(out), rest


def last_line(rest: bytes, stream: bytes, now_ns: int) -> bytes:
    """The log text of an unfinished line at the end of a stream."""
    return timestamp(now_ns) + b" " + stream + b" F " + rest + b"\n" if rest else b""


def raw_output(text: bytes) -> bytes:
    """What a container wrote, of the log text of one stream: the inverse of `format_lines`."""
    fields = (line.split(b" ", 3) for line in text.split(b"\n") if line)
    return b"".join(field[3] + (b"\n" if field[2] == b"F" else b"") for field in fields)


def _has_long_line(lines: bytes) -> bool:
    """Whether a line is longer than LINE_LIMIT, found without looking at each line."""
    begin = 0
    while begin + LINE_LIMIT < len(lines):
        newline = lines.rfind(b"\n", begin, begin + LINE_LIMIT + 1)
        if newline < 0:
            return True
        begin = newline + 1
    return False


def _split(line: bytes) -> list[bytes]:
    pieces = [line[start : start + LINE_LIMIT] for start in range(0, len(line), LINE_LIMIT)]
    return pieces or [b""]


#: called with the log's inode and size before an append, and which part of the text it writes
Appends = Callable[[int, int, int, int], None]


def _unnoted(*_: int) -> None:
    """For a writer that loses what it has not written when it is killed."""


class LogFile:
    """One container's log file. Appends, and rotates as the kubelet does: newest rotated plain, older ones gzipped.

    Rotates before a line that would exceed `max_size`, and compresses before the next line is written, so that all
    files together never take more than `max_size * max_files` bytes (and a line each), however fast they are written.
    """

    def __init__(self, path: str, max_size: int, max_files: int) -> None:
        """`max_size` bytes, 0: never rotate (a kubelet does it itself). Opens nothing yet."""
        self.path = path
        self._folder, self._name = os.path.split(path)
        self._max_size = max_size
        self._max_files = max_files
        self._fd = -1
        self._inode = 0
        self._size = 0
        self._rotated_at = 0
        self._failures: dict[str, int | None] = {}  # by what failed: the error that is logged already

    def open(self) -> None:
        """Open the file, again if it was renamed (CRI ReopenContainerLog). Raises OSError."""
        self.close()
        self._size = 0
        os.makedirs(self._folder.rsplit("/", LOG_FOLDERS)[0], exist_ok=True)
        with opened_folder(self._folder, LOG_FOLDERS, make=True) as folder_fd:
            self._fd = make_regular(self._name, os.O_WRONLY | os.O_APPEND, MODE, folder_fd, self.path)
        found = os.fstat(self._fd)
        self._inode, self._size = found.st_ino, found.st_size

    def write(self, text: bytes, appends: Appends = _unnoted) -> bytes:
        """Append lines. Returns those for which there is no space: the caller writes them again later, or a quota's.

        `appends`: called before each write(2). Other failures lose lines, which is logged once; raises nothing.
        """
        start, rotated = 0, False
        while start < len(text):
            end = len(text) if rotated else self._fitting(text, start)
            if end == start:
                rotated = not self._rotate() or self._size > 0  # no second time: then it grows
                continue
            if not self._append(text[start:end], start, appends):
                return text[start:]
            start, rotated = end, False
        return b""

    def _fitting(self, text: bytes, start: int) -> int:
        """Up to where the lines from `start` on fit into the file. An empty file takes one line of any length."""
        room = self._max_size - self._size
        if not self._max_size or len(text) - start <= room:
            return len(text)
        cut = text.rfind(b"\n", start, start + max(0, room)) + 1
        if cut > start:
            return cut
        return start if self._size else text.index(b"\n", start) + 1

    def _append(self, lines: bytes, start: int, appends: Appends) -> bool:
        """False where there is no space: then nothing of them is in the file."""
        view = memoryview(lines)
        try:
            if self._fd < 0:
                self.open()
            appends(self._inode, self._size, start, start + len(lines))
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            no_space = error.errno in NO_SPACE
            self._keep_whole_lines(b"" if no_space else lines[: len(lines) - len(view)])
            loss = "its container's output waits until there is space" if no_space else "lines are lost"
            self._report("write", error, loss)
            return not no_space
        self._size += len(lines)
        self._failures.pop("write", None)
        return True

    def _keep_whole_lines(self, written: bytes) -> None:
        """Removes a line that was written in part, so that the next one does not continue it."""
        if self._fd >= 0:
            self._size += written.rfind(b"\n") + 1
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._size)

    def _report(self, what: str, error: OSError, loss: str = "") -> None:
        if self._failures.get(what) != error.errno:  # it is tried again with each write
            why = limit_of(OSError(error.errno, error.strerror, self._folder))
            parts = filter(None, (what, error.strerror or str(error), why, loss))
            log.warning("log %s: %s", self.path, ": ".join(parts))
            self._failures[what] = error.errno

    def is_removed(self) -> bool:
        """Whether the file was deleted: nothing that is written any more can be read."""
        try:
            return self._fd >= 0 and os.fstat(self._fd).st_nlink == 0
        except OSError:
            return False

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _rotate(self) -> bool:
        try:
            with opened_folder(self._folder, LOG_FOLDERS) as folder_fd:
                found = {name for name in os.listdir(folder_fd) if name.startswith(f"{self._name}.")}
                earlier = sorted({name.removesuffix(".gz") for name in found if not name.endswith(".tmp")})
                too_many = max(0, len(earlier) - (self._max_files - 2))
                for name in earlier[:too_many]:
                    _remove(name, folder_fd)
                reached("log.trimmed")
                rotated = self._rotated_name(earlier)
                os.rename(self._name, rotated, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
                reached("log.renamed")
                self.open()
                reached("log.reopened")
        except OSError as error:
            self._report("rotation", error)
            return False
        self._failures.pop("rotation", None)
        for name in earlier[too_many:]:
            if name in found:
                _compress(self._folder, name)
        return True

    def _rotated_name(self, earlier: list[str]) -> str:
        """A name in the kubelet's form that sorts after the earlier ones, also of rotations within the same second."""
        self._rotated_at = max(int(time.time()), self._rotated_at + 1)
        while (name := f"{self._name}.{time.strftime(_STAMP, time.gmtime(self._rotated_at))}") in earlier:
            self._rotated_at += 1
        return name


def _remove(name: str, folder_fd: int) -> None:
    for suffix in ("", ".gz", ".tmp"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name + suffix, dir_fd=folder_fd)


def _compress(folder: str, name: str) -> None:
    try:
        with opened_folder(folder, LOG_FOLDERS) as folder_fd:
            _compress_in(folder_fd, name, f"{folder}/{name}")
    except FileNotFoundError:
        pass  # removed with its pod
    except OSError as error:
        log.warning("log %s/%s: compression: %s", folder, name, error.strerror)


def _compress_in(folder_fd: int, name: str, path: str) -> None:
    temporary = f"{name}.tmp"
    with open(open_regular(name, os.O_RDONLY, folder_fd, path), "rb", buffering=0) as source:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=folder_fd)
        with _unlinked_on_error(temporary, folder_fd):
            compressed_fd = make_regular(temporary, os.O_WRONLY, MODE, folder_fd, f"{path}.tmp")
            with open(compressed_fd, "wb") as raw, _gzip(raw) as target:
                while data := source.read(1 << 18):
                    target.write(data)
            reached("log.compressed")
            os.rename(temporary, f"{name}.gz", src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
            reached("log.compressed-named")
    try:
        os.unlink(name, dir_fd=folder_fd)
    except FileNotFoundError:  # removed with its pod
        os.unlink(f"{name}.gz", dir_fd=folder_fd)


@contextlib.contextmanager
def _unlinked_on_error(name: str, folder_fd: int) -> Iterator[None]:
    try:
        yield
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=folder_fd)
        raise


def _gzip(raw: BinaryIO) -> contextlib.AbstractContextManager[Any]:
    """isal takes a tenth of zlib's time for the same size, where it is built for the machine."""
    try:
        from isal.igzip import IGzipFile
    except ImportError:
        import gzip

        return gzip.open(raw, "wb", compresslevel=1)
    open_gzip: Callable[..., contextlib.AbstractContextManager[Any]] = IGzipFile
    return open_gzip(fileobj=raw, mode="wb", compresslevel=2)
