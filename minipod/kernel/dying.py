"""Processes that were killed and hang in the kernel (layer 1). Imports nothing: the command line asks too."""

from __future__ import annotations

_SIGKILL = 1 << 8  # in a mask of signals


def is_being_killed(pid: int) -> bool:
    """Whether it never executes an instruction of its own again: SIGKILL has reached it, or its first thread has ended.

    What is left of it are threads that wait in the kernel for what never answers, as a hung mount. Until they end, what
    it has open stays open, and what it has locked locked. False for one that is gone.
    """
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            fields = dict(line.split(":", 1) for line in file if ":" in line)
    except OSError:
        return False
    pending = int(fields["SigPnd"], 16) | int(fields["ShdPnd"], 16)
    return fields["State"].strip()[0] in "ZX" or bool(pending & _SIGKILL)
