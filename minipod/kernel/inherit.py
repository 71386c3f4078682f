"""Resets attributes that a process inherits from its parent (layer 1): one call each. No policy."""

from __future__ import annotations

import errno
import os
import resource
import signal
import struct

import prctl

from minipod.kernel import process
from minipod.kernel.libc import syscall

PR_SET_CHILD_SUBREAPER = 36
PR_SET_THP_DISABLE = 41
PR_SET_MEMORY_MERGE = 67
PR_GET_SECUREBITS, PR_SET_SECUREBITS = 27, 28
PR_SET_TIMERSLACK = 29
PR_SET_TSC, PR_TSC_ENABLE = 26, 1
PR_MCE_KILL, PR_MCE_KILL_CLEAR = 33, 0
PR_GET_MDWE = 66

_IOPRIO_WHO_PROCESS = 1
_MPOL_DEFAULT = 0
_SCHED_FLAG_UTIL_CLAMP = 0x60
_KEEP_SCHEDULER = 0x18  # SCHED_FLAG_KEEP_POLICY | SCHED_FLAG_KEEP_PARAMS
_UNSET = 0xFFFFFFFF
_CAP_SYS_RESOURCE = 24

OPEN_FILES = 524288  # systemd's DefaultLimitNOFILE, the hard one

#: limits that setrlimit(2) and /proc/PID/limits know, by the words of the latter
LIMITS = {
    "cpu time": resource.RLIMIT_CPU,
    "file size": resource.RLIMIT_FSIZE,
    "data size": resource.RLIMIT_DATA,
    "stack size": resource.RLIMIT_STACK,
    "core file size": resource.RLIMIT_CORE,
    "resident set": resource.RLIMIT_RSS,
    "processes": resource.RLIMIT_NPROC,
    "open files": resource.RLIMIT_NOFILE,
    "locked memory": resource.RLIMIT_MEMLOCK,
    "address space": resource.RLIMIT_AS,
    "file locks": 10,  # RLIMIT_LOCKS: Python has no name for it
    "pending signals": resource.RLIMIT_SIGPENDING,
    "msgqueue size": resource.RLIMIT_MSGQUEUE,
    "nice priority": resource.RLIMIT_NICE,
    "realtime priority": resource.RLIMIT_RTPRIO,
    "realtime timeout": resource.RLIMIT_RTTIME,
}


def set_limit(number: int, soft: int, hard: int) -> bool:
    """As much of both as is allowed: False where the hard limit is lower already and this root may not raise it."""
    try:
        resource.setrlimit(number, (soft, hard))
        return True
    except (ValueError, OSError):
        there = resource.getrlimit(number)[1]
    resource.setrlimit(number, (_lower(soft, there), there))
    return False


def may_raise_limits() -> bool:
    """CAP_SYS_RESOURCE, without which root may not raise a hard limit."""
    return bool(int(status_field("self", "CapEff") or "0", 16) >> _CAP_SYS_RESOURCE & 1)


def _lower(first: int, second: int) -> int:
    if resource.RLIM_INFINITY in (first, second):
        return second if first == resource.RLIM_INFINITY else first
    return min(first, second)


def default_signals() -> None:
    """No signal is blocked or ignored, no timer runs; but what the interpreter itself handles and ignores."""
    own = {signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE, signal.SIGXFSZ}
    for number in signal.valid_signals() - own:
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    process.reset_internal_signals()
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for timer in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):
        signal.setitimer(timer, 0)


def close_descriptors(*keep: int) -> None:
    """All from 3 on but these; a standard stream that is closed becomes /dev/null."""
    first = 3
    for fd in sorted(fd for fd in keep if fd >= first):
        os.closerange(first, fd)
        first = fd + 1
    os.closerange(first, 0x7FFFFFFF)
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest that is free, so this one


def normal_scheduling() -> None:
    """SCHED_OTHER, nice 0, every CPU, no clamp of utilisation (sched(7))."""
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    os.setpriority(os.PRIO_PROCESS, 0, 0)
    os.sched_setaffinity(0, range(max(1024, os.cpu_count() or 1)))
    # struct sched_attr: size, policy, flags, nice, priority, runtime, deadline, period, util_min, util_max
    attributes = struct.pack(
        "=IIQiIQQQII", 56, 0, _SCHED_FLAG_UTIL_CLAMP | _KEEP_SCHEDULER, 0, 0, 0, 0, 0, _UNSET, _UNSET
    )
    _where_known("sched_setattr", 0, attributes, 0)


def no_io_priority() -> None:
    """The class IOPRIO_CLASS_NONE: by the nice value (ioprio_set(2))."""
    _where_known("ioprio_set", _IOPRIO_WHO_PROCESS, 0, 0)


def default_memory_policy() -> None:
    _where_known("set_mempolicy", _MPOL_DEFAULT, None, 0)


def default_personality() -> None:
    """PER_LINUX without flags: ADDR_NO_RANDOMIZE (setarch -R) would go to all descendants (personality(2))."""
    syscall("personality", 0)


def set_by_prctl(option: int, value: int) -> None:
    """An attribute that older kernels may not know."""
    try:
        syscall("prctl", option, value, 0, 0, 0)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise


def no_securebits() -> None:
    """A bit that is locked cannot be cleared any more: EPERM (capabilities(7))."""
    if syscall("prctl", PR_GET_SECUREBITS, 0, 0, 0, 0) != 0:
        syscall("prctl", PR_SET_SECUREBITS, 0, 0, 0, 0)


def has_mdwe() -> bool:
    """Whether memory can never be made executable any more (PR_SET_MDWE, Linux 6.3)."""
    try:
        return syscall("prctl", PR_GET_MDWE, 0, 0, 0, 0) != 0
    except OSError:
        return False


def root_identity() -> None:
    """Real, effective, saved ids 0, no supplementary groups; nothing inheritable or ambient (capabilities(7))."""
    if os.getgroups():
        os.setgroups(())
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    permitted = process.permitted_capabilities()
    process.clear_ambient_capabilities()
    process.capset(effective=permitted, permitted=permitted, inheritable=0)


def has_no_new_privs() -> bool:
    return bool(prctl.get_no_new_privs())


def status_field(pid: int | str, name: str) -> str:
    """One line of /proc/PID/status; empty where it cannot be read."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith(f"{name}:"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return ""


def namespace(pid: int | str, kind: str) -> str:
    """The namespace's identity, `uts:[4026531838]`; `""` where it cannot be read.

    A process with capabilities that this one lacks keeps its links to itself, but for the network: its files differ.
    """
    try:
        if kind == "net":
            return f"net:[{os.stat(f'/proc/{pid}/net/dev').st_ino}]"
        return os.readlink(f"/proc/{pid}/ns/{kind}")
    except OSError:
        return ""


def write_own(name: str, value: str) -> None:
    """A file of /proc/self. Raises OSError."""
    fd = os.open(f"/proc/self/{name}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def read_own(name: str) -> str:
    try:
        with open(f"/proc/self/{name}", encoding="utf-8", errors="replace") as file:
            return file.read().strip("\0\n ")
    except OSError:
        return ""


def _where_known(call: str, *arguments: int | bytes | None) -> None:
    """A call that a kernel may be built without, or an architecture has another number for."""
    try:
        syscall(call, *arguments)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
            raise
