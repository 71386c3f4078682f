"""The program that makes the system calls it is built with: it runs here without root."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import struct

import pytest

from minipod.kernel import launcher
from minipod.kernel.launcher import (
    REPORT,
    REPORT_FD,
    SCRATCH,
    SCRATCH_BYTES,
    Call,
    Descriptor,
    Filter,
    compare,
    scratch,
)
from minipod.plan.cgroup import JoinCgroup
from minipod.plan.launch import launch_calls
from minipod.plan.operation import ChildOperation
from minipod.plan.process.entry import ChangeFolder, EnterRoot
from minipod.plan.process.identity import (
    AssumeUser,
    BecomeUser,
    DropCapabilities,
    Exec,
    NewSession,
    OpenTerminal,
    SetOomScoreAdj,
)
from minipod.plan.process.namespaces import Clone, CloseDescriptors, EnterPidNamespace, JoinContainer
from minipod.runtime.spawner.launches import is_child, outcome

pytestmark = pytest.mark.skipif(not launcher.is_known(), reason="no launcher for this architecture")

AT_FDCWD = -100
SAY = Call("write", (1, b"said\n", 5))


def run(*calls: Call) -> tuple[int, bytes, list[tuple[int, int]]]:
    """(exit status, what it wrote, its reports as (result, number of the call))."""
    program = launcher.sealed(launcher.program(calls))
    out, out_writer = os.pipe()
    report, report_writer = os.pipe()
    pid = os.posix_spawn(
        f"/proc/self/fd/{program}",
        ["launcher"],
        {},
        file_actions=[(os.POSIX_SPAWN_DUP2, out_writer, 1), (os.POSIX_SPAWN_DUP2, report_writer, REPORT_FD)],
    )
    for fd in (program, out_writer, report_writer):
        os.close(fd)
    with open(out, "rb") as out_file, open(report, "rb") as report_file:
        said, reported = out_file.read(), report_file.read()
    reports = [(result, launcher.index_of(place)) for result, place in REPORT.iter_unpack(reported)]
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said, reports


def shell(script: str, *environment: str) -> Call:
    words = (b"sh", b"-c", script.encode())
    return Call("execve", (b"/bin/sh\0", words, tuple(entry.encode() for entry in environment)))


def test_it_makes_one_call_after_the_other_and_becomes_the_last() -> None:
    assert run(SAY, Call("chdir", (b"/proc\0",)), shell("echo $PWD $A; exit 3", "A=b c")) == (
        3,
        b"said\n/proc b c\n",
        [],
    )


def test_a_call_that_fails_is_reported_and_ends_it() -> None:
    assert run(SAY, Call("chdir", (b"/nowhere\0",)), SAY, shell("true")) == (255, b"said\n", [(-errno.ENOENT, 1)])


def test_a_call_that_may_fail_leads_on_where_it_says() -> None:
    missing = Call("faccessat", (AT_FDCWD, b"/nowhere\0", os.X_OK), otherwise=2)
    assert run(missing, SAY, shell("echo there")) == (0, b"there\n", [])


def test_a_result_above_0_goes_on_or_is_reported() -> None:
    opened = Call("openat", (AT_FDCWD, b"/dev/null\0", os.O_RDONLY))
    assert run(opened, SAY, shell("true"))[:2] == (0, b"said\n")
    status, said, reports = run(opened._replace(then=0), SAY, shell("true"))
    assert (status, said) == (0, b"")
    assert [(result > 0, call) for result, call in reports] == [(True, 0)]


def test_what_was_answered_is_compared_and_ends_it_where_it_differs() -> None:
    asked = (scratch(), Call("fchdir", (0,), otherwise=1), Call("getcwd", (SCRATCH, SCRATCH_BYTES)))
    assert run(*asked, compare(0, os.fsencode(os.getcwd())), SAY, shell("true"))[:2] == (0, b"said\n")
    status, said, reports = run(*asked, compare(0, b"(unreachable)"), SAY, shell("true"))
    assert (status, said, reports) == (255, b"", [(-errno.EPERM, 3)])


def test_a_descriptor_is_sent_with_a_message() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        os.dup2(theirs.fileno(), 40, inheritable=True)
        try:
            assert run(Call("sendmsg", (40, Descriptor(b"here", 0), 0)), SAY, shell("true"))[:2] == (0, b"said\n")
        finally:
            os.close(40)
        message, fds, _, _ = socket.recv_fds(ours, 100, 2)
        assert (message, len(fds)) == (b"here", 1)
        assert os.path.samestat(os.fstat(fds[0]), os.fstat(0))
        os.close(fds[0])


def test_a_filter_is_handed_over_as_a_program_with_its_length() -> None:
    kill = bytes.fromhex("0600000000000080")  # BPF_RET SECCOMP_RET_KILL_PROCESS
    calls = Call("prctl", (38, 1)), Call("seccomp", (1, 0, Filter(kill))), shell("true")
    assert run(*calls)[0] == -signal.SIGSYS


def test_nobody_can_change_the_program() -> None:
    fd = launcher.sealed(launcher.program([SAY]))
    try:
        assert fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_WRITE
        again = os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_CLOEXEC)
        with pytest.raises(PermissionError):
            os.write(again, b"x")
        os.close(again)
    finally:
        os.close(fd)


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_table_follows_the_code_of_every_architecture(machine: str) -> None:
    program = launcher.program([SAY], machine)
    assert launcher.index_of(0x400000 + program.index((64 if machine == "aarch64" else 1).to_bytes(8, "little"), 120),
                             machine) == 0  # fmt: skip


# ---- what the operations of an exec become

OPERATIONS: tuple[ChildOperation, ...] = (
    CloseDescriptors(),
    SetOomScoreAdj(-3),
    JoinCgroup("/pod", ("/sys/fs/cgroup/cpu/pod",)),
    JoinContainer(),
    EnterRoot(0x801, 2),
    AssumeUser(uid=1000, gid=7, groups=(7, 8), home="/home/me"),
    BecomeUser(capabilities=0b101),
    ChangeFolder("/work"),
    DropCapabilities(0b101),
    EnterPidNamespace(),
    NewSession(),
    Exec(argv=("cat", "/etc/hosts"), env=("PATH=/bin:/sbin", "A=b")),
)
INSIDE = Clone(namespaces=(), cgroup2="/sys/fs/cgroup/pod")
SEARCH, ADMIN = 1 << 2, 1 << 21  # CAP_DAC_READ_SEARCH, CAP_SYS_ADMIN


def calls_of(*operations: ChildOperation, clone: Clone = INSIDE) -> tuple[Call, ...]:
    calls = launch_calls(clone, operations, last_capability=2, permitted=0b111 | ADMIN)
    assert calls is not None
    return calls


def test_a_user_other_than_root_gets_groups_and_no_effective_capabilities() -> None:
    calls = calls_of(*OPERATIONS)
    names = [call.name for call in calls]
    assert names.index("clone3") < names.index("setgroups") < names.index("setresuid") < names.index("clone")
    assert [call.arguments for call in calls if call.name in ("setgroups", "setresgid", "setresuid")] == [
        (2, bytes([7, 0, 0, 0, 8, 0, 0, 0])),
        (7, 7, 7),
        (1000, 1000, 1000),
    ]
    sets = [struct.unpack("=6I", bytes(call.arguments[1])) for call in calls if call.name == "capset"]  # type: ignore[arg-type]
    assert [(effective, permitted) for effective, permitted, *_ in sets] == [(SEARCH, 0b101 | ADMIN), (0, 0)]
    assert ("prctl", (24, 1)) in [(call.name, call.arguments) for call in calls]  # PR_CAPBSET_DROP of the one it lacks


def test_the_program_is_looked_for_in_the_path_and_home_is_the_users() -> None:
    *_, first, second, third, last, _ = calls_of(*OPERATIONS)
    assert (first.name, first.arguments[1], first.otherwise) == ("faccessat", b"/bin/cat\0", 2)
    assert (third.arguments[1], third.otherwise) == (b"/sbin/cat\0", 0)
    assert second.arguments[1:] == ((b"cat", b"/etc/hosts"), (b"PATH=/bin:/sbin", b"A=b", b"HOME=/home/me"))
    assert last.arguments[0] == b"/sbin/cat\0"


def test_a_container_s_start_takes_more_than_system_calls() -> None:
    assert launch_calls(INSIDE, [OpenTerminal(console=True), *OPERATIONS], 2, 0) is None
    assert launch_calls(Clone(namespaces=("mnt",)), OPERATIONS, 2, 0) is None


def test_a_failure_counts_in_whatever_order_program_and_fork_report() -> None:
    started, failed = REPORT.pack(4711, 0), REPORT.pack(-errno.ENOENT, 0)
    assert outcome(started) == (4711, None)
    for reports in (started + failed, failed + started):
        pid, failure = outcome(reports)
        assert (pid, failure and failure[1]) == (4711, errno.ENOENT)
    assert outcome(failed)[0] == 0
    assert outcome(b"") == (0, ("killed before exec", 0))


@pytest.mark.parametrize(
    "forged",
    [
        REPORT.pack(4711, 0) + REPORT.pack(1, 0),  # with SIGKILL to its group: every process there is
        REPORT.pack(4711, 0) + b"x",
        REPORT.pack(4711, 0) + REPORT.pack(-(2**63), 0),
        REPORT.pack(4711, 0) + REPORT.pack(-errno.ENOENT, 0) * 4,
    ],
    ids=["another pid", "a part", "no errno", "too many"],
)
def test_a_report_that_a_process_in_the_container_has_had_a_hand_in_believed_in_nothing(forged: bytes) -> None:
    assert outcome(forged) == (0, ("what it reports is not of this command", errno.EPROTO))


def test_only_a_child_that_is_not_reaped_is_taken_for_the_command() -> None:
    pid = os.posix_spawn("/bin/true", ["true"], {})
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert is_child(pid)
    os.waitpid(pid, 0)
    assert [is_child(other) for other in (pid, 1, os.getpid(), 2**62)] == [False] * 4
