"""Writes containers' output to their logs in CRI's format, with rotation (layer 3).

A line is `<RFC3339Nano> stdout|stderr F|P <text>`; P is a part of a line longer than 16 KiB. The unfinished last line
of a stream is also kept in a small file, so that it survives a crash of the agent.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import logging
import os
import time
from collections.abc import Callable
from typing import Any, BinaryIO

from minipod.failpoint import reached
from minipod.kernel.regular import make_regular, open_regular, opened_folder
from minipod.paths import LOG_FOLDERS
from minipod.runtime.offload import slowly_off_loop

LINE_LIMIT = 16 * 1024  # bytes; containerd's max_container_log_line_size
READ_LIMIT = 64 << 20  # of a log at once: a pod with a hostPath to it may have made it of any size
MODE = 0o640  # of every log file: the output of containers is not for all users
_PIECE = 1 << 20
_CHUNK = 64 * 1024  # larger ones leave the processor's cache between being read and being written
_BUSY_S = 0.01  # a stream with new output after less than this …
_STAMP = "%Y%m%d-%H%M%S"
_PAUSE_S = 0.002  # … is not read for this long, unless there was much: a read for each write would cost more

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


class LogFile:
    """One container's log file. Appends, and rotates as the kubelet does: newest rotated plain, older ones gzipped."""

    def __init__(self, path: str, max_size: int, max_files: int) -> None:
        """`max_size` bytes, 0: never rotate (a kubelet does it itself)."""
        self.path = path
        self._folder, self._name = os.path.split(path)
        self._max_size = max_size
        self._max_files = max_files
        self._fd = -1
        self._size = 0
        self._rotated_at = 0
        self._compressing: asyncio.Future[None] | None = None
        self._failure_logged = False
        self._rotation_failure_logged = False
        self.reopen()

    def reopen(self) -> None:
        """Open the file anew, after it was renamed (CRI ReopenContainerLog)."""
        self.close()
        os.makedirs(self._folder.rsplit("/", LOG_FOLDERS)[0], exist_ok=True)
        with opened_folder(self._folder, LOG_FOLDERS, make=True) as folder_fd:
            self._fd = make_regular(self._name, os.O_WRONLY | os.O_APPEND, MODE, folder_fd, self.path)
        self._size = os.fstat(self._fd).st_size

    def write(self, text: bytes) -> None:
        """Append. A full disk loses lines, which is logged once; raises nothing."""
        view = memoryview(text)
        try:
            if self._fd < 0:  # it could not be opened again when it was rotated
                self.reopen()
            while view:
                view = view[os.write(self._fd, view) :]
            self._size += len(text)
            self._failure_logged = False
        except OSError as error:
            self._keep_whole_lines(text[: len(text) - len(view)])
            if not self._failure_logged:
                log.warning("log %s: %s: lines are lost", self.path, error.strerror)
                self._failure_logged = True
        if self._max_size and self._size > self._max_size:
            self._rotate()

    def _keep_whole_lines(self, written: bytes) -> None:
        """Removes a line that was written in part, so that the next one does not continue it."""
        self._size += written.rfind(b"\n") + 1
        with contextlib.suppress(OSError):
            os.ftruncate(self._fd, self._size)

    def text_of(self, stream: bytes) -> Callable[[], bytes]:
        """A function for a thread that reads a stream's text from the file, of a very large file from its end."""
        try:
            with opened_folder(self._folder, LOG_FOLDERS) as folder_fd:
                fd = open_regular(self._name, os.O_RDONLY, folder_fd, self.path)
        except OSError:
            return bytes
        return functools.partial(_text, fd, os.fstat(fd).st_size, stream)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _rotate(self) -> None:
        try:
            with opened_folder(self._folder, LOG_FOLDERS) as folder_fd:
                found = {name for name in os.listdir(folder_fd) if name.startswith(f"{self._name}.")}
                earlier = sorted({name.removesuffix(".gz") for name in found if not name.endswith(".tmp")})
                rotated = self._rotated_name(earlier)
                os.rename(self._name, rotated, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
                reached("log.renamed")
                self.reopen()
                reached("log.reopened")
                too_many = max(0, len(earlier) - (self._max_files - 2))
                for name in earlier[:too_many]:
                    for suffix in ("", ".gz", ".tmp"):
                        with contextlib.suppress(FileNotFoundError):
                            os.unlink(name + suffix, dir_fd=folder_fd)
                reached("log.rotated")
        except OSError as error:
            if not self._rotation_failure_logged:  # it is retried with each write
                log.warning("log %s: rotation: %s", self.path, error.strerror)
                self._rotation_failure_logged = True
            return
        self._rotation_failure_logged = False
        plain = [name for name in earlier[too_many:] if name in found]
        if plain and (self._compressing is None or self._compressing.done()):
            self._compressing = asyncio.ensure_future(slowly_off_loop(_compress, self._folder, plain))

    def _rotated_name(self, earlier: list[str]) -> str:
        """A name in the kubelet's form that sorts after the earlier ones, also of rotations within the same second."""
        self._rotated_at = max(int(time.time()), self._rotated_at + 1)
        while (name := f"{self._name}.{time.strftime(_STAMP, time.gmtime(self._rotated_at))}") in earlier:
            self._rotated_at += 1
        return name


def _text(fd: int, end: int, stream: bytes) -> bytes:
    """Reads in pieces, so that none holds the GIL for long. Closes `fd`."""
    start, found, cut = max(0, end - READ_LIMIT), [], b""
    with open(fd, "rb") as file, contextlib.suppress(OSError):
        file.seek(start)
        while start < end and (piece := file.read(min(_PIECE, end - start))):
            if start and start == end - READ_LIMIT:  # began before what is read
                piece = piece[piece.find(b"\n") + 1 :]
            start = file.tell()
            *lines, cut = (cut + piece).split(b"\n")
            cut = cut if len(cut) < 2 * LINE_LIMIT else b""  # no line of ours
            fields = (line.split(b" ", 3) for line in lines)
            found += [
                field[3] + (b"\n" if field[2] == b"F" else b"")
                for field in fields
                if len(field) == 4 and field[1] == stream
            ]
    return b"".join(found)


def _compress(folder: str, names: list[str]) -> None:
    for name in names:
        try:
            with opened_folder(folder, LOG_FOLDERS) as folder_fd:
                _compress_in(folder_fd, name, f"{folder}/{name}")
        except FileNotFoundError:
            pass  # removed with its pod, or as the oldest
        except OSError as error:
            log.warning("log %s/%s: compression: %s", folder, name, error.strerror)


def _compress_in(folder_fd: int, name: str, path: str) -> None:
    with open(open_regular(name, os.O_RDONLY, folder_fd, path), "rb") as source:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{name}.tmp", dir_fd=folder_fd)
        compressed_fd = make_regular(f"{name}.tmp", os.O_WRONLY, MODE, folder_fd, f"{path}.tmp")
        with open(compressed_fd, "wb") as raw, _gzip(raw) as target:
            from shutil import copyfileobj  # with gzip they load lzma and bz2

            copyfileobj(source, target, 1 << 20)
    reached("log.compressed")
    os.rename(f"{name}.tmp", f"{name}.gz", src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
    reached("log.compressed-named")
    try:
        os.unlink(name, dir_fd=folder_fd)
    except FileNotFoundError:  # removed as the oldest
        os.unlink(f"{name}.gz", dir_fd=folder_fd)


def _gzip(raw: BinaryIO) -> contextlib.AbstractContextManager[Any]:
    """isal takes a tenth of zlib's time for the same size, where it is built for the machine."""
    try:
        from isal.igzip import IGzipFile
    except ImportError:
        import gzip

        return gzip.open(raw, "wb", compresslevel=1)
    open_gzip: Callable[..., contextlib.AbstractContextManager[Any]] = IGzipFile
    return open_gzip(fileobj=raw, mode="wb", compresslevel=2)


#: called with every chunk, in its order; with nothing at the stream's end
Tap = Callable[[bytes], None]


class LateTap:
    """Holds chunks for `tap` back until a thread has read the earlier output from the log."""

    def __init__(self, tap: Tap, read: Callable[[], bytes]) -> None:
        self._tap = tap
        self._held: list[bytes] | None = []
        self._task = asyncio.get_running_loop().create_task(self._read(read))

    async def _read(self, read: Callable[[], bytes]) -> None:
        text = await slowly_off_loop(read)
        held, self._held = self._held or [], None
        if text:
            self._tap(text)
        for chunk in held:
            self._tap(chunk)

    def __call__(self, chunk: bytes) -> None:
        if self._held is None:
            self._tap(chunk)
        else:
            self._held.append(chunk)


class LogStream:
    """Copies one pipe (or pty master) into the log file, on the running event loop."""

    def __init__(self, fd: int, stream: str, file: LogFile, partial_path: str) -> None:
        """Takes `fd` over. `partial_path`: where the unfinished line is kept."""
        self._fd = fd
        self.name = stream
        self._stream = stream.encode()
        self._file = file
        self._partial_path = partial_path
        self._partial_fd = -1
        self._rest = self._read_partial()
        self.ended = asyncio.Event()
        self.taps: list[Tap] = []
        self._loop = asyncio.get_running_loop()
        self._read_at = 0.0
        self._pause: asyncio.TimerHandle | None = None
        os.set_blocking(fd, False)
        self._listen()

    def _listen(self) -> None:
        self._pause = None
        self._loop.add_reader(self._fd, self._readable)

    def _listen_later(self) -> None:
        self._loop.remove_reader(self._fd)
        self._pause = self._loop.call_later(_PAUSE_S, self._listen)

    def _read_partial(self) -> bytes:
        try:
            with open(self._partial_path, "rb") as file:
                return file.read()
        except FileNotFoundError:
            return b""

    def _readable(self) -> None:
        """Reads one chunk per iteration, so that a container with much output does not block the loop."""
        try:
            chunk = os.read(self._fd, _CHUNK)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.EIO:  # a pty whose last slave was closed
                log.warning("log %s: %s", self._file.path, error.strerror)
            chunk = b""
        if not chunk:
            self.stop()
            return
        self._take(chunk)
        before, self._read_at = self._read_at, self._loop.time()
        if len(chunk) < _CHUNK // 2 and self._read_at - before < _BUSY_S:
            self._listen_later()

    def add_tap(self, tap: Tap, whole: bool = False) -> Tap:
        """Pass all further output to `tap`, beginning with the unfinished line, which may be a prompt.

        `whole`: begin with the output that is in the log file. Returns the tap that was added.
        """
        if whole:
            tap = LateTap(tap, self._file.text_of(self._stream))
        if self._rest:
            tap(self._rest)
        self.taps.append(tap)
        return tap

    def _take(self, chunk: bytes) -> None:
        for tap in self.taps:
            tap(chunk)
        text, rest = format_lines(self._rest + chunk, self._stream, time.time_ns())
        if text:
            self._file.write(text)
        if rest or self._rest:
            self._keep(rest)
        self._rest = rest

    def _keep(self, rest: bytes) -> None:
        try:
            if self._partial_fd < 0:
                self._partial_fd = os.open(self._partial_path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            os.ftruncate(self._partial_fd, os.pwrite(self._partial_fd, rest, 0))
        except OSError:
            pass  # a full /run: only a killed agent would miss it

    def drain(self) -> None:
        """Read what is in the pipe, without waiting for its end (a process may hold it open)."""
        while not self.ended.is_set():
            try:
                chunk = os.read(self._fd, _CHUNK)
            except OSError:
                break
            if chunk:
                self._take(chunk)
            else:
                self.stop()

    def stop(self) -> None:
        """The stream has ended: completes an unfinished line."""
        if self.ended.is_set():
            return
        if self._rest:
            self._file.write(timestamp(time.time_ns()) + b" " + self._stream + b" F " + self._rest + b"\n")
            self._keep(b"")
        self.detach()
        self.ended.set()
        for tap in self.taps:
            tap(b"")

    def detach(self) -> None:
        """Stop reading and leave the rest to the next agent."""
        if self._fd >= 0:
            if self._pause is not None:
                self._pause.cancel()
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
        if self._partial_fd >= 0:
            os.close(self._partial_fd)
            self._partial_fd = -1


class ContainerLog:
    """All streams of one container and their file."""

    def __init__(self, path: str, max_size: int, max_files: int, partial_directory: str) -> None:
        self._file = LogFile(path, max_size, max_files)
        self._partial_directory = partial_directory
        self._streams: list[LogStream] = []

    def add(self, fd: int, stream: str) -> None:
        partial = f"{self._partial_directory}/{stream}.partial"
        self._streams.append(LogStream(fd, stream, self._file, partial))

    def tap(self, stream: str, tap: Tap, whole: bool = False) -> Callable[[], None]:
        """Passes a stream to `tap`; returns a function that ends this. A missing or ended stream is empty."""
        for source in self._streams:
            if source.name == stream and not source.ended.is_set():
                added = source.add_tap(tap, whole)
                return lambda: source.taps.remove(added) if added in source.taps else None
        if whole:
            tap = LateTap(tap, self._file.text_of(stream.encode()))
        tap(b"")
        return lambda: None

    def reopen(self) -> None:
        self._file.reopen()

    async def finish(self, timeout_s: float) -> None:
        """Every line that was written is in the file when this returns; waits for the pipes' ends for `timeout_s`."""
        waiting = [asyncio.ensure_future(stream.ended.wait()) for stream in self._streams]
        if waiting:
            _, pending = await asyncio.wait(waiting, timeout=timeout_s)
            for task in pending:
                task.cancel()
        for stream in self._streams:
            stream.drain()
            stream.stop()
        self._file.close()

    def detach(self) -> None:
        for stream in self._streams:
            stream.detach()
        self._file.close()
