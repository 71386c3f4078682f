"""seccomp profiles as data (layer 2): RuntimeDefault, and Localhost profiles from their JSON. Pure; compiles nothing.

RuntimeDefault allows what containerd 2.x and Docker allow by default: the same system calls, the same exceptions for
capabilities and arguments. Everything else fails with EPERM.
"""

from __future__ import annotations

from typing import Any

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

#: uname's machine -> Docker's name of the architecture, then libseccomp's names: the native one and those beside it
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


class Profile(msgspec.Struct, frozen=True):
    """A filter before it is compiled. `architectures` are libseccomp's names, the native one among them."""

    architectures: tuple[str, ...]
    default_action: str = "ERRNO"
    default_code: int = EPERM
    rules: tuple[Rule, ...] = ()
    #: system calls that are newer than the profile fail with ENOSYS, so that programs fall back to older ones
    new_is_enosys: bool = True


_FILES = """
access cachestat chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2
fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64
fdatasync fgetxattr flistxattr flock fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate
ftruncate64 futimesat getcwd getdents getdents64 getxattr getxattrat inotify_add_watch inotify_init inotify_init1
inotify_rm_watch ioctl lchown lchown32 lgetxattr link linkat listmount listxattr listxattrat llistxattr _llseek
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
send sendmmsg sendmsg sendto setsockopt shutdown socketcall socketpair
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
_AF_VSOCK = 40  # would reach the hypervisor's host, past every network namespace
#: Linux, BSD-like 0x8 (PER_LINUX32), UNAME26, both, and the question 0xffffffff
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)


def runtime_default(machine: str, capabilities: frozenset[str]) -> Profile:
    """The profile RuntimeDefault for a container with these capabilities (names without CAP_).

    `machine` is uname's. Raises ContainerError for an architecture that is not known.
    """
    name, architectures = _machine(machine)
    allowed = " ".join((_FILES, _WAITING, _MEMORY, _SOCKETS, _IPC, _PROCESSES, _USERS, _TIME, _TRACING))
    rules = [
        Rule(names=tuple(allowed.split())),
        Rule(names=tuple(_OF_ARCHITECTURE[name].split())),
        Rule(names=("socket",), arguments=(Argument(0, "NE", _AF_VSOCK),)),
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
    return Profile(architectures=architectures, rules=tuple(rules))


def parse(text: bytes, where: str, machine: str, capabilities: frozenset[str]) -> Profile:
    """A Localhost profile: the OCI runtime-spec's JSON, or Docker's with archMap, includes and excludes.

    Raises ContainerError that names `where`, the field and what is wrong with it.
    """
    try:
        data = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise ContainerError(f"seccomp profile {where}: {error}", CONFIG_ERROR) from None
    return _Reader(where, machine, capabilities).profile(data)


def _machine(machine: str) -> tuple[str, tuple[str, ...]]:
    try:
        return MACHINES[machine]
    except KeyError:
        known = ", ".join(MACHINES)
        raise ContainerError(
            f"seccomp: architecture {machine} is not known (only {known}): use seccompProfile type Unconfined",
            CONFIG_ERROR,
        ) from None


class _Reader:
    """Reads one profile; every error begins with its file."""

    def __init__(self, where: str, machine: str, capabilities: frozenset[str]) -> None:
        self._where = where
        self._name, self._architectures = _machine(machine)
        self._capabilities = capabilities

    def profile(self, data: Any) -> Profile:
        if not isinstance(data, dict) or not isinstance(data.get("defaultAction"), str):
            self._fail("defaultAction", "is missing")
        if data.get("listenerPath"):
            self._fail("listenerPath", "is not supported: minipod notifies nobody")
        for flag in self._list(data, "flags", "flags"):
            # the filter is loaded by one thread, so TSYNC changes nothing
            if flag != "SECCOMP_FILTER_FLAG_TSYNC":
                self._fail("flags", f"{flag} is not supported")
        entries = self._list(data, "syscalls", "syscalls")
        rules = [self._rule(f"syscalls[{number}]", entry) for number, entry in enumerate(entries)]
        return Profile(
            architectures=self._chosen(data),
            default_action=self._action("defaultAction", data["defaultAction"]),
            default_code=self._code("defaultErrnoRet", data.get("defaultErrnoRet")),
            rules=tuple(rule for rule in rules if rule is not None),
            new_is_enosys=False,
        )

    def _chosen(self, data: dict[str, Any]) -> tuple[str, ...]:
        """The native architecture, and those the profile names of the ones that run beside it."""
        named = set(self._list(data, "architectures", "architectures"))
        for entry in self._list(data, "archMap", "archMap"):
            if isinstance(entry, dict) and entry.get("architecture") == f"SCMP_ARCH_{self._architectures[0]}":
                named |= set(entry.get("subArchitectures") or ())
        native, *beside = self._architectures
        return (native, *(name for name in beside if f"SCMP_ARCH_{name}" in named))

    def _rule(self, field: str, entry: Any) -> Rule | None:
        if not isinstance(entry, dict):
            self._fail(field, "is no object")
        if not self._applies(entry):
            return None
        names = self._list(entry, "names", f"{field}.names") or [entry.get("name")]
        if not all(isinstance(name, str) and name for name in names):
            self._fail(f"{field}.names", "has to be a list of system calls")
        return Rule(
            names=tuple(names),
            action=self._action(f"{field}.action", entry.get("action")),
            code=self._code(f"{field}.errnoRet", entry.get("errnoRet")),
            arguments=tuple(
                self._argument(f"{field}.args[{number}]", argument)
                for number, argument in enumerate(self._list(entry, "args", f"{field}.args"))
            ),
        )

    def _applies(self, entry: dict[str, Any]) -> bool:
        """Docker's conditions: every one of `includes` holds, none of `excludes`."""
        includes, excludes = entry.get("includes") or {}, entry.get("excludes") or {}
        included = {name.removeprefix("CAP_") for name in includes.get("caps") or ()}
        excluded = {name.removeprefix("CAP_") for name in excludes.get("caps") or ()}
        of_architectures = includes.get("arches") or [self._name]
        return (
            included <= self._capabilities
            and not excluded & self._capabilities
            and self._name in of_architectures
            and self._name not in (excludes.get("arches") or ())
        )

    def _argument(self, field: str, data: Any) -> Argument:
        try:
            argument = msgspec.convert(data, _JsonArgument)
        except msgspec.ValidationError as error:
            self._fail(field, str(error))
        op = argument.op.removeprefix("SCMP_CMP_")
        if op not in COMPARISONS:
            self._fail(f"{field}.op", f"{argument.op} is not known")
        return Argument(argument.index, op, argument.value, argument.value_two)

    def _action(self, field: str, value: Any) -> str:
        action = value.removeprefix("SCMP_ACT_") if isinstance(value, str) else ""
        if action == "NOTIFY":
            self._fail(field, "SCMP_ACT_NOTIFY is not supported: minipod notifies nobody")
        if action not in ACTIONS:
            self._fail(field, f"{value!r} is not known")
        return action

    def _code(self, field: str, value: Any) -> int:
        if value is None:
            return EPERM
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 4095:
            self._fail(field, f"{value!r} is no error number")
        return int(value)

    def _list(self, data: dict[str, Any], key: str, field: str) -> list[Any]:
        found = data.get(key) or []
        if not isinstance(found, list):
            self._fail(field, "is no list")
        return list(found)

    def _fail(self, field: str, what: str) -> Any:
        raise ContainerError(f"seccomp profile {self._where}: {field}: {what}", CONFIG_ERROR)


class _JsonArgument(msgspec.Struct, rename="camel"):
    index: int
    op: str
    value: int = 0
    value_two: int = 0
