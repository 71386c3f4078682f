"""Shortens a seccomp filter (layer 3): the same verdicts by ranges of system calls. Independent of profiles. Pure.

libseccomp compares with each number separately, for each architecture: 1,250 instructions, which the kernel checks and
compiles for each process that gets the filter, 0.7 ms. Neighbouring numbers mostly have the same verdict. Code that
looks at a call's arguments is kept as libseccomp wrote it, after the ranges.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from minipod.kernel.classic_bpf import (
    INSTRUCTION,
    JUMP,
    JUMP_AT_LEAST,
    JUMP_EQUAL,
    JUMP_GREATER,
    JUMP_SET,
    LOAD,
    OFFSET_ARCHITECTURE,
    OFFSET_NUMBER,
    RETURN,
    Instruction,
    packed,
)

_COMPARISONS = (JUMP_EQUAL, JUMP_GREATER, JUMP_AT_LEAST)
_CONDITIONS = (*_COMPARISONS, JUMP_SET)
_FARTHEST = 255  # a condition's jump is one byte
_NO_ARCHITECTURE = 0


class _Verdict(NamedTuple):
    """The value that is returned, or (`at` >= 0) the place of the first instruction that reads an argument."""

    returned: int = 0
    at: int = -1


class _UnknownError(Exception):
    """An instruction that libseccomp does not use, or a jump that is too far: the filter is not shortened."""


Program = list[Instruction]


def shortened(text: bytes, architectures: Sequence[int]) -> bytes:
    """The program with the same verdicts. `architectures`: the AUDIT_ARCH_* that it distinguishes."""
    program = [Instruction(*fields) for fields in INSTRUCTION.iter_unpack(text)]
    try:
        made = _made(program, architectures)
    except _UnknownError:
        return text
    return packed(made) if len(made) < len(program) else text


def _made(program: Program, architectures: Sequence[int]) -> Program:
    others = _ranges(program, _NO_ARCHITECTURE)
    if len(others) != 1:
        raise _UnknownError
    sections = [_ranges(program, architecture) for architecture in architectures]
    entries = {verdict.at for section in [others, *sections] for _, verdict in section if verdict.at >= 0}
    behind = _reachable(program, entries)
    trees = [_tree(section) for section in sections]
    dispatch = 1 + 2 * len(trees) + 1
    starts = [dispatch + sum(1 + len(tree) for tree in trees[:number]) for number in range(len(trees))]
    first_behind = dispatch + sum(1 + len(tree) for tree in trees)
    moved = {old: first_behind + new for new, old in enumerate(behind)}
    made = [Instruction(LOAD, 0, 0, OFFSET_ARCHITECTURE)]
    for architecture, start in zip(architectures, starts, strict=True):
        made.append(Instruction(JUMP_EQUAL, 0, 1, architecture))
        made.append(Instruction(JUMP, 0, 0, start - len(made) - 1))
    made.append(_leaf(others[0][1], len(made), moved))
    for tree in trees:
        made.append(Instruction(LOAD, 0, 0, OFFSET_NUMBER))
        for step in tree:
            made.append(_leaf(step, len(made), moved) if isinstance(step, _Verdict) else step)
    return made + [_relocated(program[old], old, moved) for old in behind]


def _ranges(program: Program, architecture: int) -> list[tuple[int, _Verdict]]:
    """(first number, verdict) of each range, from 0 on: the verdict changes only at constants of the program."""
    bounds = {0} | {k for step in program if step.code in _CONDITIONS for k in (step.k, step.k + 1) if k < 1 << 32}
    found: list[tuple[int, _Verdict]] = []
    for number in sorted(bounds):
        verdict = _run(program, architecture, number)
        if not found or found[-1][1] != verdict:
            found.append((number, verdict))
    return found


def _run(program: Program, architecture: int, number: int) -> _Verdict:
    at, loaded = 0, None
    while True:
        code, jt, jf, k = program[at]
        if code == RETURN:
            return _Verdict(k)
        if code == LOAD and k not in (OFFSET_NUMBER, OFFSET_ARCHITECTURE):
            return _Verdict(at=at)
        if code == LOAD:
            loaded = number if k == OFFSET_NUMBER else architecture
            at += 1
        elif code == JUMP:
            at += 1 + k
        elif code in _COMPARISONS and loaded is not None:
            holds = {JUMP_EQUAL: loaded == k, JUMP_GREATER: loaded > k, JUMP_AT_LEAST: loaded >= k}[code]
            at += 1 + (jt if holds else jf)
        else:
            raise _UnknownError


def _reachable(program: Program, entries: set[int]) -> list[int]:
    found: set[int] = set()
    waiting = list(entries)
    while waiting:
        at = waiting.pop()
        if at in found:
            continue
        found.add(at)
        code, jt, jf, k = program[at]
        if code == JUMP:
            waiting.append(at + 1 + k)
        elif code in _CONDITIONS:
            waiting += [at + 1 + jt, at + 1 + jf]
        elif code != RETURN:
            waiting.append(at + 1)
    return sorted(found)


def _tree(section: list[tuple[int, _Verdict]]) -> list[Instruction | _Verdict]:
    """A binary search for the range of a number, followed by each verdict once."""
    verdicts = list(dict.fromkeys(verdict for _, verdict in section))
    questions = len(section) - 1
    places = {verdict: questions + number for number, verdict in enumerate(verdicts)}
    asked: list[Instruction] = []

    def ask(first: int, last: int) -> int:
        """Where the search among these ranges begins."""
        if first == last:
            return places[section[first][1]]
        place, middle = len(asked), (first + last + 1) // 2
        asked.append(Instruction(JUMP_AT_LEAST, 0, 0, section[middle][0]))
        lower, upper = ask(first, middle - 1), ask(middle, last)
        asked[place] = asked[place]._replace(jt=_near(upper - place - 1), jf=_near(lower - place - 1))
        return place

    ask(0, questions)
    return [*asked, *verdicts]


def _near(distance: int) -> int:
    if distance > _FARTHEST:
        raise _UnknownError
    return distance


def _leaf(verdict: _Verdict, place: int, moved: dict[int, int]) -> Instruction:
    if verdict.at < 0:
        return Instruction(RETURN, 0, 0, verdict.returned)
    return Instruction(JUMP, 0, 0, moved[verdict.at] - place - 1)


def _relocated(instruction: Instruction, old: int, moved: dict[int, int]) -> Instruction:
    def jump(distance: int) -> int:
        return moved[old + 1 + distance] - moved[old] - 1

    if instruction.code == JUMP:
        return instruction._replace(k=jump(instruction.k))
    if instruction.code in _CONDITIONS:
        return instruction._replace(jt=_near(jump(instruction.jt)), jf=_near(jump(instruction.jf)))
    if instruction.code != RETURN and moved.get(old + 1) != moved[old] + 1:
        raise _UnknownError
    return instruction
