"""The part of a seccomp filter that libseccomp cannot write (layer 3). Pure; knows no profile's origin.

Instructions in front of libseccomp's program, per architecture: system calls that it has no name for yet, comparisons
of 32 bits, calls that it would open by itself, and ENOSYS for calls newer than the profile and for x32.
"""

from __future__ import annotations

from collections.abc import Mapping

from minipod.kernel.classic_bpf import (
    JUMP,
    JUMP_EQUAL,
    JUMP_GREATER,
    LOAD,
    OFFSET_ARCHITECTURE,
    OFFSET_ARGUMENTS,
    OFFSET_NUMBER,
    RET_OF_ACTION,
    RETURN,
    Instruction,
    packed,
)
from minipod.plan.process.seccomp_profile import ENOSYS, EPERM, LAST_KNOWN_SYSCALL, NUMBER_OF, Profile, Refusal

_OLDER_KERNEL = RET_OF_ACTION["ERRNO"] | ENOSYS


def prologue(profile: Profile, audit: Mapping[str, int], verdicts: Mapping[int, int]) -> bytes:
    """What comes before libseccomp's program, which begins where this ends.

    `audit`: AUDIT_ARCH_* of libseccomp's names. `verdicts`: what to return for system calls that libseccomp cannot
    name, by their numbers. These are 403 or more, and so the same on all architectures here, x32 apart.
    """
    sections = {name: _section(profile, name, verdicts) for name in profile.architectures if name != "X32"}
    if not any(sections.values()):
        return b""
    program = [Instruction(LOAD, 0, 0, OFFSET_ARCHITECTURE)]
    starts, end = {}, 1 + 2 * len(sections) + 1
    for name, section in sections.items():
        starts[name] = end
        end += 1 + len(section) + 1
    for name, start in starts.items():
        program.append(Instruction(JUMP_EQUAL, 0, 1, audit[name]))
        program.append(_jump(program, start))
    program.append(_jump(program, end))  # another architecture: libseccomp's own verdict
    for section in sections.values():
        program.append(Instruction(LOAD, 0, 0, OFFSET_NUMBER))
        program += section
        program.append(_jump(program, end))
    return packed(program)


def _jump(program: list[Instruction], to: int) -> Instruction:
    """A jump at the end of `program`."""
    return Instruction(JUMP, 0, 0, to - len(program) - 1)


def _section(profile: Profile, architecture: str, verdicts: Mapping[int, int]) -> list[Instruction]:
    """The tests of one architecture, with the number loaded; each returns a verdict or falls through to the next.

    A C library takes ENOSYS for "an older kernel" and tries an older call; EPERM it would hand to the program.
    """
    found: list[Instruction] = []
    for name in profile.closed:
        if architecture in NUMBER_OF[name]:
            found += _returned(NUMBER_OF[name][architecture], _OLDER_KERNEL)
    for refusal in profile.refusals:
        found += _refused(refusal, NUMBER_OF[refusal.name][architecture])
    for number, verdict in verdicts.items():
        found += _returned(number, verdict)
    if profile.new_is_enosys:  # x32's numbers among them: they begin at 0x40000000
        found += [Instruction(JUMP_GREATER, 0, 1, LAST_KNOWN_SYSCALL), Instruction(RETURN, 0, 0, _OLDER_KERNEL)]
    return found


def _returned(number: int, verdict: int) -> list[Instruction]:
    return [Instruction(JUMP_EQUAL, 0, 1, number), Instruction(RETURN, 0, 0, verdict)]


def _refused(refusal: Refusal, number: int) -> list[Instruction]:
    """Compares the argument's lower half (the first four bytes: the architectures here are little-endian)."""
    values = refusal.values
    block = [
        Instruction(LOAD, 0, 0, OFFSET_ARGUMENTS + 8 * refusal.index),
        *(Instruction(JUMP_EQUAL, len(values) - n, 0, value) for n, value in enumerate(values)),
        Instruction(RETURN, 0, 0, RET_OF_ACTION["ALLOW"]),
        Instruction(RETURN, 0, 0, RET_OF_ACTION["ERRNO"] | EPERM),
    ]
    return [Instruction(JUMP_EQUAL, 0, len(block), number), *block]
