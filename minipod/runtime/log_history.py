"""Reads logs in CRI's format, also rotated and compressed ones (layer 3). Imports little: the command line uses it too.

A line is `<RFC 3339 time> stdout|stderr P|F <text>`; P: the next line of the same stream continues it
(cri-api's logs format).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from minipod.kernel.regular import open_regular, opened_folder
from minipod.paths import LOG_FOLDERS

CHUNK = 1 << 16  # larger ones leave the processor's cache between being read and being used: a third of the speed
READ_LIMIT = 64 << 20  # of a file of a `History`: a pod with a hostPath to it may have made it of any size
_ATTEMPTS = 100  # to open all files between two rotations
LINE_LIMIT = 1 << 20  # of what is no CRI line: those are 16 KiB


def generations(path: str) -> list[str]:
    """The rotated files of a log, oldest first: `<path>.<time>`, and `.gz` where it has been compressed."""
    folder, name = os.path.split(path)
    found: dict[str, str] = {}
    try:
        with opened_folder(folder, LOG_FOLDERS) as folder_fd:
            entries = os.listdir(folder_fd)
    except OSError:
        return []
    for entry in entries:
        stamp = entry[len(name) + 1 :]
        if not entry.startswith(name + ".") or stamp.endswith(".tmp"):
            continue
        plain = stamp.removesuffix(".gz")
        if plain == stamp or plain not in found:  # while it is being compressed both are there: take the whole one
            found[plain] = os.path.join(folder, entry)
    return [found[stamp] for stamp in sorted(found)]


def generation_of(path: str) -> str:
    """A rotated file's name with or without `.gz`: the same generation."""
    return path.removesuffix(".gz")


class OpenLog:
    """One file of a log: rotation, compression and removal do not change what is read of it. `close` it."""

    __slots__ = ("fd", "path")

    def __init__(self, path: str) -> None:
        """Raises OSError where there is something else than a regular file."""
        self.path = path
        folder, name = os.path.split(path)
        with opened_folder(folder, LOG_FOLDERS) as folder_fd:
            self.fd = open_regular(name, os.O_RDONLY, folder_fd, path)

    @property
    def is_compressed(self) -> bool:
        return self.path.endswith(".gz")

    def size(self) -> int:
        return os.fstat(self.fd).st_size

    def chunks(self, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Its content in pieces that end with a newline (the last one may not). `end`: not beyond this offset."""
        return _chunks(os.dup(self.fd), self.is_compressed, start, end)

    def close(self) -> None:
        os.close(self.fd)


@contextlib.contextmanager
def at_once(path: str) -> Iterator[list[OpenLog]]:
    """The files of a log as they are at one moment, oldest first, the newest one last where there is one.

    Read one after the other by their names they would have gaps: a file that is rotated or compressed in between has
    another name. Raises OSError where there is something else than a regular file.
    """
    with contextlib.ExitStack() as opened:
        for attempts_left in range(_ATTEMPTS, 0, -1):
            files, is_one_moment = _opened(path, opened)
            if is_one_moment or attempts_left == 1:
                yield files
                return
            opened.close()


def _opened(path: str, opened: contextlib.ExitStack) -> tuple[list[OpenLog], bool]:
    """The files that could be opened, and whether none was rotated or compressed in the process."""
    found = generations(path)
    files, is_one_moment = [], True
    for name in (*found, path):
        try:
            files.append(OpenLog(name))
        except FileNotFoundError:  # of the newest: it is just being rotated, or there was no line yet
            is_one_moment = is_one_moment and name == path
        else:
            opened.callback(files[-1].close)
    return files, is_one_moment and set(map(generation_of, generations(path))) <= set(map(generation_of, found))


def chunks(path: str) -> Iterator[bytes]:
    """As `OpenLog.chunks`."""
    file = OpenLog(path)
    try:
        yield from file.chunks()
    finally:
        file.close()


def _chunks(fd: int, compressed: bool, start: int, end: int | None) -> Iterator[bytes]:
    rest = b""
    with open(fd, "rb", buffering=0) as file:
        for data in _pieces(file, compressed, start, end):
            cut = data.rfind(b"\n") + 1
            if not cut:
                rest += data
                if len(rest) > LINE_LIMIT:
                    yield rest + b"\n"
                    rest = b""
                continue
            yield rest + data[:cut] if rest else data[:cut]
            rest = data[cut:]
    if rest:
        yield rest


def _pieces(file: Any, compressed: bool, start: int, end: int | None) -> Iterator[bytes]:
    """A file's content, of a compressed one up to the first damage."""
    if not compressed:
        file.seek(start)
        while data := file.read(CHUNK if end is None else min(CHUNK, end - start)):
            start += len(data)
            yield data
        return
    file.seek(0)
    reader, damage = _gunzip(file)
    with reader as text:
        try:
            text.seek(start)
            while data := text.read(CHUNK):
                yield data
        except (EOFError, OSError, damage):  # OSError: gzip.BadGzipFile
            return


def _gunzip(file: Any) -> tuple[Any, Any]:
    """A reader of a compressed file, and its error for damage. isal takes a third of zlib's time, where it is built."""
    try:
        from isal.igzip import IGzipFile
        from isal.isal_zlib import error
    except ImportError:
        from gzip import GzipFile
        from zlib import error as zlib_error

        return GzipFile(fileobj=file, mode="rb"), zlib_error
    open_gzip: Any = IGzipFile
    return open_gzip(fileobj=file, mode="rb"), error


class History:
    """What a log holds at one moment, newest file and rotated ones: rotation and removal later do not change it."""

    def __init__(self, path: str) -> None:
        """Opens the files. Those that cannot be opened, or are no regular files, are left out."""
        self._files: list[tuple[OpenLog, int]] = []
        for name in (*generations(path), path):
            with contextlib.suppress(OSError):
                file = OpenLog(name)
                self._files.append((file, file.size()))

    def texts(self, stream: bytes) -> Iterator[bytes]:
        """What the container wrote to a stream, in pieces, none of which holds the GIL for long."""
        for file, size in self._files:
            start = 0 if file.is_compressed else max(0, size - READ_LIMIT)
            taken = 0
            for data in file.chunks(start, None if file.is_compressed else size):
                if start and not taken:  # its first line began before what is read
                    data = data[data.find(b"\n") + 1 :]
                taken += len(data) + 1
                if taken > READ_LIMIT + CHUNK:
                    break
                fields = (line.split(b" ", 3) for line in data.split(b"\n"))
                found = [
                    field[3] + (b"\n" if field[2] == b"F" else b"")
                    for field in fields
                    if len(field) == 4 and field[1] == stream
                ]
                if found:
                    yield b"".join(found)

    def close(self) -> None:
        for file, _ in self._files:
            file.close()
        self._files.clear()
