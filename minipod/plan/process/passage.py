"""A seccomp prefix that lets the last steps of a start pass (layer 2). Pure.

A command in a running container has its filter before it is cloned into the PID namespace, since to install it may take
CAP_SYS_ADMIN, which no process in there may have. A profile of the user's may refuse what is still to do (`CALLS`): so
it starts with a passage for those calls that carry a cookie, in an argument that the kernel does not look at. Only a
container with SYS_PTRACE can read the cookie, in a command that it has seized: its own profile cannot bind it then.
"""

from __future__ import annotations

import struct

from minipod.kernel.libc import NUMBERS

CALLS = ("clone", "setsid", "ioctl", "openat2")
#: calls have the cookie as their fifth argument
COOKIE_ARGUMENT = 4
_LOAD, _JUMP, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x05, 0x15, 0x06  # BPF_LD|BPF_W|BPF_ABS, BPF_JMP|…, BPF_RET|BPF_K
_ALLOW = 0x7FFF0000  # SECCOMP_RET_ALLOW
#: struct seccomp_data, little-endian as the known architectures are
_NUMBER, _COOKIE_LOW, _COOKIE_HIGH = 0, 16 + 8 * COOKIE_ARGUMENT, 20 + 8 * COOKIE_ARGUMENT
_COOKIE_TEST = 5  # instructions


def with_passage(program: bytes, cookie: int) -> bytes:
    """`program` (struct sock_filter …) behind instructions that allow `CALLS` with `cookie` as their fifth argument."""
    passage = _instruction(_LOAD, _NUMBER)
    for position, name in enumerate(CALLS):
        passage += _instruction(_JUMP_IF_EQUAL, NUMBERS[name], then=len(CALLS) - position)
    passage += _instruction(_JUMP, _COOKIE_TEST)
    for position, (offset, half) in enumerate(((_COOKIE_LOW, cookie & 0xFFFFFFFF), (_COOKIE_HIGH, cookie >> 32))):
        passage += _instruction(_LOAD, offset)
        passage += _instruction(_JUMP_IF_EQUAL, half, otherwise=_COOKIE_TEST - 2 * (position + 1))
    return passage + _instruction(_RETURN, _ALLOW) + program


def _instruction(code: int, value: int, *, then: int = 0, otherwise: int = 0) -> bytes:
    return struct.pack("=HBBI", code, then, otherwise, value)
