"""The passage that a filter of the user's begins with: whose cookie, and for what."""

from __future__ import annotations

import platform
import struct

import pytest

from minipod.kernel.libc import NUMBERS
from minipod.plan.process.passage import CALLS, COOKIE_ARGUMENT, with_passage
from tests.seccomp_verdicts import ALLOW, EPERM, OTHER, X86_64, verdict_of

COOKIE = 0x0123456789ABCDEF
REFUSES_ALL = struct.pack("=HBBI", 0x06, 0, 0, EPERM)
FILTER = with_passage(REFUSES_ALL, COOKIE)
OWN = X86_64 if platform.machine() == "x86_64" else OTHER


def verdict(name: str, cookie: int, position: int = COOKIE_ARGUMENT) -> int:
    arguments = [0] * 6
    arguments[position] = cookie
    return verdict_of(FILTER, OWN, NUMBERS[name], *arguments)


@pytest.mark.parametrize("name", CALLS)
def test_what_is_left_to_do_passes_with_the_cookie(name: str) -> None:
    assert verdict(name, COOKIE) == ALLOW


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(
    "cookie", [0, COOKIE + 1, COOKIE ^ (1 << 63), COOKIE & 0xFFFFFFFF, COOKIE >> 32 << 32, 2**64 - 1]
)
def test_without_the_cookie_the_profile_decides(name: str, cookie: int) -> None:
    assert verdict(name, cookie) == EPERM


@pytest.mark.parametrize("position", [0, 1, 2, 3, 5])
def test_the_cookie_counts_in_its_place_alone(position: int) -> None:
    assert [verdict(name, COOKIE, position) for name in CALLS] == [EPERM] * len(CALLS)


@pytest.mark.parametrize("name", ["execve", "clone3", "setns", "openat", "capset", "prctl"])
def test_no_other_call_passes_with_the_cookie(name: str) -> None:
    assert verdict(name, COOKIE) == EPERM
