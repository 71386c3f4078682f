"""The one CDLL (layer 1): every foreign function with its types, every system call checked. No policy.

A failing call raises OSError (by errno FileNotFoundError, PermissionError …) that names the call and its object.
"""

from __future__ import annotations

import ctypes
import os
from typing import NoReturn

MACHINE = os.uname().machine  # `platform` would load `re`

libc = ctypes.CDLL(None, use_errno=True)

c_char_p, c_int, c_long, c_uint, c_ulong, c_void_p = (
    ctypes.c_char_p,
    ctypes.c_int,
    ctypes.c_long,
    ctypes.c_uint,
    ctypes.c_ulong,
    ctypes.c_void_p,
)

# Numbers that differ between architectures; from 424 on they are the same everywhere (Linux, syscall_64.tbl).
_PER_ARCHITECTURE = {
    "x86_64": {
        "write": 1,
        "close": 3,
        "mmap": 9,
        "rt_sigaction": 13,
        "ioctl": 16,
        "sendmsg": 46,
        "clone": 56,
        "execve": 59,
        "fcntl": 72,
        "getcwd": 79,
        "chdir": 80,
        "fchdir": 81,
        "fchown": 93,
        "umask": 95,
        "setsid": 112,
        "setgroups": 116,
        "setresuid": 117,
        "setresgid": 119,
        "capset": 126,
        "personality": 135,
        "fstatfs": 138,
        "pivot_root": 155,
        "prctl": 157,
        "exit_group": 231,
        "set_mempolicy": 238,
        "ioprio_set": 251,
        "keyctl": 250,
        "openat": 257,
        "faccessat": 269,
        "prlimit64": 302,
        "dup3": 292,
        "setns": 308,
        "sched_setattr": 314,
        "renameat2": 316,
        "seccomp": 317,
        "bpf": 321,
        "execveat": 322,
        "statx": 332,
    },
    "aarch64": {
        "getcwd": 17,
        "dup3": 24,
        "fcntl": 25,
        "ioctl": 29,
        "ioprio_set": 30,
        "pivot_root": 41,
        "fstatfs": 44,
        "faccessat": 48,
        "chdir": 49,
        "fchdir": 50,
        "fchown": 55,
        "openat": 56,
        "close": 57,
        "write": 64,
        "capset": 91,
        "personality": 92,
        "exit_group": 94,
        "rt_sigaction": 134,
        "setresuid": 147,
        "setresgid": 149,
        "setsid": 157,
        "setgroups": 159,
        "umask": 166,
        "prctl": 167,
        "sendmsg": 211,
        "keyctl": 219,
        "clone": 220,
        "execve": 221,
        "mmap": 222,
        "set_mempolicy": 237,
        "prlimit64": 261,
        "setns": 268,
        "sched_setattr": 274,
        "renameat2": 276,
        "seccomp": 277,
        "bpf": 280,
        "execveat": 281,
        "statx": 291,
    },
}
_COMMON = {
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "clone3": 435,
    "close_range": 436,
    "openat2": 437,
    "mount_setattr": 442,
    "quotactl_fd": 443,
}
NUMBERS = {**_COMMON, **_PER_ARCHITECTURE.get(MACHINE, {})}

_syscall = libc.syscall
_syscall.restype = c_long  # variadic, so without argtypes: every argument below is wrapped explicitly


def function(name: str, *argtypes: type, restype: type = c_int) -> ctypes._NamedFuncPointer:
    """A libc function with its types set, once."""
    found = libc[name]
    found.argtypes = list(argtypes)
    found.restype = restype
    return found


def fail(call: str, what: str = "") -> NoReturn:
    """Raise the OSError of the last foreign call."""
    code = ctypes.get_errno()
    raise OSError(code, f"{call} {what}: {os.strerror(code)}" if what else f"{call}: {os.strerror(code)}")


def syscall(
    call: str, *args: int | bytes | ctypes.Array[ctypes.c_char] | ctypes._CArgObject | None, what: str = ""
) -> int:
    """System call `call` by name. Integers are passed as C longs, bytes as pointers, None as NULL."""
    number = NUMBERS.get(call)
    if number is None:
        raise OSError(38, f"{call}: not known on {MACHINE}")
    wrapped = [c_ulong(a & 0xFFFFFFFFFFFFFFFF) if isinstance(a, int) else a for a in args]
    result: int = _syscall(c_long(number), *wrapped)
    if result < 0:
        fail(call, what)
    return result
