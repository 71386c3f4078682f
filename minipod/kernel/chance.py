"""What nobody can guess (layer 1), from getrandom(2). `secrets` would load hmac, hashlib and OpenSSL's libcrypto."""

from __future__ import annotations

import os


def random_hex(size: int) -> str:
    """Two digits a byte."""
    return os.urandom(size).hex()


def random_bits(count: int) -> int:
    """`count`: a multiple of eight."""
    return int.from_bytes(os.urandom(count // 8), "big")


def random_below(limit: int) -> int:
    """Each number as likely as the next, to one part in 2**64."""
    return int.from_bytes(os.urandom(8 + limit.bit_length() // 8), "big") % limit
