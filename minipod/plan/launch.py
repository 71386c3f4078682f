"""Operations as system calls alone (layer 2): what `kernel.launcher` does of a command in a running container. Pure.

The same list as the spawner's child would execute in Python, for the operations of an exec without a terminal. Its
descriptors: 0, 1, 2 the streams, 3 the report, 4 a pidfd of the container; what it opens itself becomes the next one.
"""

from __future__ import annotations

import base64
import fcntl
import os
import struct
from collections.abc import Iterator, Sequence

from minipod.kernel import process
from minipod.kernel.launcher import REPORT_FD, Argument, Call, Filter
from minipod.plan.cgroup import JoinCgroup
from minipod.plan.operation import ChildOperation
from minipod.plan.process.identity import (
    AssumeUser,
    BecomeUser,
    ChangeFolder,
    Exec,
    InstallSeccompFilter,
    NewSession,
    SetNoNewPrivs,
    SetOomScoreAdj,
    root_capabilities,
)
from minipod.plan.process.namespaces import Clone, JoinContainer

TARGET_FD = REPORT_FD + 1
_OPENED_FD = TARGET_FD + 1

_AT_FDCWD = -100
_ENDS = 0  # as `then` or `otherwise` of a call


def launch_calls(
    clone: Clone, operations: Sequence[ChildOperation], last_capability: int, permitted: int
) -> tuple[Call, ...] | None:
    """None where it takes more than system calls (a terminal). `permitted`: the capabilities there are to give."""
    if clone.namespaces or clone.pid_namespace != "target":
        return None
    calls = [*_prepare(), *_fork(clone)]
    user = AssumeUser(uid=0, gid=0)
    for operation in operations:
        if isinstance(operation, AssumeUser):
            user = operation
            continue
        made = _of_operation(operation, user, last_capability, permitted)
        if made is None:
            return None
        calls += made
    return tuple(calls)


def _prepare() -> Iterator[Call]:
    """What a child has done already that the spawner's fork begins with."""
    yield Call("prctl", (process.PR_SET_DUMPABLE, 0))
    yield Call("close_range", (_OPENED_FD, 0xFFFFFFFF, 0))
    for fd in (REPORT_FD, TARGET_FD):
        yield Call("fcntl", (fd, fcntl.F_SETFD, fcntl.FD_CLOEXEC))
    yield Call("umask", (0o022,))
    for number in process.INTERNAL_SIGNALS:
        yield Call("rt_sigaction", (number, bytes(32), 0, 8), otherwise=1)


def _fork(clone: Clone) -> Iterator[Call]:
    """Into the container's PID namespace only a child is born; its parent is the spawner (CLONE_PARENT)."""
    yield Call("setns", (TARGET_FD, process.CLONE_NEWPID))
    flags, cgroup_fd = process.CLONE_PARENT, 0
    if clone.cgroup2:
        yield _open(clone.cgroup2, os.O_PATH | os.O_DIRECTORY)
        flags, cgroup_fd = flags | process.CLONE_INTO_CGROUP, _OPENED_FD
    arguments = bytes(process.CloneArgs(flags=flags, cgroup=cgroup_fd))
    yield Call("clone3", (arguments, len(arguments)), then=_ENDS)
    if clone.cgroup2:
        yield Call("close", (_OPENED_FD,))


def _of_operation(
    operation: ChildOperation, user: AssumeUser, last_capability: int, permitted: int
) -> Sequence[Call] | None:
    match operation:
        case SetOomScoreAdj(value=value):
            return _write("/proc/self/oom_score_adj", str(value), must=False)
        case NewSession():
            return [Call("setsid", ()), Call("keyctl", (process.KEYCTL_JOIN_SESSION_KEYRING, 0), otherwise=1)]
        case JoinCgroup(directories=directories):
            return [call for directory in directories for call in _write(f"{directory}/tasks", "0")]
        case JoinContainer(namespaces=namespaces):
            flags = sum(process.NAMESPACE_FLAGS[kind] for kind in namespaces)
            return [Call("setns", (TARGET_FD, flags))]
        case ChangeFolder(path=path):
            return [Call("chdir", (_text(path),))]
        case SetNoNewPrivs():
            return [Call("prctl", (process.PR_SET_NO_NEW_PRIVS, 1))]
        case InstallSeccompFilter(program=text):
            return [Call("seccomp", (process.SECCOMP_SET_MODE_FILTER, 0, Filter(base64.b64decode(text))))]
        case BecomeUser(capabilities=capabilities):
            return list(_become(user, capabilities, last_capability, permitted))
        case Exec():
            return list(_exec(operation, user.home))
    return None


def _become(user: AssumeUser, capabilities: int, last_capability: int, permitted: int) -> Iterator[Call]:
    for number in range(last_capability + 1):
        if not capabilities >> number & 1:
            yield Call("prctl", (process.PR_CAPBSET_DROP, number))
    yield Call("prctl", (process.PR_CAP_AMBIENT, process.PR_CAP_AMBIENT_CLEAR_ALL))
    yield Call("setgroups", (len(user.groups), struct.pack(f"={len(user.groups)}I", *user.groups)))
    yield Call("setresgid", (user.gid, user.gid, user.gid))
    yield Call("setresuid", (user.uid, user.uid, user.uid))
    if user.uid == 0:
        mask = root_capabilities(capabilities, permitted)
        header, data = process.capability_sets(effective=mask, permitted=mask, inheritable=0)
        yield Call("capset", (bytes(header), bytes(data)))


def _exec(operation: Exec, home: str) -> Iterator[Call]:
    """The first program of that name that may be executed; what is wrong with none is told by the child in Python."""
    environment = operation.environment(home)
    rest: tuple[Argument, ...] = (
        tuple(os.fsencode(word) for word in operation.argv),
        tuple(os.fsencode(f"{name}={value}") for name, value in environment.items()),
    )
    name = operation.argv[0]
    if "/" in name:
        yield Call("execve", (_text(name), *rest))
        return
    folders = environment.get("PATH", "").split(":")
    for folder in folders:
        path = _text(f"{folder or '.'}/{name}")
        yield Call("faccessat", (_AT_FDCWD, path, os.X_OK), otherwise=_ENDS if folder is folders[-1] else 2)
        yield Call("execve", (path, *rest))


def _write(path: str, value: str, *, must: bool = True) -> list[Call]:
    written = Call("write", (_OPENED_FD, value.encode(), len(value)), otherwise=_ENDS if must else 1)
    return [_open(path, os.O_WRONLY), written, Call("close", (_OPENED_FD,))]


def _open(path: str, flags: int) -> Call:
    return Call("openat", (_AT_FDCWD, _text(path), flags | os.O_CLOEXEC))


def _text(path: str) -> bytes:
    return os.fsencode(path) + b"\0"
