"""Processes (layer 1): clone3, namespaces, capabilities, seccomp, keyrings, close_range. No policy."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import signal
import termios
from collections.abc import Iterable

import prctl

from minipod.kernel.libc import c_int, c_ulong, c_void_p, fail, function, syscall

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_PIDFD = 0x00001000
CLONE_PARENT = 0x00008000
CLONE_INTO_CGROUP = 0x200000000

NAMESPACE_FLAGS = {
    "mnt": CLONE_NEWNS,
    "cgroup": CLONE_NEWCGROUP,
    "uts": CLONE_NEWUTS,
    "ipc": CLONE_NEWIPC,
    "user": CLONE_NEWUSER,
    "pid": CLONE_NEWPID,
    "net": CLONE_NEWNET,
}

PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4
SECCOMP_SET_MODE_FILTER = 1
KEYCTL_JOIN_SESSION_KEYRING = 1
INTERNAL_SIGNALS = (32, 33)  # SIGCANCEL, SIGSETXID

EXIT_ATTEMPTS, EXIT_PAUSE_S = 25, 0.02  # of `exit_of`

_LINUX_CAPABILITY_VERSION_3 = 0x20080522
_CLOSE_RANGE_CLOEXEC = 4
_PIDFD_GET_INFO = 0xC040FF0B
_PIDFD_INFO_EXIT = 8

_setns = function("setns", c_int, c_int)
_unshare = function("unshare", c_int)
_prctl = function("prctl", c_int, c_ulong, c_ulong, c_ulong, c_ulong)
_capset = function("capset", c_void_p, c_void_p)
_capget = function("capget", c_void_p, c_void_p)
_sethostname = function("sethostname", ctypes.c_char_p, ctypes.c_size_t)


class CloneArgs(ctypes.Structure):
    """struct clone_args (clone3(2))."""

    _fields_ = tuple(
        (name, ctypes.c_uint64)
        for name in (
            "flags",
            "pidfd",
            "child_tid",
            "parent_tid",
            "exit_signal",
            "stack",
            "stack_size",
            "tls",
            "set_tid",
            "set_tid_size",
            "cgroup",
        )
    )


class _CapHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", c_int))


class _CapData(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


class _SockFilterProgram(ctypes.Structure):
    """struct sock_fprog (seccomp(2))."""

    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def clone3(flags: int, cgroup_fd: int = -1) -> tuple[int, int]:
    """clone3(2) like fork: (0, -1) in the child, (pid, pidfd) in the parent.

    CPython's own after-fork work is not done: the caller has one thread, and the child goes straight to exec or
    `os._exit`. `cgroup_fd`: an open cgroup2 directory that the child starts in (CLONE_INTO_CGROUP).
    """
    pidfd = c_int(-1)
    arguments = CloneArgs(
        flags=flags | CLONE_PIDFD | (CLONE_INTO_CGROUP if cgroup_fd >= 0 else 0),
        pidfd=ctypes.addressof(pidfd),
        exit_signal=signal.SIGCHLD,
        cgroup=max(cgroup_fd, 0),
    )
    pid = syscall("clone3", ctypes.byref(arguments), ctypes.sizeof(arguments))
    return (pid, pidfd.value) if pid else (0, -1)


def clone(flags: int, cookie: int = 0) -> int:
    """clone(2) like fork: 0 in the child, its pid in the parent; for where a filter of system calls is in force.

    clone3(2) hides its flags from a filter, so filters refuse it. `cookie` is the last argument, which the kernel does
    not look at without CLONE_SETTLS and CLONE_CHILD_SETTID, but a filter may. See `clone3`.
    """
    return syscall("clone", flags | signal.SIGCHLD, None, None, None, cookie)


def setsid(cookie: int = 0) -> None:
    """setsid(2); `cookie` as of `clone`."""
    syscall("setsid", None, None, None, None, cookie)


def set_controlling_terminal(fd: int, cookie: int = 0) -> None:
    """ioctl(2) TIOCSCTTY by a session's leader that has none yet; `cookie` as of `clone`."""
    syscall("ioctl", fd, termios.TIOCSCTTY, None, None, cookie)


def exit_of(pidfd: int, pid: int) -> tuple[int, int] | None:
    """How a process that is not our child has ended: exit code, 128 + signal where that ended it, and the signal or 0.
    None while it runs or where it is unknown, as for a moment before init reaps it (EXIT_ATTEMPTS, EXIT_PAUSE_S).

    Of a reaped process from its pidfd (PIDFD_GET_INFO, Linux 6.15), of a zombie from its stat (proc_pid_stat(5)).
    """
    info = bytearray(64)  # struct pidfd_info, first published size
    info[0] = _PIDFD_INFO_EXIT
    try:
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, info)
    except OSError:
        info[0] = 0
    if int.from_bytes(info[:8], "little") & _PIDFD_INFO_EXIT:
        return _exit(int.from_bytes(info[60:64], "little"))
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return _exit(int(fields[49])) if fields[0] == "Z" else None


def reap_ended(pids: list[int]) -> None:
    """Reaps those of this process' children that have ended, and takes them out of the list. Waits for none."""
    for pid in tuple(pids):
        try:
            ended, _ = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            ended = pid
        if ended:
            pids.remove(pid)


def _exit(status: int) -> tuple[int, int]:
    """Of wait(2)'s status."""
    number = status & 0x7F
    return (128 + number, number) if number else (status >> 8, 0)


def setns(fd: int, flags: int = 0) -> None:
    """setns(2): `fd` is a namespace file, or a pidfd with the namespaces to join as flags."""
    if _setns(fd, flags) != 0:
        fail("setns", f"fd {fd}")


def unshare(flags: int) -> None:
    if _unshare(flags) != 0:
        fail("unshare", hex(flags))


def enter_own_mount_namespace() -> None:
    """Root and working directory become those of the mount namespace itself, which a chroot(2) does not share.

    setns(2) into the namespace that one is in already: that is what it does to fs_struct.
    """
    fd = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        setns(fd, CLONE_NEWNS)
    finally:
        os.close(fd)


def change_root(root_fd: int) -> None:
    """Back below a root that was open before: fchdir(2), chroot(2). No confinement, only where paths begin."""
    os.fchdir(root_fd)
    os.chroot(".")


def sethostname(name: str) -> None:
    if _sethostname(name.encode(), len(name.encode())) != 0:
        fail("sethostname", name)


def close_on_exec_from(first: int) -> None:
    """Every descriptor from `first` on is closed by the next exec. close_range(2), Linux 5.11 for the flag."""
    try:
        syscall("close_range", first, 0xFFFFFFFF, _CLOSE_RANGE_CLOEXEC)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EINVAL):
            raise
        for name in os.listdir("/proc/self/fd"):
            fd = int(name)
            if fd >= first:
                try:
                    os.set_inheritable(fd, False)
                except OSError:
                    pass  # the descriptor of the listing itself


def close_all_but(keep: Iterable[int]) -> None:
    """Close every other descriptor of this process (close_range(2), Linux 5.9)."""
    first = 0
    for fd in sorted(set(keep)):
        if fd > first:
            syscall("close_range", first, fd - 1, 0)
        first = fd + 1
    syscall("close_range", first, 0xFFFFFFFF, 0)


def drop_bounding_capabilities(keep: int, last: int) -> None:
    """Drop every capability from the bounding set that the mask `keep` lacks; `last` is the kernel's highest."""
    for number in range(last + 1):
        if not keep >> number & 1 and _prctl(PR_CAPBSET_DROP, number, 0, 0, 0) != 0:
            fail("prctl PR_CAPBSET_DROP", str(number))


def clear_ambient_capabilities() -> None:
    if _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0:
        fail("prctl PR_CAP_AMBIENT_CLEAR_ALL")


def capability_sets(
    *, effective: int, permitted: int, inheritable: int
) -> tuple[ctypes.Structure, ctypes.Array[_CapData]]:
    """What capset(2) is given, from 64-bit masks."""
    masks = (effective, permitted, inheritable)
    data = (_CapData * 2)(*(_CapData(*(mask >> shift & 0xFFFFFFFF for mask in masks)) for shift in (0, 32)))
    return _CapHeader(_LINUX_CAPABILITY_VERSION_3, 0), data


def capset(*, effective: int, permitted: int, inheritable: int) -> None:
    """capset(2) of this thread, as 64-bit masks."""
    header, data = capability_sets(effective=effective, permitted=permitted, inheritable=inheritable)
    if _capset(ctypes.byref(header), ctypes.byref(data)) != 0:
        fail("capset")


def permitted_capabilities() -> int:
    """The permitted set of this thread, as a 64-bit mask (capget(2))."""
    header = _CapHeader(_LINUX_CAPABILITY_VERSION_3, 0)
    data = (_CapData * 2)()
    if _capget(ctypes.byref(header), ctypes.byref(data)) != 0:
        fail("capget")
    return int(data[0].permitted) | int(data[1].permitted) << 32


def last_capability() -> int:
    """The highest capability number this kernel knows."""
    with open("/proc/sys/kernel/cap_last_cap", encoding="ascii") as file:
        return int(file.read())


def set_no_new_privs() -> None:
    prctl.set_no_new_privs(1)


def keep_capabilities() -> None:
    """The permitted set survives the next setresuid(2) to another user (PR_SET_KEEPCAPS); exec(2) ends that."""
    prctl.set_keepcaps(True)


def set_dumpable(dumpable: bool) -> None:
    prctl.set_dumpable(dumpable)


def argument_area() -> tuple[int, int]:
    """(address, length) of this process' command line, as anybody reads it in /proc/PID/cmdline (proc_pid_stat(5))."""
    with open("/proc/self/stat", encoding="utf-8", errors="replace") as file:
        fields = file.read().rpartition(")")[2].split()
    start, end = int(fields[45]), int(fields[46])
    return start, end - start


def erase(area: tuple[int, int]) -> None:
    """Fill memory of this process with zeros."""
    ctypes.memset(area[0], 0, area[1])


def set_child_subreaper() -> None:
    prctl.set_child_subreaper(1)


def set_name(name: str) -> None:
    """The thread's comm, at most 15 bytes."""
    prctl.set_name(name)


def reset_internal_signals() -> None:
    """SIG_DFL for the two signals that glibc keeps to itself: its posix_spawn(3) leaves them ignored in the child, and
    exec hands that on; sigaction(3) refuses to change them.
    """
    default = ctypes.create_string_buffer(32)  # struct sigaction of the kernel: all zero is SIG_DFL
    for number in INTERNAL_SIGNALS:
        with contextlib.suppress(OSError):  # an architecture whose number is not known
            syscall("rt_sigaction", number, default, None, 8)


def install_seccomp_filter(program: bytes) -> None:
    """seccomp(2) SECCOMP_SET_MODE_FILTER with compiled BPF (struct sock_filter, eight bytes each)."""
    arguments = _SockFilterProgram(len(program) // 8, program)
    syscall("seccomp", SECCOMP_SET_MODE_FILTER, 0, ctypes.byref(arguments))


def join_new_session_keyring() -> None:
    """keyctl(2): a session keyring of its own, so that the runtime's keys are out of reach. Absent is fine."""
    try:
        syscall("keyctl", KEYCTL_JOIN_SESSION_KEYRING, None)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EPERM, errno.EDQUOT):
            raise
