"""Asks what the kernel and the libraries can do (layer 1), for `minipod check`. Changes nothing."""

from __future__ import annotations

import ctypes
import errno


def has_system_call(number: int) -> bool | None:
    """Whether the kernel knows a system call; None where a filter forbids to ask.

    Called with arguments that cannot succeed: only ENOSYS says that it is not there (Linux, syscalls(2)).
    """
    library = ctypes.CDLL(None, use_errno=True)
    library.syscall.restype = ctypes.c_long
    if library.syscall(ctypes.c_long(number), *[ctypes.c_long(-1)] * 5) >= 0:
        return True
    code = ctypes.get_errno()
    return None if code == errno.EPERM else code != errno.ENOSYS


def can_load(library: str) -> bool:
    """Whether a shared library can be loaded by its soname."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
