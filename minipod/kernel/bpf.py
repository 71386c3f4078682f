"""bpf(2) (layer 1): the one kind of program that is needed, which devices a cgroup2 group may use. No policy.

Cgroup v2 has no devices controller; a program of type BPF_PROG_TYPE_CGROUP_DEVICE on the group answers instead
(admin-guide/cgroup-v2.rst, "Device controller"; include/uapi/linux/bpf.h).
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Sequence

import msgspec

from minipod.kernel.libc import syscall

_BPF_PROG_LOAD = 5
_BPF_PROG_ATTACH = 8
_BPF_PROG_TYPE_CGROUP_DEVICE = 15
_BPF_CGROUP_DEVICE = 6
_BPF_F_ALLOW_MULTI = 2

_TYPES = {"b": 1, "c": 2}  # BPF_DEVCG_DEV_BLOCK, BPF_DEVCG_DEV_CHAR
_ACCESS = {"m": 1, "r": 2, "w": 4}  # BPF_DEVCG_ACC_MKNOD, _READ, _WRITE

# opcodes (Documentation/bpf/standardization/instruction-set.rst)
_LOAD_WORD = 0x61  # dst = *(u32 *)(src + off)
_AND_IMM, _RSH_IMM, _MOV_REG, _MOV_IMM = 0x54, 0x74, 0xBC, 0xB4  # 32 bits
_JNE_IMM, _JNE_REG, _EXIT = 0x55, 0x5D, 0x95


class DeviceRule(msgspec.Struct, frozen=True):
    """What is allowed: `type` c or b, numbers (None: any), `access` of the letters r, w, m (mknod)."""

    type: str
    major: int | None
    minor: int | None
    access: str

    def __str__(self) -> str:
        """As cgroup v1's devices.allow takes it: `c 1:3 rwm`."""
        major, minor = ("*" if n is None else n for n in (self.major, self.minor))
        return f"{self.type} {major}:{minor} {self.access}"


class _LoadAttr(ctypes.Structure):
    """union bpf_attr of BPF_PROG_LOAD, its first fields; the kernel takes the rest as zero."""

    _fields_ = (
        ("prog_type", ctypes.c_uint32),
        ("insn_cnt", ctypes.c_uint32),
        ("insns", ctypes.c_uint64),
        ("license", ctypes.c_uint64),
        ("log_level", ctypes.c_uint32),
        ("log_size", ctypes.c_uint32),
        ("log_buf", ctypes.c_uint64),
    )


class _AttachAttr(ctypes.Structure):
    """union bpf_attr of BPF_PROG_ATTACH."""

    _fields_ = (
        ("target_fd", ctypes.c_uint32),
        ("attach_bpf_fd", ctypes.c_uint32),
        ("attach_type", ctypes.c_uint32),
        ("attach_flags", ctypes.c_uint32),
    )


def _instruction(code: int, dst: int = 0, src: int = 0, offset: int = 0, immediate: int = 0) -> bytes:
    return struct.pack("<BBhi", code, src << 4 | dst, offset, immediate)


def device_program(rules: Sequence[DeviceRule]) -> bytes:
    """Instructions that allow what one of `rules` allows, and nothing else.

    The context is struct bpf_cgroup_dev_ctx: access << 16 | type, major, minor, in registers 3 and 2, 4, 5 here.
    """
    program = [
        _instruction(_LOAD_WORD, dst=2, src=1, offset=0),
        _instruction(_MOV_REG, dst=3, src=2),
        _instruction(_AND_IMM, dst=2, immediate=0xFFFF),
        _instruction(_RSH_IMM, dst=3, immediate=16),
        _instruction(_LOAD_WORD, dst=4, src=1, offset=4),
        _instruction(_LOAD_WORD, dst=5, src=1, offset=8),
    ]
    for rule in rules:
        program += _rule(rule)
    program += [_instruction(_MOV_IMM, dst=0, immediate=0), _instruction(_EXIT)]
    return b"".join(program)


def _rule(rule: DeviceRule) -> list[bytes]:
    """Jumps over its own end unless everything matches; the offsets are filled in when the length is known."""
    allowed = sum(_ACCESS[letter] for letter in set(rule.access))
    tests: list[tuple[int, int, int, int]] = [(_JNE_IMM, 2, 0, _TYPES[rule.type])]
    tests += [(_JNE_IMM, 4, 0, rule.major)] if rule.major is not None else []
    tests += [(_JNE_IMM, 5, 0, rule.minor)] if rule.minor is not None else []
    wanted_only = [_instruction(_MOV_REG, dst=6, src=3), _instruction(_AND_IMM, dst=6, immediate=allowed)]
    length = len(tests) + len(wanted_only) + 1 + 2
    code = [
        _instruction(op, dst=dst, src=src, offset=length - index - 1, immediate=value)
        for index, (op, dst, src, value) in enumerate(tests)
    ]
    code += wanted_only
    code.append(_instruction(_JNE_REG, dst=6, src=3, offset=2))
    return [*code, _instruction(_MOV_IMM, dst=0, immediate=1), _instruction(_EXIT)]


def attach_device_program(directory: str, program: bytes) -> None:
    """Load and attach to the cgroup2 group; it stays until the group is removed. Raises OSError."""
    instructions = ctypes.create_string_buffer(program, len(program))
    license_name = ctypes.create_string_buffer(b"Apache-2.0")
    load = _LoadAttr(
        prog_type=_BPF_PROG_TYPE_CGROUP_DEVICE,
        insn_cnt=len(program) // 8,
        insns=ctypes.addressof(instructions),
        license=ctypes.addressof(license_name),
    )
    program_fd = syscall("bpf", _BPF_PROG_LOAD, ctypes.byref(load), ctypes.sizeof(load), what="device program")
    try:
        group_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            attach = _AttachAttr(group_fd, program_fd, _BPF_CGROUP_DEVICE, _BPF_F_ALLOW_MULTI)
            syscall("bpf", _BPF_PROG_ATTACH, ctypes.byref(attach), ctypes.sizeof(attach), what=directory)
        finally:
            os.close(group_fd)
    finally:
        os.close(program_fd)
