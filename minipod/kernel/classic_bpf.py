"""Classic BPF as seccomp(2) runs it (layer 1): struct sock_filter, struct seccomp_data, verdicts. No policy."""

from __future__ import annotations

import struct
from typing import NamedTuple

INSTRUCTION = struct.Struct("=HBBI")  # struct sock_filter (linux/filter.h)
MAX_INSTRUCTIONS = 4096  # BPF_MAXINSNS: the kernel takes no longer program

#: of linux/bpf_common.h; all comparisons are with the constant k
LOAD, JUMP, JUMP_EQUAL, JUMP_GREATER, JUMP_AT_LEAST, JUMP_SET, RETURN = 0x20, 0x05, 0x15, 0x25, 0x35, 0x45, 0x06

#: in struct seccomp_data (linux/seccomp.h); six arguments of 64 bits each, the lower half first
OFFSET_NUMBER, OFFSET_ARCHITECTURE, OFFSET_ARGUMENTS = 0, 4, 16

#: SECCOMP_RET_*; ERRNO and TRACE carry a number in the lower 16 bits
RET_OF_ACTION = {
    "KILL": 0x00000000, "KILL_THREAD": 0x00000000, "KILL_PROCESS": 0x80000000, "TRAP": 0x00030000,
    "ERRNO": 0x00050000, "TRACE": 0x7FF00000, "LOG": 0x7FFC0000, "ALLOW": 0x7FFF0000,
}  # fmt: skip


class Instruction(NamedTuple):
    code: int
    jt: int
    jf: int
    k: int


def packed(program: list[Instruction]) -> bytes:
    return b"".join(INSTRUCTION.pack(*instruction) for instruction in program)
