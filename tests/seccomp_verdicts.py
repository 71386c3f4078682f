"""What a compiled seccomp filter says to a system call: classic BPF, interpreted; no kernel needed."""

from __future__ import annotations

import struct
from functools import lru_cache

X86_64, X86, OTHER = 0xC000003E, 0x40000003, 0xC00000B7
X32_BIT = 0x40000000
ALLOW, EPERM, ENOSYS = 0x7FFF0000, 0x00050001, 0x00050026
Program = tuple[tuple[int, int, int, int], ...]


def verdict_of(program: bytes, architecture: int, number: int, *arguments: int) -> int:
    """SECCOMP_RET_* with its number; arguments that are left out are 0."""
    padded = (*arguments, *(0,) * (6 - len(arguments)))
    return _run(_unpacked(program), struct.pack("=IIQ6Q", number, architecture, 0, *padded))


@lru_cache(maxsize=8)
def _unpacked(program: bytes) -> Program:
    return tuple(struct.Struct("=HBBI").iter_unpack(program))


def _run(program: Program, data: bytes) -> int:
    """Classic BPF as seccomp(2) has it, as far as libseccomp uses it."""
    at = loaded = 0
    while True:
        code, jt, jf, k = program[at]
        at += 1
        match code:
            case 0x06:
                return k
            case 0x20:
                (loaded,) = struct.unpack_from("=I", data, k)
            case 0x54:
                loaded &= k
            case 0x05:
                at += k
            case 0x15 | 0x25 | 0x35 | 0x45:
                holds = {0x15: loaded == k, 0x25: loaded > k, 0x35: loaded >= k, 0x45: bool(loaded & k)}[code]
                at += jt if holds else jf
            case _:
                raise NotImplementedError(hex(code))
