"""seccomp profiles as data (layer 2), and the profile RuntimeDefault. Pure; compiles nothing.

RuntimeDefault allows no more than containerd 2.x allows by default; docs/seccomp.md shows the difference rule by rule.
Everything else fails with EPERM.
"""

from __future__ import annotations

import msgspec

from minipod.errors import ContainerError

EPERM, ENOSYS = 1, 38
CONFIG_ERROR = "CreateContainerError"
#: the newest system call that these lists take a position on: removexattrat (Linux 6.13)
LAST_KNOWN_SYSCALL = 466
#: numbers that every architecture shares, for a libseccomp that is older than they are
NUMBERS = {
    "set_mempolicy_home_node": 450, "cachestat": 451, "fchmodat2": 452, "map_shadow_stack": 453, "futex_wake": 454,
    "futex_wait": 455, "futex_requeue": 456, "statmount": 457, "listmount": 458, "lsm_get_self_attr": 459,
    "lsm_set_self_attr": 460, "lsm_list_modules": 461, "mseal": 462, "setxattrat": 463, "getxattrat": 464,
    "listxattrat": 465, "removexattrat": 466,
}  # fmt: skip

#: numbers of the system calls that refusals and `closed` name. libseccomp knows i386's `socket` only as a call of
#: `socketcall`, and opens that wherever `socket`, `bind`, … are allowed.
NUMBER_OF = {
    "ioctl": {"X86_64": 16, "X86": 54, "AARCH64": 29, "ARM": 54},
    "socket": {"X86_64": 41, "X86": 359, "AARCH64": 198, "ARM": 281},
    "socketcall": {"X86": 102},
    "socketpair": {"X86_64": 53, "X86": 360, "AARCH64": 199, "ARM": 288},
}

#: uname's machine -> Docker's name of the architecture, then libseccomp's names: the native one and the others it runs
MACHINES = {
    "x86_64": ("amd64", ("X86_64", "X86", "X32")),
    "aarch64": ("arm64", ("AARCH64", "ARM")),
}

ACTIONS = ("KILL", "KILL_THREAD", "KILL_PROCESS", "TRAP", "ERRNO", "TRACE", "ALLOW", "LOG")
COMPARISONS = ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ")


class Argument(msgspec.Struct, frozen=True):
    """`argument[index] op value`; MASKED_EQ: `argument[index] & value == value_two`."""

    index: int
    op: str
    value: int
    value_two: int = 0


class Rule(msgspec.Struct, frozen=True):
    """What happens with these system calls when all of `arguments` match. `code` is for ERRNO and TRACE."""

    names: tuple[str, ...]
    action: str = "ALLOW"
    code: int = EPERM
    arguments: tuple[Argument, ...] = ()


class Refusal(msgspec.Struct, frozen=True):
    """A system call that fails with EPERM for some values of an argument, and is allowed with all others.

    The kernel declares the argument as `int` and never reads the upper half of the register, so neither does this
    comparison. libseccomp compares 64 bits: `0x100000000 | AF_ALG` is not AF_ALG to it, but is to the kernel.
    """

    name: str
    index: int
    values: tuple[int, ...]


class Profile(msgspec.Struct, frozen=True):
    """A filter before it is compiled. `architectures` are libseccomp's names, the native one first."""

    architectures: tuple[str, ...]
    default_action: str = "ERRNO"
    default_code: int = EPERM
    rules: tuple[Rule, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    #: system calls that fail with ENOSYS, whatever libseccomp generates for the other rules
    closed: tuple[str, ...] = ()
    #: system calls that are newer than the profile fail with ENOSYS, so that programs fall back to older ones
    new_is_enosys: bool = True


_FILES = """
access cachestat chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2
fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64
fdatasync fgetxattr flistxattr flock fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate
ftruncate64 futimesat getcwd getdents getdents64 getxattr getxattrat inotify_add_watch inotify_init inotify_init1
inotify_rm_watch lchown lchown32 lgetxattr link linkat listmount listxattr listxattrat llistxattr _llseek
lremovexattr lseek lsetxattr lstat lstat64 mkdir mkdirat mknod mknodat name_to_handle_at newfstatat open openat openat2
pipe pipe2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv removexattr
removexattrat rename renameat renameat2 rmdir sendfile sendfile64 setxattr setxattrat splice stat stat64 statfs statfs64
statmount statx symlink symlinkat sync sync_file_range syncfs tee truncate truncate64 umask unlink unlinkat utime
utimensat utimensat_time64 utimes vmsplice write writev
"""
_WAITING = """
epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2
io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit _newselect poll ppoll
ppoll_time64 pselect6 pselect6_time64 select signalfd signalfd4
"""
_MEMORY = """
brk madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mlock mlock2 mlockall mmap mmap2 mprotect
mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect remap_file_pages
"""
_SOCKETS = """
accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg recvmmsg_time64 recvmsg
send sendmmsg sendmsg sendto setsockopt shutdown
"""
_IPC = """
futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake ipc mq_getsetattr mq_notify mq_open mq_timedreceive
mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink msgctl msgget msgrcv msgsnd semctl semget semop
semtimedop semtimedop_time64 shmat shmctl shmdt shmget
"""
_PROCESSES = """
alarm capget capset execve execveat exit exit_group fork getcpu getitimer getpgid getpgrp getpid getppid getpriority
getrandom getrlimit get_robust_list getrusage getsid get_thread_area gettid ioprio_get ioprio_set kill
landlock_add_rule landlock_create_ruleset landlock_restrict_self pause pidfd_open pidfd_send_signal prctl prlimit64
process_mrelease restart_syscall rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn
rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_getaffinity sched_getattr sched_getparam
sched_get_priority_max sched_get_priority_min sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64
sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp setitimer setpgid setpriority
setrlimit set_robust_list setsid set_thread_area set_tid_address sigaltstack sigprocmask sigreturn sysinfo tgkill times
tkill ugetrlimit uname uretprobe vfork wait4 waitid waitpid
"""
_USERS = """
getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getresgid getresgid32 getresuid getresuid32
getuid getuid32 setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setregid setregid32
setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setuid setuid32
"""
_TIME = """
adjtimex clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep
clock_nanosleep_time64 gettimeofday nanosleep time timer_create timer_delete timer_getoverrun timer_gettime
timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime
timerfd_settime64
"""
#: allowed since Linux 4.8 made it safe with seccomp
_TRACING = "process_vm_readv process_vm_writev ptrace"

_OF_ARCHITECTURE = {
    "amd64": "arch_prctl modify_ldt",
    "arm64": "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2",
}

_WITH_CAPABILITY = {
    "BPF": "bpf",
    "DAC_READ_SEARCH": "open_by_handle_at",
    "PERFMON": "perf_event_open",
    "SYSLOG": "syslog",
    "SYS_ADMIN": """
        bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr lsm_list_modules
        lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname
        sethostname setns syslog umount umount2 unshare
    """,
    "SYS_BOOT": "reboot",
    "SYS_CHROOT": "chroot",
    "SYS_MODULE": "delete_module finit_module init_module",
    "SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    "SYS_PACCT": "acct",
    "SYS_PTRACE": "kcmp pidfd_getfd process_madvise",
    "SYS_RAWIO": "ioperm iopl",
    "SYS_TIME": "clock_settime clock_settime64 settimeofday stime",
    "SYS_TTY_CONFIG": "vhangup",
}

#: NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
_CLONE_NAMESPACES = 0x7E020000
_AF_ALG = 38  # the kernel's cryptography on page cache that all containers share: CVE-2026-31431
_AF_VSOCK = 40  # would reach the hypervisor's host, past every network namespace
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C  # put input into a terminal that others read from
REFUSALS = (
    Refusal("socket", 0, (_AF_ALG, _AF_VSOCK)),
    Refusal("socketpair", 0, (_AF_ALG, _AF_VSOCK)),
    Refusal("ioctl", 1, (_TIOCSTI, _TIOCLINUX)),
)
#: i386's way to all socket calls: the family lies in memory, where no filter can look
CLOSED = ("socketcall",)
#: Linux, BSD-like 0x8 (PER_LINUX32), UNAME26, both, and the question 0xffffffff
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)


def runtime_default(machine: str, capabilities: frozenset[str]) -> Profile:
    """The profile RuntimeDefault for a container with these capabilities (names without CAP_).

    `machine` is uname's. Raises ContainerError for an architecture that is not known.
    """
    name, architectures = names_of(machine)
    allowed = " ".join((_FILES, _WAITING, _MEMORY, _SOCKETS, _IPC, _PROCESSES, _USERS, _TIME, _TRACING))
    rules = [
        Rule(names=tuple(allowed.split())),
        Rule(names=tuple(_OF_ARCHITECTURE[name].split())),
        *(Rule(names=("personality",), arguments=(Argument(0, "EQ", persona),)) for persona in _PERSONALITIES),
    ]
    held = [names for capability, names in _WITH_CAPABILITY.items() if capability in capabilities]
    with_capabilities = tuple(dict.fromkeys(" ".join(held).split()))
    if with_capabilities:
        rules.append(Rule(names=with_capabilities))
    if "SYS_ADMIN" not in capabilities:
        rules.append(Rule(names=("clone",), arguments=(Argument(0, "MASKED_EQ", _CLONE_NAMESPACES, 0),)))
        # its flags lie in memory, where no filter can look: ENOSYS makes the C library use clone
        rules.append(Rule(names=("clone3",), action="ERRNO", code=ENOSYS))
    return Profile(
        architectures=tuple(other for other in architectures if other != "X32"),
        rules=tuple(rules),
        refusals=REFUSALS,
        closed=CLOSED,
    )


def names_of(machine: str) -> tuple[str, tuple[str, ...]]:
    """Docker's name of the architecture, then libseccomp's: the native one and those that run on it too."""
    try:
        return MACHINES[machine]
    except KeyError:
        known = ", ".join(MACHINES)
        raise ContainerError(
            f"seccomp: architecture {machine} is not known (only {known}): use seccompProfile type Unconfined",
            CONFIG_ERROR,
        ) from None
