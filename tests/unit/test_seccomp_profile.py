"""seccomp profiles as data: RuntimeDefault's conditions, and what is said about wrong Localhost profiles."""

from __future__ import annotations

import json
from typing import Any

import pytest

from minipod.errors import ContainerError
from minipod.plan.process.seccomp_json import parse
from minipod.plan.process.seccomp_profile import (
    EPERM,
    LAST_KNOWN_SYSCALL,
    NUMBERS,
    Argument,
    Profile,
    Rule,
    runtime_default,
)
from minipod.plan.process.security import CAPABILITIES, DEFAULT_CAPABILITIES


def read(profile: object, capabilities: frozenset[str] = DEFAULT_CAPABILITIES, machine: str = "x86_64") -> Profile:
    return parse(json.dumps(profile).encode(), "p.json", machine, capabilities)


def allowed(profile: Profile) -> set[str]:
    """Names that some rule allows whatever their arguments."""
    return {name for rule in profile.rules if rule.action == "ALLOW" and not rule.arguments for name in rule.names}


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("capabilities", [frozenset(), DEFAULT_CAPABILITIES, frozenset(CAPABILITIES)])
def test_runtime_default_never_allows_what_escapes(machine: str, capabilities: frozenset[str]) -> None:
    names = allowed(runtime_default(machine, capabilities))
    escapes = "add_key keyctl request_key kexec_load kexec_file_load userfaultfd swapon io_uring_setup io_uring_enter"
    assert not names & {*escapes.split(), "pivot_root", "nfsservctl", "socket", "personality"}
    assert {"read", "execve", "mmap", "futex", "clock_gettime", "statx", "waitid"} <= names


@pytest.mark.parametrize(
    ("capability", "name"),
    [("SYS_ADMIN", "mount"), ("SYS_ADMIN", "unshare"), ("SYS_PTRACE", "kcmp"), ("SYS_TIME", "settimeofday"),
     ("SYS_CHROOT", "chroot"), ("SYS_MODULE", "init_module"), ("SYS_BOOT", "reboot"), ("SYS_NICE", "mbind"),
     ("DAC_READ_SEARCH", "open_by_handle_at"), ("SYSLOG", "syslog"), ("PERFMON", "perf_event_open")],
)  # fmt: skip
def test_capability_decides_over_its_system_calls(capability: str, name: str) -> None:
    assert name not in allowed(runtime_default("x86_64", frozenset()))
    assert name in allowed(runtime_default("x86_64", frozenset({capability})))


def test_clone_makes_no_namespace_without_sys_admin() -> None:
    rules = runtime_default("x86_64", DEFAULT_CAPABILITIES).rules
    assert Rule(names=("clone",), arguments=(Argument(0, "MASKED_EQ", 0x7E020000, 0),)) in rules
    assert [rule.code for rule in rules if rule.names == ("clone3",)] == [38]


def test_unknown_architecture_is_an_error() -> None:
    with pytest.raises(ContainerError, match="architecture s390x is not known"):
        runtime_default("s390x", frozenset())


def test_numbers_reach_the_newest_known_call() -> None:
    assert max(NUMBERS.values()) == LAST_KNOWN_SYSCALL


def test_oci_profile_is_read() -> None:
    profile = read(
        {
            "defaultAction": "SCMP_ACT_ERRNO",
            "defaultErrnoRet": 38,
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_AARCH64"],
            "flags": ["SECCOMP_FILTER_FLAG_TSYNC"],
            "syscalls": [
                {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"},
                {
                    "names": ["clone"],
                    "action": "SCMP_ACT_ALLOW",
                    "args": [{"index": 0, "value": 7, "valueTwo": 1, "op": "SCMP_CMP_MASKED_EQ"}],
                },
            ],
        }
    )
    assert profile == Profile(
        architectures=("X86_64", "X86"),
        default_action="ERRNO",
        default_code=38,
        rules=(
            Rule(names=("read", "write")),
            Rule(names=("clone",), arguments=(Argument(0, "MASKED_EQ", 7, 1),)),
        ),
        new_is_enosys=False,
    )


def test_dockers_conditions_are_kept() -> None:
    profile = read(
        {
            "defaultAction": "SCMP_ACT_ERRNO",
            "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]}],
            "syscalls": [
                {"names": ["chroot"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_CHROOT"]}},
                {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
                {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
                {"names": ["arch_prctl"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["amd64"]}},
                {"names": ["cacheflush"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["arm64"]}},
                {"name": "read", "action": "SCMP_ACT_ALLOW", "args": []},
            ],
        }
    )
    assert allowed(profile) == {"chroot", "clone", "arch_prctl", "read"}
    assert profile.architectures == ("X86_64", "X86", "X32")
    assert profile.default_code == EPERM


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        ([], "p.json: Expected `object`, got `array`"),
        ({}, "p.json: Object missing required field `defaultAction`"),
        ({"defaultAction": "SCMP_ACT_DENY"}, "defaultAction: 'SCMP_ACT_DENY' is not known"),
        ({"defaultAction": "SCMP_ACT_NOTIFY"}, "SCMP_ACT_NOTIFY is not supported"),
        (
            {"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_LOG"]},
            "flags: SECCOMP_FILTER_FLAG_LOG is not",
        ),
        ({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": {"a": 1}}, r"got `object` - at `\$.syscalls`"),
        ({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [1]}, r"got `int` - at `\$.syscalls\[0\]`"),
        (
            {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"action": "SCMP_ACT_LOG"}]},
            r"syscalls\[0\].names: has to be",
        ),
        (
            {
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["a"], "action": "SCMP_ACT_ERRNO", "errnoRet": -1}],
            },
            r">= 0 - at `\$.syscalls\[0\].errnoRet`",
        ),
        (
            {
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["a"], "action": "SCMP_ACT_LOG", "args": [{"index": 0, "op": "SCMP_CMP_IS"}]}],
            },
            r"syscalls\[0\].args\[0\].op: SCMP_CMP_IS is not known",
        ),
    ],
)
def test_wrong_profile_names_the_file_and_the_field(profile: Any, message: str) -> None:
    with pytest.raises(ContainerError, match=message):
        read(profile)


def test_profile_that_is_no_json_is_named() -> None:
    with pytest.raises(ContainerError, match=r"seccomp profile p\.json: "):
        parse(b"{", "p.json", "x86_64", frozenset())
