"""This process' own memory (layer 1). No policy."""

from __future__ import annotations

from minipod.kernel.libc import c_ulong, libc


def give_back() -> None:
    """To the kernel what malloc keeps for later (malloc_trim(3)): after the imports about half a megabyte.

    Nothing happens with another C library than glibc.
    """
    trim = getattr(libc, "malloc_trim", None)
    if trim is not None:
        trim(c_ulong(0))
