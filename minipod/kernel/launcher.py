"""A program that only makes the system calls it is built with, one after the other (layer 1). No policy.

A fork of Python copies and touches hundreds of pages before it gets to exec. This program is one page and its table,
so what system calls alone can do is started by it in a fraction of the time, and without anything of the
parent's memory: docs/decisions/033-commands-are-launched-by-a-table.md.

Where a call fails that must not, it writes `REPORT` (result, address of the call) to descriptor 3 and exits.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import socket
import struct
from collections.abc import Sequence
from typing import NamedTuple

from minipod.kernel.libc import MACHINE, NUMBERS

REPORT = struct.Struct("=qQ")
REPORT_FD = 3

#: The table follows the code; what it does, the same on both:
#: next:    load number and arguments from the entry; a number below 0: compare; else make the call
#: decide:  result 0: go to the entry after it; above 0: `then` further; below: `otherwise`; by nothing: report
#: report:  write(3, {result, entry}, 16); exit_group(0 or, where it failed, 255)
#: compare: the third argument's number of bytes at the first two; result 0 where they are equal, else -1
_CODE = {
    "x86_64": bytes.fromhex(
        "488d1d69000000"  # lea rbx,[rip+table]
        "488b03 488b7b08 488b7310 488b5318 4c8b5320 4c8b4328 4c8b4b30"  # next: mov rax rdi rsi rdx r10 r8 r9,[rbx+…]
        "4885c0 7837 0f05"  # test rax,rax; js compare; syscall
        "b940000000 4885c0 7408"  # decide: mov ecx,64; test rax,rax; je go
        "8b4b38 7903 8b4b3c"  # mov ecx,[rbx+56]; jns go; mov ecx,[rbx+60]
        "4801cb e302 ebc5"  # go: add rbx,rcx; jrcxz report; jmp next
        "53 50 4889e6 6a105a 6a035f 6a0158 0f05"  # report: push rbx; push rax; rsi=rsp rdx=16 rdi=3 rax=1; syscall
        "5f 48c1ff3f b8e7000000 0f05"  # pop rdi; sar rdi,63; mov eax,231; syscall
        "4889d1 f3a6 0f95c0 0fb6c0 48f7d8 ebbb"  # compare: mov rcx,rdx; repe cmpsb; rax = -(not equal); jmp decide
        "6690"  # nop
    ),
    "aarch64": b"".join(
        word.to_bytes(4, "little")
        for word in (
            *(0x10000493,),  # adr x19,table
            *(0xF9400268, 0xA9408660, 0xA9418E62, 0xA9429664),  # next: ldr x8,[x19]; ldp x0,x1 x2,x3 x4,x5
            *(0xB7F80288, 0xD4000001),  # tbnz x8,63,compare; svc 0
            *(0x52800809, 0xB4000080),  # decide: mov w9,64; cbz x0,go
            *(0xB9403A69, 0xB6F80040, 0xB9403E69),  # ldr w9,[x19,56]; tbz x0,63,go; ldr w9,[x19,60]
            *(0x34000069, 0x8B090273, 0x17FFFFF3),  # go: cbz w9,report; add x19,x19,x9; b next
            *(0xA9BF4FE0, 0xD2800060, 0x910003E1, 0xD2800202),  # report: stp x0,x19,[sp,-16]!; x0=3 x1=sp x2=16
            *(0xD2800808, 0xD4000001, 0xF94003E0, 0x937FFC00),  # mov x8,64; svc 0; ldr x0,[sp]; asr x0,x0,63
            *(0xD2800BC8, 0xD4000001),  # mov x8,94; svc 0
            *(0xB4000102, 0x38401409, 0x3840142A, 0xD1000442),  # compare: cbz x2,equal; ldrb w9,[x0],1 w10,[x1],1; x2-1
            *(0x6B0A013F, 0x54FFFF60, 0x92800000, 0x17FFFFE7),  # cmp w9,w10; beq compare; mov x0,-1; b decide
            *(0xD2800000, 0x17FFFFE5, 0xD503201F),  # equal: mov x0,0; b decide; nop
        )
    ),
}
_MACHINE = {"x86_64": 62, "aarch64": 183}
_BASE, _HEADERS, _ENTRY = 0x400000, 64 + 56, struct.Struct("=q6QII")
_MFD_EXEC = 0x10
_COMPARE = "compare"
_MAP_FIXED = 0x10

#: a page of the program's own to receive answers in, once `scratch` was called
SCRATCH, SCRATCH_BYTES = 0x100000, 0x1000


class Filter(NamedTuple):
    """An argument: struct sock_fprog of this program (struct sock_filter …)."""

    program: bytes


class Descriptor(NamedTuple):
    """An argument: struct msghdr with this text and this descriptor (SCM_RIGHTS), for sendmsg(2)."""

    text: bytes
    fd: int


#: int: as it is. bytes: a pointer to them. tuple of bytes: a pointer to an array of pointers to strings, as execve's.
Argument = int | bytes | tuple[bytes, ...] | Filter | Descriptor


class Call(NamedTuple):
    """One system call. `then`, `otherwise`: how many calls further it goes after a result above 0 and after an error;
    0: it is reported and the program ends. After 0 the next one follows."""

    name: str
    arguments: tuple[Argument, ...]
    then: int = 1
    otherwise: int = 0


def scratch() -> Call:
    """Makes the page at `SCRATCH`."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_FIXED
    return Call("mmap", (SCRATCH, SCRATCH_BYTES, mmap.PROT_READ | mmap.PROT_WRITE, flags, -1, 0))


def compare(offset: int, expected: bytes) -> Call:
    """Fails with EPERM unless `SCRATCH` holds these bytes at `offset`."""
    return Call(_COMPARE, (SCRATCH + offset, expected, len(expected)))


def is_known(machine: str = MACHINE) -> bool:
    """Whether there is such a program for this architecture."""
    return machine in _CODE


def program(calls: Sequence[Call], machine: str = MACHINE) -> bytes:
    """A static ELF that makes these calls; the last one must not return 0."""
    code = _CODE[machine]
    table_at = _BASE + _HEADERS + len(code)
    data = _Data(table_at + len(calls) * _ENTRY.size)
    table = b"".join(_entry(call, data) for call in calls)
    size = _HEADERS + len(code) + len(table) + len(data.bytes)
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    entry = _BASE + _HEADERS
    header = ident + struct.pack("<HHIQQQIHHHHHH", 2, _MACHINE[machine], 1, entry, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000)  # PT_LOAD, read and execute
    return header + segment + code + table + bytes(data.bytes)


class _Data:
    """What the table points to, behind it."""

    def __init__(self, address: int) -> None:
        self._address = address
        self.bytes = bytearray()

    def place(self, content: bytes) -> int:
        self.bytes += bytes(-len(self.bytes) % 8)
        at = self._address + len(self.bytes)
        self.bytes += content
        return at

    def value(self, argument: Argument) -> int:
        if isinstance(argument, int):
            return argument & 0xFFFFFFFFFFFFFFFF
        if isinstance(argument, bytes):
            return self.place(argument)
        if isinstance(argument, Filter):
            return self.place(struct.pack("=H6xQ", len(argument.program) // 8, self.place(argument.program)))
        if isinstance(argument, Descriptor):
            rights = struct.pack("=QiiI4x", 20, socket.SOL_SOCKET, socket.SCM_RIGHTS, argument.fd)  # struct cmsghdr
            text = self.place(struct.pack("=QQ", self.place(argument.text), len(argument.text)))  # struct iovec
            return self.place(struct.pack("=QI4xQQQQi4x", 0, 0, text, 1, self.place(rights), len(rights), 0))
        pointers = [self.place(text + b"\0") for text in argument]
        return self.place(struct.pack(f"={len(pointers) + 1}Q", *pointers, 0))


def _entry(call: Call, data: _Data) -> bytes:
    arguments = [data.value(argument) for argument in call.arguments]
    steps = (call.then * _ENTRY.size, call.otherwise * _ENTRY.size)
    number = -1 if call.name == _COMPARE else NUMBERS[call.name]
    return _ENTRY.pack(number, *arguments, *[0] * (6 - len(arguments)), *steps)


def index_of(place: int, machine: str = MACHINE) -> int:
    """The index of the call that a `REPORT` is about."""
    return (place - _BASE - _HEADERS - len(_CODE[machine])) // _ENTRY.size


def sealed(text: bytes) -> int:
    """A descriptor of a sealed file in memory with this program, for execve(2)."""
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        fd = os.memfd_create("launcher", flags | _MFD_EXEC)
    except OSError as error:
        if error.errno != errno.EINVAL:  # Linux before 6.3
            raise
        fd = os.memfd_create("launcher", flags)
    try:
        os.write(fd, text)
        seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
        return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)  # what is open for writing is not executed
    finally:
        os.close(fd)
