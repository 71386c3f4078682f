"""Identifies processes across the reuse of pids (layer 5): by pid and start time. Sends no signals."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable


def boot_id() -> str:
    """The kernel's id of this boot."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def identity(pid: int) -> str:
    """`<pid> <start time in ticks>`; `""` where there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            # The second field is the name, which may contain anything; the last parenthesis ends it.
            fields = stat.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    if fields[0] in (b"Z", b"X"):
        return ""
    return f"{pid} {int(fields[19])}"


def when_gone(process: str, call: Callable[[], None]) -> Callable[[], None]:
    """Calls `call` on the loop once the process with that identity has ended. Returns a function that cancels this."""
    loop = asyncio.get_running_loop()
    pid = int(process.split()[0]) if process else 0
    fd = -1
    if pid > 0:  # 0: of an earlier boot
        with contextlib.suppress(ProcessLookupError):
            fd = os.pidfd_open(pid)
    # Compared after the pidfd was opened: only then is it the pidfd of that process.
    if fd < 0 or identity(pid) != process:
        if fd >= 0:
            os.close(fd)
        return loop.call_soon(call).cancel

    def stop() -> None:
        nonlocal fd
        if fd >= 0:
            loop.remove_reader(fd)
            os.close(fd)
            fd = -1

    def ended() -> None:
        stop()
        call()

    loop.add_reader(fd, ended)
    return stop
