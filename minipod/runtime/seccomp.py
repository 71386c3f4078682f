"""Compiled seccomp filters (layer 3): profile -> BPF program, compiled once and kept in `<state>/cache`.

libseccomp (by pyseccomp) compiles; it is imported only when the cache has nothing (45 ms, and as much to compile).
Installing the filter is the child's work: `plan.process.identity.InstallSeccompFilter`.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import struct
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from minipod.errors import ContainerError
from minipod.paths import Paths
from minipod.plan.process.seccomp_profile import (
    CONFIG_ERROR,
    ENOSYS,
    LAST_KNOWN_SYSCALL,
    NUMBERS,
    Profile,
    Rule,
    parse,
    runtime_default,
)
from minipod.runtime.seccomp_ranges import shortened

_COMPILER = 2  # part of the cache's key: raise it when the same profile is to become another program
_BINARY_TREE = 2  # SCMP_FLTATR_CTL_OPTIMIZE: 10 steps instead of up to 400

#: struct sock_filter, and the few instructions of the prologue (linux/bpf_common.h, linux/seccomp.h)
_INSTRUCTION = struct.Struct("=HBBI")
_LOAD, _JUMP, _JUMP_EQUAL, _JUMP_GREATER, _JUMP_AT_LEAST, _RETURN = 0x20, 0x05, 0x15, 0x25, 0x35, 0x06
_OFFSET_NUMBER, _OFFSET_ARCHITECTURE = 0, 4
_RET_ALLOW, _RET_ERRNO = 0x7FFF0000, 0x00050000
_X32_BIT = 0x40000000


def compiled_filter(profile: str, capabilities: frozenset[str], paths: Paths) -> bytes:
    """The BPF program (struct sock_filter …) of `profile`, empty for Unconfined.

    `profile`: RuntimeDefault, Unconfined, or the absolute path of a Localhost profile. `capabilities` are the
    container's, without CAP_. Raises ContainerError for a profile that is missing or wrong.
    """
    if profile == "Unconfined":
        return b""
    machine = os.uname().machine
    if profile == "RuntimeDefault":
        return _of_runtime_default(machine, capabilities, paths.state)
    try:
        text = Path(profile).read_bytes()
    except OSError as error:
        raise ContainerError(
            f"seccomp profile {profile}: {os.strerror(error.errno or 0)}: localhostProfile is a path below "
            f"{paths.state}/seccomp",
            CONFIG_ERROR,
        ) from None
    return _cached(parse(text, profile, machine, capabilities), profile, paths.state)


@lru_cache(maxsize=64)
def _of_runtime_default(machine: str, capabilities: frozenset[str], state: str) -> bytes:
    return _cached(runtime_default(machine, capabilities), "RuntimeDefault", state)


def _cached(profile: Profile, name: str, state: str) -> bytes:
    """The program from the cache, compiled and put there if need be."""
    key = hashlib.sha256(msgspec.json.encode((_COMPILER, profile))).hexdigest()
    path = f"{state}/cache/seccomp-{key[:32]}.bpf"
    try:
        program = Path(path).read_bytes()
        if program and len(program) % _INSTRUCTION.size == 0:
            return program
    except OSError:  # not there yet, or `plan` without root
        pass
    try:
        program = compile_profile(profile)
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        raise ContainerError(f"seccomp profile {name}: cannot compile it: {error}", CONFIG_ERROR) from error
    _keep(path, program)
    return program


def _keep(path: str, program: bytes) -> None:
    """A cache that cannot be written (a full disk, no root) costs time only."""
    temporary = f"{path}.{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        Path(temporary).write_bytes(program)
        os.rename(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def compile_profile(profile: Profile) -> bytes:
    """The profile as a BPF program. Raises OSError or ValueError from libseccomp."""
    import pyseccomp

    beside = profile.architectures[1:]
    built = pyseccomp.SyscallFilter(_action(pyseccomp, profile.default_action, profile.default_code))
    for name in beside:
        built.add_arch(getattr(pyseccomp.Arch, name))
    unknown: list[int] = []
    default = _action(pyseccomp, profile.default_action, profile.default_code)
    for rule in profile.rules:
        action = _action(pyseccomp, rule.action, rule.code)
        if action == default:
            continue  # libseccomp refuses rules that say nothing
        for name in rule.names:
            if pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name) == -1:  # __NR_SCMP_ERROR
                if name in NUMBERS and rule.action == "ALLOW" and not rule.arguments:
                    unknown.append(NUMBERS[name])
                continue
            for arguments in _alternatives(pyseccomp, rule):
                _add_rule(built, action, name, arguments)
    try:
        built.set_attr(pyseccomp.Attr.CTL_OPTIMIZE, _BINARY_TREE)
    except OSError:  # libseccomp before 2.5
        pass
    architectures = [getattr(pyseccomp.Arch, name) for name in profile.architectures if name != "X32"]
    return shortened(_prologue(profile, unknown) + _exported(built), architectures)


def _add_rule(built: Any, action: int, name: str, arguments: list[Any]) -> None:
    try:
        built.add_rule(action, name, *arguments)
    except OSError as error:
        if error.errno == errno.EEXIST:  # said already, by an earlier rule
            return
        raise OSError(error.errno, f"{name}: {os.strerror(error.errno or 0)}") from None


def _action(pyseccomp: Any, name: str, code: int) -> int:
    if name in ("ERRNO", "TRACE"):
        return int(getattr(pyseccomp, name)(code))
    return int(getattr(pyseccomp, name))


def _alternatives(pyseccomp: Any, rule: Rule) -> list[list[Any]]:
    """The argument lists of a rule: one, or one each where an argument is compared twice.

    libseccomp takes one comparison per argument, all of which have to match; the OCI runtimes read the rest as "or".
    """
    arguments = [pyseccomp.Arg(a.index, getattr(pyseccomp, a.op), a.value, a.value_two) for a in rule.arguments]
    if len({a.index for a in rule.arguments}) < len(arguments):
        return [[argument] for argument in arguments]
    return [arguments]


def _exported(built: Any) -> bytes:
    with open(os.memfd_create("seccomp", os.MFD_CLOEXEC), "r+b") as file:
        built.export_bpf(file)
        file.seek(0)
        return file.read()


def _prologue(profile: Profile, allowed: list[int]) -> bytes:
    """What libseccomp cannot say: system calls it does not know yet, and ENOSYS for those that nobody knew.

    A C library takes ENOSYS for "an older kernel" and goes on with an older call; EPERM it would hand to the program.
    Numbers from 403 on are the same on all architectures here; x32's have a bit of their own and are left alone.
    A jump skips so many instructions; a program of another architecture skips to the end, to libseccomp's own.
    """
    import pyseccomp

    newest = [LAST_KNOWN_SYSCALL] if profile.new_is_enosys else []
    if not allowed and not newest:
        return b""
    architectures = [getattr(pyseccomp.Arch, name) for name in profile.architectures if name != "X32"]
    checks = 1 + len(allowed) + len(newest)  # the x32 bit, each allowed number, the newest one
    program = [
        (_LOAD, 0, 0, _OFFSET_ARCHITECTURE),
        *((_JUMP_EQUAL, len(architectures) - n, 0, number) for n, number in enumerate(architectures)),
        (_JUMP, 0, 0, checks + 4),
        (_LOAD, 0, 0, _OFFSET_NUMBER),
        (_JUMP_AT_LEAST, checks - 1, 0, _X32_BIT),
        *((_JUMP_EQUAL, checks - 1 - n, 0, number) for n, number in enumerate(allowed)),
        *((_JUMP_GREATER, 2, 0, number) for number in newest),
        (_JUMP, 0, 0, 2),
        (_RETURN, 0, 0, _RET_ALLOW),
        (_RETURN, 0, 0, _RET_ERRNO | ENOSYS),
    ]
    return b"".join(_INSTRUCTION.pack(*instruction) for instruction in program)
