"""Everything that was started from here, orphans too: this process is their subreaper (prctl(2))."""

from __future__ import annotations

import contextlib
import os
import signal
import time

import psutil

from tests.leaks import command_of, wait_until_gone
from tests.tools import DidNotRunError


def wait_and_reap(pid: int, deadline: float) -> int:
    """The exit status of this child (time.monotonic for the deadline); orphans are reaped as init would."""

    def expired(*_: object) -> None:
        raise DidNotRunError("the tests did not end in time (--time-limit)")

    before = signal.signal(signal.SIGALRM, expired)
    signal.setitimer(signal.ITIMER_REAL, max(deadline - time.monotonic(), 0.001))
    try:
        while True:
            ended, status = os.wait()
            if ended == pid:
                return os.waitstatus_to_exitcode(status)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def end_descendants() -> list[str]:
    """Ends what still runs after a while; says what that was."""
    left = [f"process {pid} ({command_of(pid)})" for pid in wait_until_gone(living_descendants)]
    while pids := living_descendants():
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)  # the kernel takes them away in its own time
    return left


def living_descendants() -> list[int]:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    return [child.pid for child in psutil.Process().children(recursive=True)]
