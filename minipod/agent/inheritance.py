"""The process attributes that the agent inherits from its caller, and resets for itself and its spawner (layer 5).

The first `minipod run` starts the agent, and all pods descend from it: without this a shell's `umask 077`, `ulimit`,
`nice`, `taskset` or `setarch -R` would apply to every pod until agent and spawner exit. The list follows
fork(2), execve(2), clone(2), prctl(2), proc(5), sched(7), signal(7), credentials(7) and namespaces(7).
"""

from __future__ import annotations

import os
import pwd
import resource
from collections.abc import Callable
from typing import NamedTuple

from minipod.agent.environment import kept_environment
from minipod.errors import HostError
from minipod.kernel import inherit
from minipod.kernel.process import join_new_session_keyring

UMASK = 0o022  # our code sets the mode of each file; this is for files that libraries and the kernel create
OOM_SCORE_ADJ = -999  # the kubelet's (pkg/kubelet/qos/policy.go KubeletOOMScoreAdj); containers set their own
TIMER_SLACK_NS = 50_000  # the kernel's for its first process
COREDUMP_FILTER = "0x33"  # MMF_DUMP_FILTER_DEFAULT: private and shared anonymous memory, ELF headers, huge pages
UNLIMITED = resource.RLIM_INFINITY

#: What containers get, soft and hard: a service's of systemd and containerd, not those of a shell. The agent and the
#: spawner themselves open as many files as they may (`LimitOpenFiles` sets the soft limit of what they start).
LIMITS = {
    "cpu time": (UNLIMITED, UNLIMITED),
    "file size": (UNLIMITED, UNLIMITED),
    "data size": (UNLIMITED, UNLIMITED),
    "stack size": (8 << 20, UNLIMITED),
    "core file size": (0, UNLIMITED),
    "resident set": (UNLIMITED, UNLIMITED),
    "processes": (UNLIMITED, UNLIMITED),  # counts per user of the whole host; a pod has its pids.max
    "open files": (inherit.OPEN_FILES, inherit.OPEN_FILES),
    "locked memory": (8 << 20, 8 << 20),
    "address space": (UNLIMITED, UNLIMITED),
    "file locks": (UNLIMITED, UNLIMITED),
    "msgqueue size": (819200, 819200),
    "nice priority": (0, 0),
    "realtime priority": (0, 0),
    "realtime timeout": (UNLIMITED, UNLIMITED),
}
#: The agent's own memory (RLIMIT_DATA), about ten times what it uses with hundreds of pods. Where a group's limit would
#: kill, this is a MemoryError: the request that asked for too much fails, and the agent serves the next.
AGENT_DATA_BYTES = 1 << 30
#: a hard limit of the caller below this keeps the agent from its own work, where it may not be raised
LEAST = {
    "file size": (64 << 20, "bytes in a file", "ulimit -f"),
    "open files": (128, "open files", "ulimit -n"),
    "address space": (256 << 20, "bytes of address space", "ulimit -v"),
    "data size": (256 << 20, "bytes of data", "ulimit -d"),
}

NAMESPACES = {
    "net": "pods reach the outside through it, and probes reach no other",
    "pid": "the agent ends with that namespace's first process",
    "user": "its root is not the host's",
    "uts": "its host name is the node's",
    "ipc": "pods with hostIPC share it",
    "time": "its clocks are the pods'",
}
UNDO = "start the agent elsewhere, with systemd for one"


class Attribute(NamedTuple):
    """One attribute. `take` sets it to `ours` and returns `""`, or why it could not."""

    name: str
    ours: str
    take: Callable[[], str]


def take_over(*keep_fds: int) -> list[str]:
    """Resets all attributes; called before there is a thread or a child. Returns a line for the log per failure.

    Raises HostError where the agent cannot work with what it inherited.
    """
    inherit.close_descriptors(*keep_fds)
    found = []
    for attribute in ATTRIBUTES:
        try:
            complaint = attribute.take()
        except OSError as error:
            complaint = f"stays as the caller's, not {attribute.ours}: {(error.strerror or str(error)).lower()}"
        if complaint:
            found.append(f"{attribute.name}: {complaint}")
    return found + stays()


def stays() -> list[str]:
    """What no process can undo, a line each. Needs no root and changes nothing; `minipod check` calls it as well."""
    found = []
    if inherit.has_no_new_privs():
        found.append(f"no_new_privs is set and goes to every container: set-uid programs do nothing there: {UNDO}")
    if inherit.status_field("self", "Seccomp") == "2":
        found.append(f"a seccomp filter of the caller's goes to every container: {UNDO}")
    if inherit.has_mdwe():
        found.append(f"PR_SET_MDWE is set and goes to every container: just-in-time compilers fail there: {UNDO}")
    profile = inherit.read_own("attr/current")
    if profile.endswith(("(enforce)", "(complain)")):
        found.append(f"AppArmor profile {profile} of the caller's goes to every container: {UNDO}")
    found += [
        f"{kind} namespace: not that of the host's first process: {meaning}: {UNDO}"
        for kind, meaning in NAMESPACES.items()
        if inherit.namespace(1, kind) not in ("", inherit.namespace("self", kind))
    ]
    missing = _missing_capabilities()
    return [*found, f"capabilities {missing:#x} are missing: no container can get them: {UNDO}"] if missing else found


def _missing_capabilities() -> int:
    """The capabilities, as bits, that the host's first process may have and this one may not."""
    first, own = (inherit.status_field(pid, "CapBnd") for pid in (1, "self"))
    return int(first or "0", 16) & ~int(own or "0", 16)


def limits() -> str:
    """Sets LIMITS; returns which could not be raised. Raises HostError where an agent cannot work with what is left."""
    low = []
    for name, (soft, hard) in LIMITS.items():
        number = inherit.LIMITS[name]
        if not inherit.set_limit(number, soft, hard):
            low.append(f"{name} {resource.getrlimit(number)[1]} (should be {_words(hard)})")
    for name, (least, what, option) in LEAST.items():
        most = resource.getrlimit(inherit.LIMITS[name])[1]
        if UNLIMITED != most < least:
            raise HostError(
                f"the caller's limit is {most} {what}, an agent needs {least}, and this host's root may not raise it "
                f"(CAP_SYS_RESOURCE): start the agent without {option}"
            )
    return f"stay the caller's, this host's root may not raise them (CAP_SYS_RESOURCE): {', '.join(low)}" if low else ""


def limit_own_memory() -> None:
    """Limits the agent's memory. Called after the start of the spawner, which resets the limit (`spawner.program`)."""
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    inherit.set_limit(resource.RLIMIT_DATA, AGENT_DATA_BYTES, hard)


def _words(limit: int) -> str:
    return "unlimited" if limit == UNLIMITED else str(limit)


def _environment() -> str:
    kept = kept_environment(os.environ)
    for name in os.environ.keys() - kept.keys():
        del os.environ[name]
    try:
        home = pwd.getpwuid(0).pw_dir
    except KeyError:  # a host without /etc/passwd
        home = "/root"
    os.environ.update(kept, HOME=home)  # credential helpers of registries read it
    return ""


def _oom_score_adj() -> str:
    """Lowering it needs CAP_SYS_RESOURCE, except down to the value from which a caller has raised it."""
    for value in (OOM_SCORE_ADJ, 0):
        try:
            inherit.write_own("oom_score_adj", str(value))
        except PermissionError:
            continue
        return "" if value == OOM_SCORE_ADJ else (
            f"is {value}, not {OOM_SCORE_ADJ}: this host's root may not lower it (CAP_SYS_RESOURCE): "
            "the OOM killer may choose the agent"
        )  # fmt: skip
    return f"stays {inherit.read_own('oom_score_adj')}: this host's root may not lower it (CAP_SYS_RESOURCE)"


def _login() -> str:
    """Otherwise the audit records of every pod would name the user who started the first one (pam_loginuid)."""
    unset = str(0xFFFFFFFF)
    if inherit.read_own("loginuid") in ("", unset):
        return ""
    inherit.write_own("loginuid", unset)
    return ""


def _quietly(act: Callable[..., object], *arguments: object) -> Callable[[], str]:
    def take() -> str:
        act(*arguments)
        return ""

    return take


def _prctl(option: int, value: int) -> Callable[[], str]:
    return _quietly(inherit.set_by_prctl, option, value)


ATTRIBUTES = (
    Attribute("limits", "a service's", limits),
    Attribute("umask", f"{UMASK:04o}", _quietly(os.umask, UMASK)),
    Attribute("working directory", "/", _quietly(os.chdir, "/")),
    Attribute("environment", "settings of minipod and proxies", _environment),
    Attribute("signals", "default, none blocked, no timer", _quietly(inherit.default_signals)),
    Attribute("ids, groups and capabilities", "root's, nothing inheritable", _quietly(inherit.root_identity)),
    Attribute("securebits", "0", _quietly(inherit.no_securebits)),
    Attribute("scheduling", "SCHED_OTHER, nice 0, every CPU", _quietly(inherit.normal_scheduling)),
    Attribute("I/O priority", "none", _quietly(inherit.no_io_priority)),
    Attribute("memory policy", "default", _quietly(inherit.default_memory_policy)),
    Attribute("personality", "PER_LINUX", _quietly(inherit.default_personality)),
    Attribute("timer slack", "50 µs", _prctl(inherit.PR_SET_TIMERSLACK, TIMER_SLACK_NS)),
    Attribute("huge pages", "allowed", _prctl(inherit.PR_SET_THP_DISABLE, 0)),
    Attribute("merging of pages", "off", _prctl(inherit.PR_SET_MEMORY_MERGE, 0)),
    Attribute("time stamp counter", "readable", _prctl(inherit.PR_SET_TSC, inherit.PR_TSC_ENABLE)),
    Attribute("memory failures", "default", _prctl(inherit.PR_MCE_KILL, inherit.PR_MCE_KILL_CLEAR)),
    Attribute("subreaper", "no", _prctl(inherit.PR_SET_CHILD_SUBREAPER, 0)),
    Attribute("core dump filter", COREDUMP_FILTER, _quietly(inherit.write_own, "coredump_filter", COREDUMP_FILTER)),
    Attribute("session keyring", "new", _quietly(join_new_session_keyring)),
    Attribute("audit login", "unset", _login),
    Attribute("oom_score_adj", str(OOM_SCORE_ADJ), _oom_score_adj),
)  # fmt: skip
