"""One agent per root directory (layer 7): its locks, and what a second agent does that is started at the same time.

Two commands may each start an agent. `agent.starting` is held until the control socket listens, so the second agent
sleeps in flock(2) until the first serves, and then exits: no polling. `agent.lock` is held for the agent's life; the
kernel releases it however the agent ends. The state directory has an `agent.lock` as well: two agents of different
roots with the same state would each start the pods stored there.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
from collections.abc import Iterator

from minipod.errors import HostError
from minipod.kernel.dying import is_being_killed
from minipod.paths import Paths

PATIENCE_S = 15.0


class AgentLock:
    """The locks that `acquire` took, held until the process ends. `started()` releases `agent.starting`."""

    def __init__(self, starting_fd: int, *held: int) -> None:
        self._starting_fd = starting_fd
        self._held = held

    def started(self) -> None:
        if self._starting_fd >= 0:
            os.close(self._starting_fd)
            self._starting_fd = -1

    def release(self) -> None:
        self.started()
        for fd in self._held:
            os.close(fd)
        self._held = ()


def acquire(paths: Paths) -> AgentLock | None:
    """The locks; None when another agent serves this root. Raises HostError when their holder does not answer."""
    starting_fd = _open(f"{paths.root}/agent.starting")
    lock_fd = -1
    try:
        if not _flock(starting_fd):
            raise HostError(
                f"{paths.root}: another agent has been starting for {PATIENCE_S:.0f} s: see agent.log there"
            )
        lock_fd = _taken_over(f"{paths.root}/agent.lock")
        if not _flock_now(lock_fd):
            if _answers(paths.agent_socket):
                os.close(lock_fd)
                os.close(starting_fd)
                return None
            # It is exiting: its socket is gone already, and it releases its lock within a moment.
            if not _flock(lock_fd):
                raise HostError(
                    f"{paths.root}/agent.lock: held by agent {_holder(lock_fd)}, which does not answer: end it"
                )
        _sign(lock_fd, str(os.getpid()))
        state_fd = _acquire_state(paths)
    except BaseException:
        os.close(starting_fd)
        if lock_fd >= 0:
            os.close(lock_fd)
        raise
    return AgentLock(starting_fd, lock_fd, state_fd)


def _acquire_state(paths: Paths) -> int:
    """Takes the state directory's lock. Raises HostError when the agent of another root holds it."""
    os.makedirs(paths.state, mode=0o711, exist_ok=True)
    fd = _taken_over(f"{paths.state}/agent.lock")
    if not _flock_now(fd):
        pid, _, root = _holder(fd).partition(" ")
        if root != paths.root or not _flock(fd):  # of this root: it is exiting, as above
            os.close(fd)
            raise HostError(f"{paths.state}: agent {pid} of {root} keeps its pods there: give each its own --data-dir")
    _sign(fd, f"{os.getpid()} {paths.root}")
    return fd


def _taken_over(path: str) -> int:
    """The lock file, open; another one in its place where the holder was killed and only hangs in the kernel: with a
    thread on a mount that never answers it would hold the lock for ever.
    """
    fd = _open(path)
    if _flock_now(fd):
        return fd
    pid = _holder(fd).partition(" ")[0]
    if not pid.isdigit() or not is_being_killed(int(pid)):
        return fd
    os.close(fd)
    temporary = f"{path}.{os.getpid()}"
    fd = _open(temporary)
    fcntl.flock(fd, fcntl.LOCK_EX)
    os.rename(temporary, path)
    return fd


def _sign(fd: int, text: str) -> None:
    """Writes who holds the lock, over what is there: a full disk has no room for more. The lock holds without it."""
    data = f"{text}\n".encode()
    with contextlib.suppress(OSError):
        os.pwrite(fd, data, 0)
        os.ftruncate(fd, len(data))


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise HostError(f"{path}: open: {error.strerror}: the directory must be writable") from error


def _flock_now(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _flock(fd: int) -> bool:
    """Sleeps until the lock is free, at most PATIENCE_S."""
    if _flock_now(fd):
        return True
    with _alarm(PATIENCE_S), contextlib.suppress(TimeoutError):
        fcntl.flock(fd, fcntl.LOCK_EX)
        return True
    return False


@contextlib.contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    def ring(number: int, frame: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)  # again, for one that came just before flock(2) slept
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(PATIENCE_S)
        try:
            sock.connect(path)
        except OSError:
            return False
    return True


def holder(paths: Paths) -> int:
    """The pid of the agent that holds this root's lock, as it signed; 0 where it has not."""
    fd = _open(f"{paths.root}/agent.lock")
    try:
        text = _holder(fd)
    finally:
        os.close(fd)
    return int(text) if text.isascii() and text.isdigit() else 0


def _holder(fd: int) -> str:
    return os.pread(fd, 4096, 0).decode("utf-8", "replace").strip() or "?"
