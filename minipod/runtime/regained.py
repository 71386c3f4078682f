"""Finds the output pipes of a container again that no process of ours holds any more (layer 3). Changes nothing.

A container's stdout and stderr are pipes that it has open for reading, too, so a pipe lives as long as the container:
when agent and spawner die at once, it neither gets SIGPIPE nor loses what is in the pipe, and waits where that is full.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Mapping


def pipe_numbers(fds: Mapping[str, int]) -> dict[str, int]:
    """The inode of each stream's pipe, as `regained` finds it."""
    return {name: os.fstat(fd).st_ino for name, fd in fds.items() if name in ("stdout", "stderr")}


def regained(pids: Iterable[int], numbers: Mapping[str, int]) -> dict[str, int]:
    """New reading ends by stream, as far as a process still has the pipe: `pids` are all processes of the container."""
    found: dict[str, int] = {}
    names = {number: name for name, number in numbers.items()}
    for pid in pids:
        with contextlib.suppress(OSError):  # it has ended
            for fd in os.listdir(f"/proc/{pid}/fd"):
                if len(found) == len(names):
                    return found
                number = _pipe_number(f"/proc/{pid}/fd/{fd}")
                if number in names and names[number] not in found:
                    with contextlib.suppress(OSError):
                        found[names[number]] = _reader(f"/proc/{pid}/fd/{fd}", number)
    return found


def _pipe_number(link: str) -> int:
    with contextlib.suppress(OSError, ValueError):
        return int(os.readlink(link).removeprefix("pipe:[").removesuffix("]"))
    return 0


def _reader(link: str, number: int) -> int:
    """Raises OSError. Nothing is opened but that pipe: the process may have replaced its descriptor since."""
    place_fd = os.open(link, os.O_PATH | os.O_CLOEXEC)
    try:
        found = os.fstat(place_fd)
        if not stat.S_ISFIFO(found.st_mode) or found.st_ino != number:
            raise FileNotFoundError(link)
        return os.open(f"/proc/self/fd/{place_fd}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    finally:
        os.close(place_fd)
