"""The standard streams of a child (layer 3): pipes of the spawner's, the request's descriptors, or /dev/null."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os

from minipod.kernel import descriptors
from minipod.runtime.spawner.inbox import close_all
from minipod.runtime.spawner.launches import STREAMS
from minipod.runtime.spawner.requests import Request

_PER_CHILD = 24  # descriptors while one starts: its pipes, its status, what the request brought
_PIPE_BYTES = 256 << 10  # what a container may write while no agent reads


def make_stdio(request: Request, named: dict[str, int], null_fd: int) -> tuple[dict[str, int], dict[str, int]]:
    """(ours, the child's) descriptors. Missing streams are /dev/null, `null_fd`. Raises OSError."""
    if why := descriptors.refusal("spawner", _PER_CHILD, descriptors.count(), descriptors.limit()):
        raise OSError(errno.EMFILE, why)
    ours: dict[str, int] = {}
    theirs: dict[str, int] = {}
    try:
        if request.stdio == "pipes":
            for name in ("stdout", "stderr"):
                ours[name], theirs[name] = _output_pipe()
            if request.stdin:
                theirs["stdin"], ours["stdin"] = os.pipe2(os.O_CLOEXEC)
        supplied = named if request.stdio == "fds" else {}
        for name in STREAMS:
            if name not in theirs:
                theirs[name] = os.dup(supplied.get(name, null_fd))
    except BaseException:  # no descriptor is free
        close_all((*ours.values(), *theirs.values()))
        raise
    return ours, theirs


def _output_pipe() -> tuple[int, int]:
    """(reading end, the child's end). The child's is for reading, too: so the pipe lives as long as the child, and a
    child whose output is not read by any process waits, and is not killed by SIGPIPE (`runtime.regained`).
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # the user's limit (pipe(7))
            fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        return reader, os.open(f"/proc/self/fd/{writer}", os.O_RDWR | os.O_CLOEXEC)
    except BaseException:
        os.close(reader)
        raise
    finally:
        os.close(writer)
