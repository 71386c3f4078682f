"""Reads logs in CRI's format, also rotated and compressed ones (layer 3). Imports little: the command line uses it too.

A line is `<RFC 3339 time> stdout|stderr P|F <text>`; P: the next line of the same stream continues it
(cri-api's logs format).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, BinaryIO

from minipod.kernel.regular import open_regular, opened_folder
from minipod.paths import LOG_FOLDERS

CHUNK = 1 << 16  # larger ones leave the processor's cache between being read and being used: a third of the speed
READ_LIMIT = 64 << 20  # of a file of a `History`: a pod with a hostPath to it may have made it of any size
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


def open_log(path: str) -> int:
    """A descriptor of a log file. Raises OSError where there is something else than a regular file."""
    folder, name = os.path.split(path)
    with opened_folder(folder, LOG_FOLDERS) as folder_fd:
        return open_regular(name, os.O_RDONLY, folder_fd, path)


def chunks(path: str, start: int = 0) -> Iterator[bytes]:
    """A file's content in pieces that end with a newline (the last one may not); nothing where it is gone.

    Raises OSError where there is something else than a regular file.
    """
    try:
        fd = open_log(path)
    except FileNotFoundError:
        return
    yield from chunks_of(fd, path.endswith(".gz"), start)


def chunks_of(fd: int, compressed: bool, start: int = 0, end: int | None = None) -> Iterator[bytes]:
    """The same of an open file, which is closed at the end. `end`: not beyond this offset."""
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
        self._files: list[tuple[BinaryIO, bool, int]] = []
        for name in (*generations(path), path):
            try:
                file = open(open_log(name), "rb", buffering=0)  # noqa: SIM115 - closed by `pieces` or `close`
            except OSError:
                continue
            self._files.append((file, name.endswith(".gz"), os.fstat(file.fileno()).st_size))

    def texts(self, stream: bytes) -> Iterator[bytes]:
        """What the container wrote to a stream, in pieces, none of which holds the GIL for long."""
        for file, compressed, size in self._files:
            start = 0 if compressed else max(0, size - READ_LIMIT)
            taken = 0
            for data in chunks_of(os.dup(file.fileno()), compressed, start, None if compressed else size):
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
        for file, _, _ in self._files:
            file.close()
        self._files.clear()
