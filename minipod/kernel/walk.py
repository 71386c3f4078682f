"""Walks trees that a container could write to (layer 1): by descriptors, crossing no mount, following no link."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

from minipod.kernel.path import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, RESOLVE_NO_XDEV, openat2

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_RESOLVE = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV


@contextlib.contextmanager
def opened_folder(path: str) -> Iterator[int]:
    """A descriptor by which the directory can be listed. Raises OSError."""
    fd = os.open(path, _FOLDER)
    try:
        yield fd
    finally:
        os.close(fd)


def walk(top_fd: int, visit: Callable[[int, str], bool]) -> None:
    """Calls `visit(folder_fd, name)` for everything below `top_fd`; it returns whether that is a directory to enter.

    What vanishes or is replaced during the walk is skipped.
    """
    waiting = ["."]
    while waiting:
        folder = waiting.pop()
        try:
            fd = openat2(top_fd, folder, _FOLDER, 0, _RESOLVE)
        except OSError:
            continue
        try:
            waiting += [f"{folder}/{name}" for name in os.listdir(fd) if visit(fd, name)]
        finally:
            os.close(fd)
