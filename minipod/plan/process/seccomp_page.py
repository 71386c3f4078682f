"""docs/seccomp.md (layer 2, pure): RuntimeDefault rule by rule, next to containerd's default.

What is compared are the profiles themselves: for each system call, which of the interesting arguments are let through.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

from minipod.plan.process.seccomp_profile import (
    ENOSYS,
    EPERM,
    LAST_KNOWN_SYSCALL,
    MACHINES,
    Argument,
    Profile,
    Refusal,
    Rule,
    runtime_default,
)
from minipod.plan.process.security import CAPABILITIES

_HEAD = """# The seccomp profile RuntimeDefault

Written by `scripts/generate-seccomp` from `minipod/plan/process/seccomp_profile.py` and the facts about containerd in
`scripts/data/containerd-seccomp.json`; the tests fail when either is not up to date, or when a line is **weaker**.

It holds for every container that asks for `seccompProfile: {type: RuntimeDefault}`, and for those that ask for nothing
unless the configuration has `seccomp_default = false` ([why](security.md#the-defaults)). It also holds for `exec`,
probes, hooks and ephemeral containers. A privileged container has no filter, as in containerd.

"""

_WHY = """
## Why it is stricter where it is

* **AF_ALG, AF_VSOCK.** AF_ALG opens the kernel's cryptography, which wrote to page cache that all containers share
  (CVE-2026-31431). AF_VSOCK reaches the hypervisor past every network namespace. The kernel declares the family as
  `int`: it reads the lower half of the register. A comparison of 64 bits, as OCI profiles have it, lets
  `0x100000000 | AF_ALG` through; minipod compares 32. `socketpair` takes the same families and loads the same modules.
* **socketcall.** i386's older way to all socket calls: the family lies in memory, where no filter can look. libseccomp
  opens it by itself wherever `bind` or `connect` are allowed, so minipod refuses it in front of libseccomp's program,
  with ENOSYS. Programs that then use `socket` itself run (musl). **32-bit x86 programs with glibc as Debian, Fedora and
  Ubuntu build it use socketcall only: they have no sockets under RuntimeDefault.** They need a Localhost profile that
  allows it, or Unconfined, on a kernel that has CVE-2026-31431 fixed.
* **TIOCSTI, TIOCLINUX.** They put input into a terminal as if it was typed there. Linux 6.2 can switch the first off;
  older kernels, and those with `dev.tty.legacy_tiocsti=1`, do not.
* **x32.** A third set of numbers for the same calls, which hardly a distribution enables. ENOSYS is what a kernel
  without x32 answers.
* **lsm_\\*.** Not needed without CAP_SYS_ADMIN: they show and set the attributes of security modules.
* **ENOSYS for newer calls.** A C library takes it for an older kernel and tries an older call
  ([decision 032](decisions/032-seccomp-newer-calls-are-enosys.md)).

i386 programs run otherwise: the same list holds for both sets of numbers. A program of an architecture that is not
listed is killed.

## Localhost profiles

`localhostProfile` is a path below `<data-dir>/seccomp`: the JSON of the OCI runtime specification, or Docker's with
`archMap`, `includes` and `excludes`. The container does not start (`CreateContainerError`, with the file and the field
in the message) when the profile is missing, is no regular file, is larger than 1 MiB, is no valid JSON, has a wrong
field, takes more than three seconds to compile, or becomes longer than the 4,096 instructions that the kernel takes. It
never runs unconfined instead.

The argument comparisons of a Localhost profile are of 64 bits, as in every OCI runtime: for an `int`, use
`SCMP_CMP_MASKED_EQ` with the mask `0xffffffff`. No ENOSYS is added: what happens to calls that it does not name is its
author's choice.
"""

_FAMILIES = {38: "AF_ALG", 40: "AF_VSOCK", 0x5412: "TIOCSTI", 0x541C: "TIOCLINUX"}
_UPPER = 1 << 32
ALLOW, SAME, STRICTER, WEAKER = "ALLOW", "same", "stricter", "**weaker**"
ALL = frozenset(CAPABILITIES)


def containerd_default(facts: dict[str, Any], machine: str, capabilities: frozenset[str]) -> Profile:
    """containerd's default from the facts, in the same form as ours."""
    allowed = [facts["allowed"], facts["of_architecture"][machine]]
    allowed += [names for capability, names in facts["with_capability"].items() if capability in capabilities]
    without_admin = {} if "SYS_ADMIN" in capabilities else facts["without_sys_admin"]
    compared = facts["compared"] + without_admin.get("compared", [])
    errors = without_admin.get("errors", {}).items()
    return Profile(
        architectures=tuple(facts["architectures"][machine]),
        rules=(
            Rule(names=tuple(dict.fromkeys(" ".join(allowed).split()))),
            *(Rule(names=(name,), arguments=(Argument(*argument),)) for name, *argument in compared),
            *(Rule(names=(name,), action="ERRNO", code=code) for name, code in errors),
        ),
        new_is_enosys=False,
    )


def verdict(profile: Profile, name: str, arguments: Sequence[int]) -> str:
    """ALLOW, EPERM, ENOSYS for one call of 64-bit arguments."""
    if name in profile.closed:
        return "ENOSYS"
    for refusal in profile.refusals:
        if refusal.name == name:
            return "EPERM" if arguments[refusal.index] % _UPPER in refusal.values else ALLOW
    for rule in profile.rules:
        if name in rule.names and all(_matches(argument, arguments[argument.index]) for argument in rule.arguments):
            return ALLOW if rule.action == ALLOW else {ENOSYS: "ENOSYS", EPERM: "EPERM"}[rule.code]
    return "EPERM"


def _matches(argument: Argument, value: int) -> bool:
    match argument.op:
        case "LT":
            return value < argument.value
        case "EQ":
            return value == argument.value
        case "GT":
            return value > argument.value
        case "MASKED_EQ":
            return value & argument.value == argument.value_two
        case _:
            raise ValueError(f"{argument.op}: is not in a default profile")


def compare(ours: Profile, theirs: Profile, name: str) -> str:
    """Whether ours lets through less, as much or something that theirs does not."""
    calls = list(_interesting(name, ours, theirs))
    mine = {call for call in calls if verdict(ours, name, call) == ALLOW}
    its = {call for call in calls if verdict(theirs, name, call) == ALLOW}
    return WEAKER if mine - its else SAME if mine == its else STRICTER


def _interesting(name: str, *profiles: Profile) -> Iterator[tuple[int, ...]]:
    """Arguments at and around every value that a profile compares with, also with something in the upper half."""
    yield (0,) * 6
    for compared in chain.from_iterable(_compared(name, profile) for profile in profiles):
        for value in (compared.value, compared.value + 1, max(0, compared.value - 1), compared.value_two):
            for upper in (0, _UPPER):
                yield tuple(value | upper if index == compared.index else 0 for index in range(6))


def _compared(name: str, profile: Profile) -> Iterator[Argument]:
    for rule in profile.rules:
        if name in rule.names:
            yield from rule.arguments
    for refusal in profile.refusals:
        if refusal.name == name:
            yield from (Argument(refusal.index, "EQ", value) for value in refusal.values)


def page(facts: dict[str, Any]) -> str:
    parts = [_HEAD + f"Compared with {facts['source']}.\n", _rules(facts)]
    parts += [_lists(facts), _WHY]
    return "\n".join(parts).replace("\n\n\n", "\n\n")


def _rules(facts: dict[str, Any]) -> str:
    ours, theirs = runtime_default("x86_64", frozenset()), containerd_default(facts, "x86_64", frozenset())
    rows = [
        ("what is not listed", "EPERM", "EPERM", SAME),
        (f"calls newer than number {LAST_KNOWN_SYSCALL}", "EPERM", "ENOSYS", SAME),
    ]
    for machine, (name, _) in MACHINES.items():
        mine, its = (runtime_default(machine, ALL).architectures, tuple(facts["architectures"][machine]))
        level = SAME if set(mine) == set(its) else STRICTER if set(mine) < set(its) else WEAKER
        rows.append((f"sets of numbers on {name}", ", ".join(its), ", ".join(mine), level))
    names = sorted({name for profile in (ours, theirs) for name in _names(profile) if [*_compared(name, profile)]})
    for name in [*names, *ours.closed, "clone3"]:
        rows.append((f"`{name}`", _in_words(theirs, name), _in_words(ours, name), compare(ours, theirs, name)))
    return (
        _table("## Rules\n", ("rule", "containerd", "minipod", ""), rows) + "\n`clone`, `clone3`: without SYS_ADMIN.\n"
    )


def _names(profile: Profile) -> set[str]:
    return {name for rule in profile.rules for name in rule.names} | {refusal.name for refusal in profile.refusals}


def _in_words(profile: Profile, name: str) -> str:
    if name in profile.closed:
        return "ENOSYS"
    for refusal in profile.refusals:
        if refusal.name == name:
            return _refusal_in_words(refusal)
    rules = [rule for rule in profile.rules if name in rule.names]
    if not rules:
        return "EPERM"
    if rules[0].action != ALLOW:
        return "ENOSYS" if rules[0].code == ENOSYS else "EPERM"
    conditions = [_condition(argument) for rule in rules for argument in rule.arguments]
    return f"where {' or '.join(conditions)}" if conditions else "allowed"


def _refusal_in_words(refusal: Refusal) -> str:
    values = " or ".join(_FAMILIES[value] for value in refusal.values)
    return f"unless argument {refusal.index}, 32 bits, is {values}"


def _condition(argument: Argument) -> str:
    value = f"{argument.value:#x}" if argument.value > 255 else str(argument.value)
    if argument.op == "MASKED_EQ":
        return f"argument {argument.index} & {value} is {argument.value_two}"
    sign = {"LT": "<", "EQ": "=", "GT": ">"}[argument.op]
    return f"argument {argument.index} {sign} {value}"


def _lists(facts: dict[str, Any]) -> str:
    """System calls that no argument decides over: for all containers, by architecture, by capability."""
    x86_ours, x86_theirs = _allowed(facts, "x86_64", frozenset())
    arm_ours, arm_theirs = _allowed(facts, "aarch64", frozenset())
    ours, theirs = x86_ours & arm_ours, x86_theirs & arm_theirs
    missing = _quoted(theirs - ours)
    rows = [("all containers", f"{len(theirs)} calls", f"{len(ours)} calls, not {missing}", _level(ours, theirs))]
    for name, mine, its in (("amd64", x86_ours, x86_theirs), ("arm64", arm_ours, arm_theirs)):
        rows.append((f"on {name} also", _quoted(its - theirs), _quoted(mine - ours), _level(mine - ours, its - theirs)))
    for capability in sorted(CAPABILITIES):
        mine, its = _allowed(facts, "x86_64", frozenset({capability}))
        more, its_more = mine - x86_ours, its - x86_theirs
        if more or its_more:
            level = WEAKER if mine - its else SAME if more >= its_more else STRICTER
            rows.append((f"with {capability} also", _quoted(its_more), _quoted(more), level))
    table = _table("## System calls allowed with all arguments\n", ("where", "containerd", "minipod", ""), rows)
    calls = textwrap.fill(" ".join(sorted(ours)), width=118, break_on_hyphens=False)
    return f"{table}\nAllowed for all containers:\n\n```\n{calls}\n```\n"


def _allowed(facts: dict[str, Any], machine: str, capabilities: frozenset[str]) -> tuple[set[str], set[str]]:
    """Ours and theirs."""
    profiles = (runtime_default(machine, capabilities), containerd_default(facts, machine, capabilities))
    ours, theirs = (
        {name for name in _names(profile) if not [*_compared(name, profile)] and _in_words(profile, name) == "allowed"}
        for profile in profiles
    )
    decided = {refusal.name for refusal in profiles[0].refusals} | set(profiles[0].closed)  # in the table of rules
    return ours, theirs - decided


def _level(ours: set[str], theirs: set[str]) -> str:
    return WEAKER if ours - theirs else SAME if ours == theirs else STRICTER


def _quoted(names: set[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))


def _table(title: str, head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [title, f"| {' | '.join(head)} |", "|---|---|---|---|"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows]) + "\n"
