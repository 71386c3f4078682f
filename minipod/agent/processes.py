"""Which process is which, over a pid's reuse (layer 5): identity by start time, the end by pidfd. Signals nothing."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable


def boot_id() -> str:
    """Differs after every boot."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def identity(pid: int) -> str:
    """`<pid> <start time in ticks>`; empty where there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            # The second field is a name that may hold anything; what follows its last parenthesis is regular.
            fields = stat.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    if fields[0] in (b"Z", b"X"):
        return ""
    return f"{pid} {int(fields[19])}"


def when_gone(who: str, call: Callable[[], None]) -> Callable[[], None]:
    """Calls `call` on the loop once the process of that identity has ended (soon, if it has). Returns the way out."""
    loop = asyncio.get_running_loop()
    pid = int(who.split()[0]) if who else 0
    fd = -1
    if who:
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            fd = -1
    # Only after the pidfd is open does the same start time prove that it is that process.
    if fd < 0 or identity(pid) != who:
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
