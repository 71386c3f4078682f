"""The short filter gives every verdict of libseccomp's own (unit)."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest

from minipod.plan.process.seccomp_profile import parse, runtime_default
from minipod.runtime import seccomp

pytest.importorskip("pyseccomp")

INSTRUCTION = struct.Struct("=HBBI")
X86_64, X86, OTHER = 0xC000003E, 0x40000003, 0xC00000B7
X32_BIT = 0x40000000
NUMBERS = [*range(600), 1000, X32_BIT - 1, *range(X32_BIT, X32_BIT + 600), 0x7FFFFFFF, 0xFFFFFFFF]
ARGUMENTS = (0, 1, 2, 8, 40, 0x20000, 0x7E020000, 0xFFFFFFFF, 0x100000000)


def verdict(program: list[tuple[int, int, int, int]], data: bytes) -> int:
    """Classic BPF as seccomp(2) has it, as far as libseccomp uses it."""
    at = loaded = 0
    while True:
        code, jt, jf, k = program[at]
        at += 1
        match code:
            case 0x06:
                return k
            case 0x20:
                (loaded,) = struct.unpack_from("=I", data, k)
            case 0x54:
                loaded &= k
            case 0x05:
                at += k
            case 0x15 | 0x25 | 0x35 | 0x45:
                holds = {0x15: loaded == k, 0x25: loaded > k, 0x35: loaded >= k, 0x45: bool(loaded & k)}[code]
                at += jt if holds else jf
            case _:
                raise NotImplementedError(hex(code))


def both(profile: object, monkeypatch: pytest.MonkeyPatch) -> list[list[tuple[int, int, int, int]]]:
    texts = [seccomp.compile_profile(profile)]  # type: ignore[arg-type]
    monkeypatch.setattr(seccomp, "shortened", lambda text, _: text)
    texts.append(seccomp.compile_profile(profile))  # type: ignore[arg-type]
    return [list(INSTRUCTION.iter_unpack(text)) for text in texts]


LOCALHOST = b"""{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "architectures": ["SCMP_ARCH_X86_64"],
"syscalls": [{"names": ["read", "write", "exit_group"], "action": "SCMP_ACT_ALLOW"},
 {"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}]},
 {"names": ["clone"], "action": "SCMP_ACT_ALLOW",
  "args": [{"index": 0, "value": 2114060288, "op": "SCMP_CMP_MASKED_EQ"}]},
 {"names": ["kill"], "action": "SCMP_ACT_KILL_PROCESS"}]}"""


@pytest.mark.parametrize("which", ["default", "default with SYS_ADMIN", "localhost"])
def test_every_verdict_is_libseccomps(which: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    capabilities = frozenset({"SYS_ADMIN", "SYS_PTRACE"} if "SYS_ADMIN" in which else ())
    localhost = which == "localhost"
    profile = parse(LOCALHOST, "p", "x86_64", capabilities) if localhost else runtime_default("x86_64", capabilities)
    short, full = both(profile, monkeypatch)
    chance = random.Random(1)
    for architecture in (X86_64, X86, OTHER):
        for number in NUMBERS:
            for _ in range(3):
                arguments = [chance.choice(ARGUMENTS) for _ in range(6)]
                data = struct.pack("=IIQ6Q", number, architecture, 0, *arguments)
                assert verdict(short, data) == verdict(full, data), (hex(architecture), number, arguments)
    if not localhost:
        assert len(short) < len(full) / 3
