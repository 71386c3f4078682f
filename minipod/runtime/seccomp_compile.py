"""libseccomp's compiler (layer 3): profile -> BPF program, in this process or, by `main`, in one with limits.

pyseccomp is imported only when something is compiled.
"""

from __future__ import annotations

import errno
import os
import resource
import sys
from typing import Any

import msgspec

from minipod.kernel.classic_bpf import INSTRUCTION, MAX_INSTRUCTIONS, RET_OF_ACTION
from minipod.kernel.seccomp_library import pyseccomp as binding
from minipod.plan.process.seccomp_profile import NUMBERS, Profile, Rule
from minipod.runtime.seccomp_prologue import prologue
from minipod.runtime.seccomp_ranges import shortened

CPU_LIMIT_S = 3
_MEMORY_LIMIT_BYTES = 512 << 20
_BINARY_TREE = 2  # SCMP_FLTATR_CTL_OPTIMIZE: 10 steps instead of up to 400
#: what libseccomp, its binding or its absence may raise
FAILURES = (OSError, ValueError, RuntimeError, ImportError, MemoryError)


def main() -> None:
    """Reads a Profile as JSON from stdin and writes its program to stdout; a reason to stderr, with status 1."""
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_LIMIT_S, CPU_LIMIT_S))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_LIMIT_BYTES, _MEMORY_LIMIT_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        program = compile_profile(msgspec.json.decode(sys.stdin.buffer.read(), type=Profile))
    except FAILURES as error:
        sys.exit(str(error) or "it takes too much memory: use fewer comparisons")
    sys.stdout.buffer.write(program)


def compile_profile(profile: Profile) -> bytes:
    """The profile as a BPF program. Raises OSError or ValueError, mostly from libseccomp."""
    pyseccomp = binding()
    default = _action(pyseccomp, profile.default_action, profile.default_code)
    built = pyseccomp.SyscallFilter(default)
    for name in profile.architectures[1:]:
        built.add_arch(getattr(pyseccomp.Arch, name))
    verdicts: dict[int, int] = {}
    for rule in profile.rules:
        action = _action(pyseccomp, rule.action, rule.code)
        if action == default:
            continue  # libseccomp refuses rules that say nothing
        for name in rule.names:
            if pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name) == -1:  # __NR_SCMP_ERROR
                _judge_by_number(name, rule, verdicts)
                continue
            for arguments in _alternatives(pyseccomp, rule):
                _add_rule(built, action, name, arguments)
    try:
        built.set_attr(pyseccomp.Attr.CTL_OPTIMIZE, _BINARY_TREE)
    except OSError:  # libseccomp before 2.5
        pass
    audit = {name: int(getattr(pyseccomp.Arch, name)) for name in profile.architectures if name != "X32"}
    program = shortened(prologue(profile, audit, verdicts) + _exported(built), list(audit.values()))
    length = len(program) // INSTRUCTION.size
    if length > MAX_INSTRUCTIONS:
        raise ValueError(f"{length} instructions; the kernel takes {MAX_INSTRUCTIONS}: use fewer rules")
    return program


def _judge_by_number(name: str, rule: Rule, verdicts: dict[int, int]) -> None:
    """Adds a call that this libseccomp does not know, by number. Unknown names are skipped, as in OCI runtimes."""
    if name not in NUMBERS:
        return
    if not rule.arguments:
        code = rule.code if rule.action in ("ERRNO", "TRACE") else 0
        verdicts.setdefault(NUMBERS[name], RET_OF_ACTION[rule.action] | code)
    elif rule.action != "ALLOW":  # skipping it would allow it
        raise ValueError(f"{name}: this libseccomp is too old to compare its arguments")


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
