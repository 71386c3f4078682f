"""Generated Localhost profiles: whatever is written, a profile comes of it or an error that names the file."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from minipod.errors import ContainerError
from minipod.plan.process.seccomp_json import parse
from minipod.plan.process.seccomp_profile import ACTIONS, COMPARISONS, Profile, Rule
from minipod.runtime.seccomp_compile import FAILURES, compile_profile
from tests.seccomp_verdicts import ALLOW, X86_64, verdict_of

KEYS = ("defaultAction", "defaultErrnoRet", "architectures", "archMap", "flags", "listenerPath", "syscalls", "names",
        "name", "action", "errnoRet", "args", "index", "op", "value", "valueTwo", "includes", "excludes", "caps",
        "arches", "architecture", "subArchitectures")  # fmt: skip
WORDS = ("SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_NOTIFY", "SCMP_CMP_EQ", "SCMP_CMP_MASKED_EQ", "read", "socket",
         "SCMP_ARCH_X86", "SCMP_ARCH_X86_64", "CAP_SYS_ADMIN", "amd64", "", "SECCOMP_FILTER_FLAG_TSYNC")  # fmt: skip

leaves = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.sampled_from(WORDS), st.text(max_size=6)
)
anything = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=4), inner, max_size=5)
    ),
    max_leaves=24,
)
numbers = st.integers(0, 2**64 - 1)
arguments = st.builds(
    lambda index, op, value, two: {"index": index, "op": f"SCMP_CMP_{op}", "value": value, "valueTwo": two},
    st.integers(0, 5), st.sampled_from(COMPARISONS), numbers, numbers,
)  # fmt: skip
entries = st.builds(
    lambda names, action, args: {"names": names, "action": f"SCMP_ACT_{action}", "args": args},
    st.lists(st.sampled_from(["read", "socket", "clone", "ioctl", "mseal", "nonsense"]), min_size=1, max_size=3),
    st.sampled_from(ACTIONS), st.lists(arguments, max_size=3),
)  # fmt: skip


def read(text: bytes) -> Profile | None:
    failure = None
    try:
        return parse(text, "/p.json", "x86_64", frozenset({"CHOWN"}))
    except ContainerError as error:
        failure = error
    assert str(failure).startswith("seccomp profile /p.json: ")
    assert failure.reason == "CreateContainerError"
    return None


@given(st.binary(max_size=40) | st.text(max_size=40).map(str.encode))
def test_any_bytes_are_a_profile_or_an_error(text: bytes) -> None:
    read(text)


@given(anything, st.dictionaries(st.sampled_from(KEYS), anything, max_size=4))
def test_any_json_is_a_profile_or_an_error(data: Any, more: dict[str, Any]) -> None:
    read(json.dumps(data).encode())
    read(
        json.dumps(
            {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"action": "SCMP_ACT_ALLOW", **more}], **more}
        ).encode()
    )


@given(st.lists(entries, max_size=4), st.sampled_from(["SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW", "SCMP_ACT_KILL_PROCESS"]))
def test_a_valid_profile_compiles_or_says_why_and_allows_no_call_that_it_does_not_name(
    listed: list[dict[str, Any]], default: str
) -> None:
    profile = read(json.dumps({"defaultAction": default, "syscalls": listed}).encode())
    assert profile is not None
    try:
        program = compile_profile(profile)
    except FAILURES:
        return
    getpid = verdict_of(program, X86_64, 39)
    assert (getpid == ALLOW) == (default == "SCMP_ACT_ALLOW")
    if not any("read" in entry["names"] for entry in listed):
        assert verdict_of(program, X86_64, 0) == getpid
    plain = [Rule(names=("read",))] == [rule for rule in profile.rules if "read" in rule.names]
    assert not plain or verdict_of(program, X86_64, 0) == ALLOW
