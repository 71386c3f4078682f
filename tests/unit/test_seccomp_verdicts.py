"""What the compiled RuntimeDefault says, by architecture and argument, where the kernel reads 32 bits (unit)."""

from __future__ import annotations

import random
from functools import lru_cache

import pytest

from minipod.plan.process.seccomp_profile import MACHINES, NUMBER_OF, Profile, runtime_default
from minipod.plan.process.security import CAPABILITIES, DEFAULT_CAPABILITIES
from minipod.runtime.seccomp_compile import compile_profile
from tests.seccomp_verdicts import ALLOW, ENOSYS, EPERM, X32_BIT, X86, X86_64, verdict_of

pyseccomp = pytest.importorskip("pyseccomp")

AF_ALG, AF_VSOCK = 38, 40
TIOCSTI, TIOCLINUX = 0x5412, 0x541C
BOTH = (X86_64, X86)
#: what a program can leave in the upper half of a register
UPPER = (0, 1 << 32, 1 << 63, 0xFFFFFFFF << 32)
NAMES = {X86_64: "X86_64", X86: "X86"}


@lru_cache
def program_of(capabilities: frozenset[str] = DEFAULT_CAPABILITIES) -> bytes:
    return compile_profile(runtime_default("x86_64", capabilities))


def number_of(name: str, architecture: int) -> int:
    return NUMBER_OF[name][NAMES[architecture]]


@pytest.mark.parametrize("capabilities", [frozenset(), DEFAULT_CAPABILITIES, frozenset(CAPABILITIES)])
@pytest.mark.parametrize("name", ["socket", "socketpair"])
def test_two_families_are_refused_whatever_the_upper_half_of_the_register_holds(
    name: str, capabilities: frozenset[str]
) -> None:
    program = program_of(capabilities)
    for architecture in BOTH:
        for family in (*range(64), 0x7FFFFFFF, 0xFFFFFFFF):
            expected = EPERM if family in (AF_ALG, AF_VSOCK) else ALLOW
            for upper in UPPER:
                said = verdict_of(program, architecture, number_of(name, architecture), upper | family, 5)
                assert said == expected, (hex(architecture), hex(upper | family))


@pytest.mark.parametrize("capabilities", [frozenset(), frozenset(CAPABILITIES)])
def test_input_is_never_pushed_into_a_terminal(capabilities: frozenset[str]) -> None:
    for architecture in BOTH:
        for request in (0, TIOCSTI - 1, TIOCSTI, TIOCSTI + 1, TIOCLINUX, 0x5401, 0xFFFFFFFF):
            expected = EPERM if request in (TIOCSTI, TIOCLINUX) else ALLOW
            for upper in UPPER:
                said = verdict_of(
                    program_of(capabilities), architecture, number_of("ioctl", architecture), 0, upper | request
                )
                assert said == expected, (hex(architecture), hex(upper | request))


def test_socketcall_of_i386_is_closed_though_libseccomp_opens_it_for_bind_and_connect() -> None:
    for call in range(22):
        assert verdict_of(program_of(), X86, 102, call, 0x1000) == ENOSYS
    assert verdict_of(program_of(), X86, 361, 3) == ALLOW  # bind by its own number


def test_x32_is_closed() -> None:
    for number in (*range(600), 0x3FFFFFFF):
        assert verdict_of(program_of(frozenset(CAPABILITIES)), X86_64, X32_BIT | number) == ENOSYS


def test_the_upper_half_of_a_register_never_opens_what_the_lower_half_alone_does_not() -> None:
    chance = random.Random(10)
    values = (0, 1, 8, 17, AF_ALG, AF_VSOCK, TIOCSTI, TIOCLINUX, 0x20000, 0x20008, 0x10000000, 0x7E020011, 0xFFFFFFFF)
    for architecture in BOTH:
        for number in range(470):
            for _ in range(40):
                lower = [chance.choice(values) for _ in range(6)]
                full = [chance.choice(UPPER) | value for value in lower]
                if verdict_of(program_of(), architecture, number, *full) == ALLOW:
                    assert verdict_of(program_of(), architecture, number, *lower) == ALLOW, (number, full)


@pytest.mark.parametrize("flag", [1 << bit for bit in (17, 25, 26, 27, 28, 29, 30)])
def test_clone_makes_threads_and_children_but_no_namespace(flag: int) -> None:
    clone_vm_etc, clone_parent = 0x3D0F00, 0x8000
    for architecture, clone, clone3 in ((X86_64, 56, 435), (X86, 120, 435)):
        for upper in UPPER:
            assert verdict_of(program_of(), architecture, clone, upper | flag | 17) == EPERM
            for plain in (17, clone_vm_etc, clone_parent | 17):
                assert verdict_of(program_of(), architecture, clone, upper | plain) == ALLOW
        assert verdict_of(program_of(), architecture, clone3, 0x1000, 88) == ENOSYS


def test_numbers_are_libseccomps() -> None:
    """But for the calls that it knows only as a part of i386's socketcall."""
    for name, numbers in NUMBER_OF.items():
        for architecture, number in numbers.items():
            theirs = pyseccomp.resolve_syscall(getattr(pyseccomp.Arch, architecture), name)
            assert theirs == number or theirs < 0, (name, architecture, theirs)


@pytest.mark.parametrize("machine", MACHINES)
def test_every_architecture_has_the_numbers_of_what_is_refused(machine: str) -> None:
    profile = runtime_default(machine, frozenset())
    assert all(
        architecture in NUMBER_OF[one.name] for one in profile.refusals for architecture in profile.architectures
    )
    assert "X32" not in profile.architectures


def test_a_call_that_libseccomp_cannot_name_is_judged_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    from minipod.plan.process.seccomp_profile import Argument, Rule

    monkeypatch.setattr(pyseccomp, "resolve_syscall", lambda _, name: -1 if name == "mseal" else 39)
    refused = Rule(names=("mseal",), action="ERRNO", code=95)
    program = compile_profile(Profile(("X86_64",), "ALLOW", rules=(refused,), new_is_enosys=False))
    assert verdict_of(program, X86_64, 462) == 0x0005005F
    assert verdict_of(program, X86_64, 461) == ALLOW
    compared = Rule(names=("mseal",), action="ERRNO", code=95, arguments=(Argument(0, "EQ", 1),))
    with pytest.raises(ValueError, match="mseal: this libseccomp is too old"):
        compile_profile(Profile(("X86_64",), "ALLOW", rules=(compared,)))
