"""Programs that make one system call after the other by each of x86's three sets of numbers.

Straight machine code, no C library: `syscall` with x86_64's or x32's numbers, `int 0x80` with i386's, in an ELF of 64
or of 32 bits. The exit status is 0 where every call ended as it is to end, else the place of the first that did not.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Sequence
from typing import NamedTuple

X32_BIT = 0x40000000
_BASE = 0x400000
_NUMBER_64, _ARGUMENTS_64 = b"\x48\xb8", (b"\x48\xbf", b"\x48\xbe", b"\x48\xba", b"\x49\xba", b"\x49\xb8", b"\x49\xb9")
_NUMBER_32, _ARGUMENTS_32 = b"\xb8", (b"\xbb", b"\xb9", b"\xba", b"\xbe", b"\xbf", b"\xbd")
_SYSCALL, _INT_80 = b"\x0f\x05", b"\xcd\x80"


class AbiCall(NamedTuple):
    """`fails_with` an errno, or must succeed (None). An argument of bytes is a pointer to them."""

    what: str
    i386: bool
    number: int
    arguments: tuple[int | bytes, ...] = ()
    fails_with: int | None = errno.EPERM


def x86_64(what: str, number: int, *arguments: int | bytes, fails_with: int | None = errno.EPERM) -> AbiCall:
    return AbiCall(what, False, number, arguments, fails_with)


def x32(what: str, number: int, *arguments: int | bytes) -> AbiCall:
    return AbiCall(f"{what} (x32)", False, X32_BIT | number, arguments, errno.ENOSYS)


def i386(what: str, number: int, *arguments: int | bytes, fails_with: int | None = errno.EPERM) -> AbiCall:
    return AbiCall(f"{what} (i386)", True, number, arguments, fails_with)


def program_of(calls: Sequence[AbiCall], bits: int = 64) -> bytes:
    """A static ELF. At most 254 calls; one of 32 bits makes i386's only."""
    assert len(calls) < 255
    assert bits == 64 or all(call.i386 for call in calls)
    headers = 64 + 56 if bits == 64 else 52 + 32
    data, places = bytearray(), {}
    for number, call in enumerate(calls):
        for index, argument in enumerate(call.arguments):
            if isinstance(argument, bytes):
                places[number, index] = _BASE + headers + len(data)
                data += argument + bytes(-len(argument) % 8)
    code = b""
    for number, call in enumerate(calls):
        values = [places.get((number, index), value) for index, value in enumerate(call.arguments)]
        code += _called(call, [value for value in values if isinstance(value, int)]) + _checked(call, number + 1, bits)
    code += _exit(0, bits)
    return _elf(bits, headers, bytes(data), code)


def _called(call: AbiCall, values: Sequence[int]) -> bytes:
    if call.i386:
        loaded = [(_NUMBER_32, call.number), *zip(_ARGUMENTS_32, values, strict=False)]
        return b"".join(opcode + struct.pack("<I", value & 0xFFFFFFFF) for opcode, value in loaded) + _INT_80
    loaded = [(_NUMBER_64, call.number), *zip(_ARGUMENTS_64, values, strict=False)]
    return b"".join(opcode + struct.pack("<Q", value & 0xFFFFFFFFFFFFFFFF) for opcode, value in loaded) + _SYSCALL


def _checked(call: AbiCall, place: int, bits: int) -> bytes:
    failure = _exit(place, bits)
    if call.fails_with is None:
        return b"\x85\xc0\x79" + bytes([len(failure)]) + failure  # test eax,eax; jns over it
    return b"\x3d" + struct.pack("<i", -call.fails_with) + b"\x74" + bytes([len(failure)]) + failure  # cmp eax; je


def _exit(status: int, bits: int) -> bytes:
    if bits == 64:
        return b"\xbf" + struct.pack("<I", status) + b"\xb8" + struct.pack("<I", 231) + _SYSCALL
    return b"\xbb" + struct.pack("<I", status) + b"\xb8" + struct.pack("<I", 1) + _INT_80


def _elf(bits: int, headers: int, data: bytes, code: bytes) -> bytes:
    size, entry = headers + len(data) + len(code), _BASE + headers + len(data)
    if bits == 64:
        header = b"\x7fELF\x02\x01\x01" + bytes(9)
        header += struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, entry, 64, 0, 0, 64, 56, 1, 0, 0, 0)
        segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000)
    else:
        header = b"\x7fELF\x01\x01\x01" + bytes(9)
        header += struct.pack("<HHIIIIIHHHHHH", 2, 3, 1, entry, 52, 0, 0, 52, 32, 1, 0, 0, 0)
        segment = struct.pack("<IIIIIIII", 1, 0, _BASE, _BASE, size, size, 5, 0x1000)
    return header + segment + data + code
