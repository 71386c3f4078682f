"""Starts and stops the answerer (layer 2). Imports little; knows neither pods nor what is in the table.

`<directory>/<version>.running` is locked as long as the answerer of that version runs: it has inherited the descriptor,
and nothing else has it. So a file that a killed process left means nothing, and no pid is trusted that is another's by
now. The first line of the file is the ports, by "udp4", "tcp4", "udp6" and "tcp6"; the second its pid.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Sequence

from minipod.kernel.process import reap_ended
from minipod.kernel.remove import remove_tree
from minipod.kernel.reuseport import by_source

LOG = "answerer.log"
_SUFFIX = ".running"
#: sockets of each port: the pods have one for each of their addresses' last bits, so that one that floods its own takes
#: no place of the others'
SHARES = 32
_RECEIVE_BYTES = 1 << 18  # what waits in each, while it starts for instance
_SO_RCVBUFFORCE = 33
_IP_FREEBIND, _IPV6_FREEBIND = 15, 78
_FREEBIND = {socket.AF_INET: (socket.IPPROTO_IP, _IP_FREEBIND), socket.AF_INET6: (socket.IPPROTO_IPV6, _IPV6_FREEBIND)}
_KINDS = {"udp": socket.SOCK_DGRAM, "tcp": socket.SOCK_STREAM}
_BACKLOG = 128
_PID_S = 5.0  # how long a process that has just been started takes to write its pid, at most
_END_S = 5.0

_started: list[int] = []  # pids of our children


def ports(directory: str, version: str) -> dict[str, int] | None:
    """The ports of the answerer that runs; None where none does."""
    found = _running(f"{directory}/{version}{_SUFFIX}")
    return None if found is None else dict(json.loads(found[0]))


def start(directory: str, version: str, addresses: Sequence[str]) -> dict[str, int]:
    """Starts one that answers at `addresses`, at ports that the kernel chooses; they take questions at once.

    Returns the ports. Where one of this version runs already: its ports. Raises OSError.
    """
    os.makedirs(directory, mode=0o711, exist_ok=True)
    path = f"{directory}/{version}{_SUFFIX}"
    with contextlib.ExitStack() as opened:
        lock_fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        opened.callback(os.close, lock_fd)
        if not _lock(lock_fd):
            return dict(ports(directory, version) or {})
        sockets: dict[str, list[socket.socket]] = {}
        for address in addresses:
            for name, kind in _KINDS.items():
                made = sockets[f"{name}{6 if ':' in address else 4}"] = []
                for _ in range(SHARES):
                    port = made[0].getsockname()[1] if made else 0
                    made.append(opened.enter_context(_listening(kind, address, port)))
                by_source(made[0], SHARES)
        chosen = {name: made[0].getsockname()[1] for name, made in sockets.items()}
        os.ftruncate(lock_fd, 0)
        os.write(lock_fd, json.dumps(chosen).encode() + b"\n")
        _spawn(directory, lock_fd, {name: [each.fileno() for each in made] for name, made in sockets.items()})
        return chosen


def stop(directory: str) -> None:
    """Ends all of them, whatever their version, and removes the directory. Idempotent. Raises OSError."""
    for path in _files(directory):
        _end(path, signal.SIGKILL)
    reap()
    if os.path.isdir(directory):
        remove_tree(directory)


def retire(directory: str, version: str) -> None:
    """Ends those of other versions once they have answered what is under way to them."""
    for path in _files(directory):
        if path != f"{directory}/{version}{_SUFFIX}":
            _end(path, signal.SIGTERM)
            os.unlink(path)


def is_there(directory: str) -> bool:
    """Whether one runs, of any version."""
    return any(_running(path) is not None for path in _files(directory))


def reap() -> None:
    """Reap those that have ended: they are this process' children."""
    reap_ended(_started)


def _listening(kind: int, address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    made = socket.socket(family, kind | socket.SOCK_CLOEXEC)
    try:
        made.setsockopt(*_FREEBIND[family], 1)  # also where the bridge is not quite up
        if kind == socket.SOCK_DGRAM:
            made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BYTES)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind((address, port))
        if kind == socket.SOCK_STREAM:
            made.listen(_BACKLOG)
    except BaseException:
        made.close()
        raise
    return made


def _spawn(directory: str, lock_fd: int, places: dict[str, list[int]]) -> None:
    code = (
        f"import sys; sys.path[:] = {sys.path!r}; from minipod.names.program import main; "
        f"main({directory!r}, {lock_fd}, {places!r})"
    )
    kept = (lock_fd, *(fd for fds in places.values() for fd in fds))
    log = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND
    pid = os.posix_spawn(
        sys.executable,
        [sys.executable, "-I", "-S", "-X", "frozen_modules=on", "-c", code],
        {"PATH": os.defpath, "LANG": "C.UTF-8"},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, f"{directory}/{LOG}", log, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
            # onto itself: it stays open (posix_spawn_file_actions_adddup2(3))
            *((os.POSIX_SPAWN_DUP2, fd, fd) for fd in kept),
        ],
        setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),  # Python ignores them
    )
    _started.append(pid)


def _files(directory: str) -> list[str]:
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    return [f"{directory}/{name}" for name in names if name.endswith(_SUFFIX)]


def _lock(fd: int, kind: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _running(path: str) -> list[bytes] | None:
    """The lines of the file of one that runs; None where none does."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        return None if _lock(fd, fcntl.LOCK_SH) else os.read(fd, 4096).splitlines()
    finally:
        os.close(fd)


def _end(path: str, number: signal.Signals) -> None:
    """Sends the signal; waits for the end where it is SIGKILL. Raises OSError."""
    until = time.monotonic() + _PID_S
    while (lines := _running(path)) is not None:
        if len(lines) > 1:
            break
        if time.monotonic() > until:
            raise TimeoutError(f"{path}: the answerer that holds it has not written its pid")
        time.sleep(0.002)
    else:
        return
    try:
        pidfd = os.pidfd_open(int(lines[1]))
    except ProcessLookupError:
        return
    try:
        if _running(path) is None:  # it has ended, and the pid may be another's
            return
        signal.pidfd_send_signal(pidfd, number)
        if number == signal.SIGKILL and not select.select([pidfd], [], [], _END_S)[0]:
            raise TimeoutError(f"{path}: process {lines[1].decode()} does not end")
    except ProcessLookupError:
        pass
    finally:
        os.close(pidfd)
