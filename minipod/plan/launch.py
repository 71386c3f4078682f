"""Operations as system calls alone (layer 2): what `kernel.launcher` does of a command in a running container. Pure.

The same list as the spawner's child would execute in Python, for the operations of an exec. Its descriptors: 0, 1, 2
the streams, 3 the report, 4 a pidfd of the container and then its root; from 5 on what it opens itself.
"""

from __future__ import annotations

import base64
import fcntl
import os
import resource
import signal
import struct
import termios
from collections.abc import Iterator, Sequence

from minipod.kernel import process
from minipod.kernel.launcher import (
    REPORT_FD,
    SCRATCH,
    SCRATCH_BYTES,
    Argument,
    Call,
    Descriptor,
    Filter,
    compare,
    scratch,
)
from minipod.kernel.mount import AT_EMPTY_PATH, DEVPTS_SUPER_MAGIC
from minipod.kernel.path import AT_FDCWD, RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, OpenHow
from minipod.plan.cgroup import JoinCgroup
from minipod.plan.operation import ChildOperation
from minipod.plan.process.entry import ChangeFolder, CheckProgram, EnterRoot
from minipod.plan.process.identity import (
    ADMIN,
    PTMX,
    SEARCH,
    TIOCGPTPEER,
    TIOCSPTLCK,
    AssumeUser,
    BecomeUser,
    DropCapabilities,
    Exec,
    InstallSeccompFilter,
    LimitOpenFiles,
    NewKeyring,
    NewSession,
    OpenTerminal,
    SetNoNewPrivs,
    SetOomScoreAdj,
    root_capabilities,
    until_dropped,
)
from minipod.plan.process.namespaces import Clone, CloseDescriptors, EnterPidNamespace, JoinContainer

TARGET_FD = REPORT_FD + 1
_ROOT_FD = TARGET_FD  # once the container is joined
_OPENED_FD = TARGET_FD + 1

_STATX_TYPE, _STATX_INO = 0x1, 0x100
_STX_INO, _STX_RDEV, _STX_DEV = 32, 128, 136  # offsets in struct statx (statx(2))
TERMINAL = b"terminal"  # the message that brings the master of the command's pty
_ENDS = 0  # as `then` or `otherwise` of a call


def launch_calls(
    clone: Clone, operations: Sequence[ChildOperation], last_capability: int, permitted: int
) -> tuple[Call, ...] | None:
    """None where it takes more than system calls. `permitted`: the capabilities that can be granted."""
    if clone.namespaces:
        return None
    known = _Known(last_capability, permitted)
    calls: list[Call] = []
    for operation in operations:
        made = known.calls(operation)
        if made is None:
            return None
        calls += made
        if isinstance(operation, CloseDescriptors) and clone.cgroup2:
            calls += _into_cgroup2(clone.cgroup2)
    end = len(calls)
    exits = [n for n, call in enumerate(calls) if call.then == _EXITS]
    calls = [call._replace(then=end - n) if n in exits else call for n, call in enumerate(calls)]
    return (*calls, Call("exit_group", (0,)))


_EXITS = -1  # as `then`: on to the last call, which ends the process without a report


def _into_cgroup2(directory: str) -> Iterator[Call]:
    """Only a clone gets into a group of cgroup2 without the kernel's global lock (CLONE_INTO_CGROUP)."""
    yield _open(directory, os.O_PATH | os.O_DIRECTORY)
    flags = process.CLONE_PARENT | process.CLONE_INTO_CGROUP
    arguments = bytes(process.CloneArgs(flags=flags, cgroup=_OPENED_FD))
    yield Call("clone3", (arguments, len(arguments)), then=_EXITS)
    yield Call("close", (_OPENED_FD,))


class _Known:
    """What is known beforehand: the host's capabilities, the user, what the container may do."""

    def __init__(self, last_capability: int, permitted: int) -> None:
        self._last_capability = last_capability
        self._permitted = permitted
        self._user = AssumeUser(uid=0, gid=0)

    def calls(self, operation: ChildOperation) -> Sequence[Call] | None:
        """None where it takes more than system calls."""
        match operation:
            case CloseDescriptors():
                return list(_close_descriptors())
            case SetOomScoreAdj(value=value):
                return _write("/proc/self/oom_score_adj", str(value), must=False)
            case LimitOpenFiles(soft=soft, hard=hard):
                return [Call("prlimit64", (0, resource.RLIMIT_NOFILE, struct.pack("=QQ", soft, hard), 0), otherwise=1)]
            case NewKeyring():
                return [Call("keyctl", (process.KEYCTL_JOIN_SESSION_KEYRING, 0), otherwise=1)]
            case JoinCgroup(directories=directories):
                return [call for directory in directories for call in _write(f"{directory}/tasks", "0")]
            case JoinContainer(namespaces=namespaces):
                flags = sum(process.NAMESPACE_FLAGS[kind] for kind in namespaces)
                return [Call("setns", (TARGET_FD, flags)), Call("close", (TARGET_FD,))]
            case EnterRoot(device=device, inode=inode):
                return list(_enter_root(device, inode))
            case AssumeUser():
                self._user = operation
                return ()
            case OpenTerminal(console=False):
                return list(_open_terminal(operation, self._user.uid))
            case SetNoNewPrivs():
                return [Call("prctl", (process.PR_SET_NO_NEW_PRIVS, 1))]
            case BecomeUser(capabilities=capabilities):
                self._permitted = until_dropped(capabilities, self._permitted)
                return list(self._become(capabilities))
            case ChangeFolder(path=path):
                return list(_change_folder(path))
            case CheckProgram(path=path, cookie=cookie):
                return [_open_without_magic(AT_FDCWD, path, 0, cookie), Call("close", (_ROOT_FD,))]  # the lowest free
            case InstallSeccompFilter(program=text):
                filtered = Filter(base64.b64decode(text))
                return [
                    self._capset(ADMIN & self._permitted, self._permitted),
                    Call("seccomp", (process.SECCOMP_SET_MODE_FILTER, 0, filtered)),
                ]
            case DropCapabilities(capabilities=capabilities):
                mask = root_capabilities(capabilities, self._permitted) if self._user.uid == 0 else 0
                return [self._capset(mask, mask)]
            case EnterPidNamespace(cookie=cookie):
                flags = process.CLONE_PARENT | signal.SIGCHLD
                return [Call("clone", (flags, 0, 0, 0, cookie), then=_ENDS)]
            case NewSession(terminal=terminal, cookie=cookie):
                lead = Call("setsid", (0, 0, 0, 0, cookie))
                return [lead, Call("ioctl", (0, termios.TIOCSCTTY, 0, 0, cookie))] if terminal else [lead]
            case Exec():
                return list(_exec(operation, self._user.home))
        return None

    def _become(self, capabilities: int) -> Iterator[Call]:
        user = self._user
        for number in range(self._last_capability + 1):
            if not capabilities >> number & 1:
                yield Call("prctl", (process.PR_CAPBSET_DROP, number))
        yield Call("prctl", (process.PR_CAP_AMBIENT, process.PR_CAP_AMBIENT_CLEAR_ALL))
        yield Call("setgroups", (len(user.groups), struct.pack(f"={len(user.groups)}I", *user.groups)))
        yield Call("setresgid", (user.gid, user.gid, user.gid))
        yield Call("prctl", (process.PR_SET_KEEPCAPS, 1))
        yield Call("setresuid", (user.uid, user.uid, user.uid))
        yield self._capset(SEARCH, self._permitted)
        yield Call("prctl", (process.PR_SET_DUMPABLE, 0))

    @staticmethod
    def _capset(effective: int, permitted: int) -> Call:
        header, data = process.capability_sets(effective=effective, permitted=permitted, inheritable=0)
        return Call("capset", (bytes(header), bytes(data)))


def _close_descriptors() -> Iterator[Call]:
    """And what a child of the spawner has already done when it starts."""
    yield Call("prctl", (process.PR_SET_DUMPABLE, 0))
    yield Call("close_range", (_OPENED_FD, 0xFFFFFFFF, 0))
    for fd in (REPORT_FD, TARGET_FD):
        yield Call("fcntl", (fd, fcntl.F_SETFD, fcntl.FD_CLOEXEC))
    yield Call("umask", (0o022,))
    for number in process.INTERNAL_SIGNALS:
        yield Call("rt_sigaction", (number, bytes(32), 0, 8), otherwise=1)
    yield scratch()


def _enter_root(device: int, inode: int) -> Iterator[Call]:
    yield _open("/", os.O_PATH | os.O_DIRECTORY)  # it becomes `_ROOT_FD`, the lowest that is free
    yield Call("statx", (_ROOT_FD, b"\0", AT_EMPTY_PATH, _STATX_INO, SCRATCH))
    yield compare(_STX_INO, struct.pack("=Q", inode))
    yield compare(_STX_DEV, struct.pack("=II", os.major(device), os.minor(device)))


def _open_terminal(operation: OpenTerminal, uid: int) -> Iterator[Call]:
    """As `OpenTerminal.execute`; the master goes with the report."""
    master, slave = _OPENED_FD, _OPENED_FD + 1
    how = bytes(OpenHow(os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS))
    yield Call("openat2", (_ROOT_FD, _text("/dev/pts/ptmx"), how, len(how)))
    yield Call("statx", (master, b"\0", AT_EMPTY_PATH, _STATX_TYPE, SCRATCH))
    yield compare(_STX_RDEV, struct.pack("=II", os.major(PTMX), os.minor(PTMX)))
    yield Call("fstatfs", (master, SCRATCH))
    yield compare(0, struct.pack("=Q", DEVPTS_SUPER_MAGIC))
    yield Call("ioctl", (master, TIOCSPTLCK, struct.pack("=i", 0)))
    yield Call("ioctl", (master, TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    if operation.rows and operation.columns:
        size = struct.pack("=HHHH", operation.rows, operation.columns, 0, 0)
        yield Call("ioctl", (slave, termios.TIOCSWINSZ, size))
    yield Call("fchown", (slave, uid, -1))
    yield Call("sendmsg", (REPORT_FD, Descriptor(TERMINAL, master), 0))
    for stream in range(3):
        yield Call("dup3", (slave, stream, 0))
    for fd in (slave, master):
        yield Call("close", (fd,))


def _change_folder(path: str) -> Iterator[Call]:
    yield _open_without_magic(_ROOT_FD, path, RESOLVE_IN_ROOT)
    yield Call("fchdir", (_OPENED_FD,))
    yield Call("close", (_OPENED_FD,))
    yield Call("close", (_ROOT_FD,))
    yield Call("getcwd", (SCRATCH, SCRATCH_BYTES))
    yield compare(0, b"/")


def _open_without_magic(dir_fd: int, path: str, resolve: int, cookie: int = 0) -> Call:
    how = bytes(OpenHow(os.O_PATH | os.O_CLOEXEC, 0, resolve | RESOLVE_NO_MAGICLINKS))
    return Call("openat2", (dir_fd, _text(path), how, len(how), cookie))


def _exec(operation: Exec, home: str) -> Iterator[Call]:
    """The first program of that name that may be executed; where there is none, the child reports why in Python."""
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
        yield Call("faccessat", (AT_FDCWD, path, os.X_OK), otherwise=_ENDS if folder is folders[-1] else 2)
        yield Call("execve", (path, *rest))


def _write(path: str, value: str, *, must: bool = True) -> list[Call]:
    written = Call("write", (_OPENED_FD, value.encode(), len(value)), otherwise=_ENDS if must else 1)
    return [_open(path, os.O_WRONLY), written, Call("close", (_OPENED_FD,))]


def _open(path: str, flags: int) -> Call:
    return Call("openat", (AT_FDCWD, _text(path), flags | os.O_CLOEXEC))


def _text(path: str) -> bytes:
    return os.fsencode(path) + b"\0"
