"""Starts a spawner (layer 3). Imports little: the agent starts it first and imports the rest while it starts."""

from __future__ import annotations

import os
import signal
import socket
import sys

from minipod import failpoint
from minipod.kernel import mount
from minipod.kernel.process import reap_ended

_AT_FDCWD = -100
_started: list[int] = []  # pids of our children


def start_spawner(socket_path: str, exits: str) -> None:
    """Start a spawner that listens at `socket_path`. The agent can connect to it at once.

    It runs from a detached read-only mount of the interpreter: whatever a container makes of its parent's
    /proc/self/exe, it cannot be written to (CVE-2019-5736).
    """
    os.makedirs(os.path.dirname(socket_path), mode=0o700, exist_ok=True)
    os.makedirs(exits, mode=0o700, exist_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    temporary = f"{socket_path}.{os.getpid()}"
    listener.bind(temporary)
    os.chmod(temporary, 0o600)
    listener.listen(4)
    os.rename(temporary, socket_path)
    code = (
        f"import sys; sys.path[:] = {sys.path!r}; from minipod.runtime.spawner import light; light.install(); "
        "from minipod.runtime.spawner import group; "
        f"from minipod.runtime.spawner.program import main; main({listener.fileno()}, {exits!r}); "
        "group.leave()"
    )
    interpreter = _read_only_interpreter()
    try:
        pid = os.posix_spawn(
            f"/proc/self/fd/{interpreter}",
            [sys.executable, "-I", "-S", "-X", "frozen_modules=on", "-c", code],
            {"PATH": os.defpath, "LANG": "C.UTF-8", **failpoint.environment()},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                # onto itself: it stays open (posix_spawn_file_actions_adddup2(3))
                *((os.POSIX_SPAWN_DUP2, fd, fd) for fd in (listener.fileno(), interpreter)),
            ],
            setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),  # Python ignores them
        )
        _started.append(pid)
    finally:
        os.close(interpreter)
        listener.close()


def reap() -> None:
    """Reap the spawners that have ended: they are this process' children."""
    reap_ended(_started)


def _read_only_interpreter() -> int:
    path = os.path.realpath(sys.executable)
    try:
        fd = mount.open_tree(_AT_FDCWD, path, mount.OPEN_TREE_CLONE)
        mount.mount_setattr(fd, attr_set=mount.MOUNT_ATTR_RDONLY)
    except OSError:  # before Linux 5.12
        return os.open(path, os.O_PATH | os.O_CLOEXEC)
    return fd
