"""seccomp filters on the real kernel: a child tries a system call under a filter and tells its errno."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import platform
import struct
from pathlib import Path

import pytest

from minipod.errors import ContainerError
from minipod.kernel.process import install_seccomp_filter, set_no_new_privs
from minipod.paths import Paths
from minipod.plan.process.security import DEFAULT_CAPABILITIES
from minipod.runtime.seccomp import compiled_filter

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers are x86_64's")

CALLS = {
    "getpid": (39, ()), "add_key": (248, (0, 0, 0, 0, 0)), "keyctl": (250, (0,)), "unshare": (272, (0x04000000,)),
    "unshare nothing": (272, (0,)), "mount": (165, (0, 0, 0, 0, 0)), "clone3": (435, (0, 0)), "bpf": (321, (99, 0, 0)),
    "clone newuser": (56, (0x10000000, 0, 0, 0, 0)), "io_uring_setup": (425, (0, 0)), "fchmodat2": (452, (-1, 0, 0, 0)),
    "mseal": (462, (0, 0, 0)), "unheard of": (600, ()), "socket vsock": (41, (40, 1, 0)),
    "socket unix": (41, (1, 1, 0)), "socket alg": (41, (38, 5, 0)),
    "socket alg, upper half": (41, (1 << 32 | 38, 5, 0)),
    "socket vsock, upper half": (41, (0xFFFFFFFF << 32 | 40, 1, 0)), "socketpair alg": (53, (38, 5, 0, 0)),
    "tiocsti": (16, (-1, 0x5412, 0)), "tiocsti, upper half": (16, (-1, 1 << 32 | 0x5412, 0)),
    "clone newuser, upper half": (56, (1 << 32 | 0x10000000, 0, 0, 0, 0)),
    "personality": (135, (0xFFFFFFFF,)), "personality addr_no_randomize": (135, (0x0040000,)),
    "kexec_load": (246, (0, 0, 0, 0)), "ptrace": (101, (99, 0, 0, 0)), "reboot": (169, (0, 0, 0, 0)),
    "mkdir": (83, (0, 0)), "userfaultfd": (323, (0xFFFF,)), "sethostname": (170, (0, 0)),
}  # fmt: skip


def errno_under(program: bytes, call: str) -> int:
    """What a child gets for `call` once the filter holds: 0 or an errno."""
    number, arguments = CALLS[call]
    libc = ctypes.CDLL(None, use_errno=True)
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            set_no_new_privs()
            install_seccomp_filter(program)
            ctypes.set_errno(0)
            result = libc.syscall(ctypes.c_long(number), *(ctypes.c_long(argument) for argument in arguments))
            code = ctypes.get_errno() if result == -1 else 0
            os.write(writing, struct.pack("=i", code))
        finally:
            os._exit(0)
    os.close(writing)
    answer = os.read(reading, 4)
    os.close(reading)
    _, status = os.waitpid(pid, 0)
    assert len(answer) == 4, f"the child ended with status {status}"
    return int(struct.unpack("=i", answer)[0])


def default(paths: Paths, *capabilities: str) -> bytes:
    return compiled_filter("RuntimeDefault", DEFAULT_CAPABILITIES | frozenset(capabilities), paths)


@pytest.mark.parametrize(
    "call",
    ["add_key", "keyctl", "unshare", "unshare nothing", "mount", "bpf", "clone newuser", "io_uring_setup",
     "personality addr_no_randomize", "kexec_load", "reboot", "userfaultfd", "sethostname", "socket vsock",
     "socket alg", "socket alg, upper half", "socket vsock, upper half", "socketpair alg", "tiocsti",
     "tiocsti, upper half", "clone newuser, upper half"],
)  # fmt: skip
@pytest.mark.vm
def test_runtime_default_refuses(paths: Paths, call: str) -> None:
    assert errno_under(default(paths), call) == errno.EPERM


@pytest.mark.parametrize("call", ["getpid", "personality", "socket unix"])
@pytest.mark.vm
def test_runtime_default_allows(paths: Paths, call: str) -> None:
    assert errno_under(default(paths), call) == 0


@pytest.mark.parametrize(("call", "code"), [("mkdir", errno.EFAULT), ("ptrace", errno.ESRCH), ("mseal", 0)])
def test_runtime_default_lets_the_kernel_judge(paths: Paths, call: str, code: int) -> None:
    assert errno_under(default(paths), call) in (code, errno.EIO, errno.ENOSYS)


def test_system_call_that_libseccomp_does_not_know_yet_is_allowed(paths: Paths) -> None:
    assert errno_under(default(paths), "fchmodat2") in (errno.EFAULT, errno.EBADF, errno.ENOSYS)


@pytest.mark.parametrize("call", ["clone3", "unheard of"])
def test_c_library_is_made_to_use_an_older_call(paths: Paths, call: str) -> None:
    assert errno_under(default(paths), call) == errno.ENOSYS


@pytest.mark.parametrize(
    ("capability", "call", "code"),
    [("SYS_ADMIN", "unshare nothing", 0), ("SYS_ADMIN", "mount", errno.EFAULT), ("BPF", "bpf", errno.EINVAL)],
)
def test_capability_opens_its_system_calls(paths: Paths, capability: str, call: str, code: int) -> None:
    assert errno_under(default(paths, capability), call) in (code, errno.EINVAL)


@pytest.mark.vm
def test_unconfined_is_no_filter(paths: Paths) -> None:
    assert compiled_filter("Unconfined", DEFAULT_CAPABILITIES, paths) == b""


@pytest.mark.vm
def test_filter_is_compiled_once(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    program = default(paths)
    kept = list(Path(f"{paths.state}/cache").iterdir())
    assert [file.read_bytes() for file in kept] == [program]
    monkeypatch.setattr("minipod.runtime.seccomp.compile_profile", None)
    assert default(paths) == program


def localhost(paths: Paths, profile: dict[str, object]) -> bytes:
    path = Path(paths.state) / "seccomp/profile.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(profile))
    return compiled_filter(str(path), DEFAULT_CAPABILITIES, paths)


def test_localhost_profile_that_blocks_setting_the_hostname(paths: Paths) -> None:
    rule = {"names": ["sethostname"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}
    program = localhost(paths, {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})
    assert errno_under(program, "sethostname") == 95
    assert errno_under(program, "unheard of") == errno.ENOSYS
    assert errno_under(program, "getpid") == 0


def test_localhost_profile_with_arguments_means_or_where_one_is_compared_twice(paths: Paths) -> None:
    arguments = [{"index": 0, "op": "SCMP_CMP_EQ", "value": family} for family in (1, 40)]
    rule = {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "args": arguments}
    program = localhost(paths, {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})
    assert errno_under(program, "socket unix") == errno.EPERM
    assert errno_under(program, "socket vsock") == errno.EPERM


def test_localhost_profile_that_only_logs(paths: Paths) -> None:
    assert errno_under(localhost(paths, {"defaultAction": "SCMP_ACT_LOG"}), "getpid") == 0


def test_localhost_profile_that_would_compile_for_hours_is_an_error_after_seconds(paths: Paths) -> None:
    """85 rules of three comparisons each: libseccomp's tree of them has no end."""
    compared = [
        [
            {"index": (i + n) % 6, "op": f"SCMP_CMP_{('GE', 'NE', 'LT')[n % 3]}", "value": (n << 20) + n}
            for i in range(3)
        ]
        for n in range(85)
    ]
    rules = [{"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": one} for one in compared]
    with pytest.raises(ContainerError, match="cannot compile it: it takes more than 3 s: use fewer comparisons"):
        localhost(paths, {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules})


def test_missing_localhost_profile_says_where_it_belongs(paths: Paths) -> None:
    with pytest.raises(ContainerError, match=r"nothing\.json: No such file or directory: localhostProfile is a path"):
        compiled_filter("/nothing.json", DEFAULT_CAPABILITIES, paths)


def test_a_cache_that_cannot_be_used_costs_time_only(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.write_text("a file, so nothing can be read or made below it")
    profile = tmp_path / "profile.json"
    profile.write_text('{"defaultAction": "SCMP_ACT_ALLOW"}')
    assert compiled_filter(str(profile), DEFAULT_CAPABILITIES, Paths(str(tmp_path), str(state)))


def test_a_profile_is_compiled_once_also_where_nothing_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command in the container needs its filter too, and is started on the agent's loop."""
    state = tmp_path / "state"
    state.write_text("a file")
    profile = tmp_path / "profile.json"
    profile.write_text('{"defaultAction": "SCMP_ACT_ALLOW"}')
    program = compiled_filter(str(profile), DEFAULT_CAPABILITIES, Paths(str(tmp_path), str(state)))
    monkeypatch.setattr("minipod.runtime.seccomp._compiled_apart", None)
    assert compiled_filter(str(profile), DEFAULT_CAPABILITIES, Paths(str(tmp_path), str(state))) == program
