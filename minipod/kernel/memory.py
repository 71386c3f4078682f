"""This process' own memory (layer 1). No policy. With another C library than glibc nothing happens."""

from __future__ import annotations

from minipod.kernel.libc import c_int, c_ulong, libc

_M_ARENA_MAX = -8


def one_arena() -> None:
    """One heap for all threads (mallopt(3)), where each would have its own, and keep what it once had.

    Called before the first thread. They wait for each other's malloc hardly ever: Python has a lock of its own.
    """
    options = getattr(libc, "mallopt", None)
    if options is not None:
        options(c_int(_M_ARENA_MAX), c_int(1))


def give_back() -> None:
    """To the kernel what malloc keeps for later (malloc_trim(3)), in one to five milliseconds."""
    trim = getattr(libc, "malloc_trim", None)
    if trim is not None:
        trim(c_ulong(0))
