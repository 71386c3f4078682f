"""A lock between all processes of the root user on this host (layer 1): a file that only root can open. No policy.

Any process may flock(2) a namespace's file, a directory or a file that it can read, for as long as it likes. This lock
is a file of its own with mode 0600, created and removed with the lock, in a directory that only root may write to.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from minipod.errors import HostError

FOLDER = "/run"
PATIENCE_S = 60.0  # usually milliseconds; seconds while the kernel removes hundreds of network namespaces

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.0005, 0.02
_OPEN = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC

_held = threading.local()


@contextmanager
def host_lock(patience_s: float = PATIENCE_S) -> Iterator[int]:
    """Excludes every other holder in the same network namespace, whatever its --run-dir; reentrant in a thread.

    Yields the inode number of the namespace, which is in the lock's name: instances that share the network also share
    /run. Waits at most `patience_s`, so never on an event loop. Raises HostError that names the holder.
    """
    if getattr(_held, "depth", 0):
        _held.depth += 1
        try:
            yield _held.inode
        finally:
            _held.depth -= 1
        return
    inode = os.stat("/proc/thread-self/ns/net").st_ino
    with root_lock(f"{FOLDER}/minipod-network-{inode}.lock", patience_s):
        _held.depth, _held.inode = 1, inode
        try:
            yield inode
        finally:
            _held.depth = 0


@contextmanager
def root_lock(path: str, patience_s: float = PATIENCE_S) -> Iterator[None]:
    """Holds the exclusive lock on the file `path`, which exists while it is held or waited for.

    Raises HostError where another process holds it for longer than `patience_s`, OSError where it cannot be made.
    """
    fd = _taken(path, time.monotonic() + patience_s, patience_s)
    try:
        yield
    finally:
        with suppress(OSError):
            os.unlink(path)  # before its release: a process that waits for this file creates a new one
        os.close(fd)


def _taken(path: str, until: float, patience_s: float) -> int:
    """A descriptor that holds the lock. Polls, because a wait in flock(2) has no timeout and cannot be cancelled."""
    pause_s = _FIRST_PAUSE_S
    while True:
        fd = os.open(path, _OPEN, 0o600)
        try:
            locked = _flock_now(fd)
            if locked and _is_at(fd, path):
                return fd
            if not locked and time.monotonic() >= until:
                raise HostError(
                    f"{path}: not free within {patience_s:g} s: {holder(os.fstat(fd))} holds this lock: end it, "
                    "then try again"
                )
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        if not locked:
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _flock_now(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno != errno.EWOULDBLOCK:
            raise
        return False
    return True


def _is_at(fd: int, path: str) -> bool:
    """Whether `path` still names this file: the previous holder may have removed it after it was opened."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


def holder(file: os.stat_result) -> str:
    """The process that holds a lock on the file, as `process 12 (name)`; from /proc/locks (proc_locks(5))."""
    wanted = f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}:{file.st_ino}"
    with open("/proc/locks", encoding="ascii") as locks:
        for line in locks:
            fields = line.split()
            if len(fields) > 5 and fields[1] != "->" and fields[5] == wanted:
                return f"process {fields[4]}{_name_of(fields[4])}"
    return "another process"


def _name_of(pid: str) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return f" ({file.read().strip()})"
    except OSError:
        return ""
