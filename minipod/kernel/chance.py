"""Random numbers that cannot be guessed (layer 1), by getrandom(2). `secrets` would load hashlib and libcrypto."""

from __future__ import annotations

import os


def random_hex(size: int) -> str:
    """`size` random bytes as hex digits."""
    return os.urandom(size).hex()


def random_bits(count: int) -> int:
    """A random number of `count` bits, a multiple of eight."""
    return int.from_bytes(os.urandom(count // 8), "big")


def random_below(limit: int) -> int:
    """A random number in [0, limit), uniform to one part in 2**64."""
    return int.from_bytes(os.urandom(8 + limit.bit_length() // 8), "big") % limit
