"""The short filter gives every verdict of libseccomp's own (unit)."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from minipod.plan.process.seccomp_json import parse
from minipod.plan.process.seccomp_profile import runtime_default
from minipod.runtime import seccomp_compile
from tests.seccomp_verdicts import OTHER, X32_BIT, X86, X86_64, verdict_of

pytest.importorskip("pyseccomp")

NUMBERS = [*range(600), 1000, X32_BIT - 1, *range(X32_BIT, X32_BIT + 600), 0x7FFFFFFF, 0xFFFFFFFF]
ARGUMENTS = (0, 1, 2, 8, 40, 0x20000, 0x7E020000, 0xFFFFFFFF, 0x100000000)


def both(profile: object, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    texts = [seccomp_compile.compile_profile(profile)]  # type: ignore[arg-type]
    monkeypatch.setattr(seccomp_compile, "shortened", lambda text, _: text)
    texts.append(seccomp_compile.compile_profile(profile))  # type: ignore[arg-type]
    return texts


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
                call = (architecture, number, *arguments)
                assert verdict_of(short, *call) == verdict_of(full, *call), (hex(architecture), number, arguments)
    if not localhost:
        assert len(short) < len(full) / 3
