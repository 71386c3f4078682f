"""What a sandbox or a container is on the host now (layer 3): cgroups, namespaces, processes, mounts, links.

For people who look: reads /proc and /sys, changes nothing, and decides nothing. What has gone since is left out.
Blocks, so it is called in threads.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator

import msgspec

from minipod.plan.cgroup import controller_directory
from minipod.plan.configs import HostFacts, NetworkFacts
from minipod.runtime import cgroup
from minipod.runtime.cgroup import CgroupStats

NAMESPACES = ("net", "ipc", "uts", "pid", "mnt", "cgroup", "user", "time")
MAX_PROCESSES = 100  # of one group; how many there are is counted all the same
_COMMAND_BYTES = 4096
_V1_FILES = (
    ("memory", "memory.usage_in_bytes", "memory.limit_in_bytes"),
    ("cpuacct", "cpuacct.usage"),
    ("cpu", "cpu.shares", "cpu.cfs_quota_us", "cpu.cfs_period_us"),
    ("pids", "pids.current", "pids.max"),
)
_V2_FILES = (
    ("memory", "memory.current", "memory.max", "memory.swap.max"),
    ("cpu", "cpu.stat", "cpu.weight", "cpu.max"),
    ("pids", "pids.current", "pids.max"),
)


class Group(msgspec.Struct, frozen=True):
    """A cgroup. `files`: path -> what the kernel has in it now, for those that hold a limit or its use."""

    path: str
    directories: tuple[str, ...]  # one in each hierarchy; a single one on v2
    files: dict[str, str]
    usage: CgroupStats
    oom_kills: int


class Process(msgspec.Struct, frozen=True):
    """`pid` is the host's number, `inner_pid` that in its own PID namespace. `command` is the process' own words."""

    pid: int
    inner_pid: int
    uid: int
    command: str


class MountPoint(msgspec.Struct, frozen=True):
    """A line of /proc/PID/mountinfo. `source`: as findmnt(8) prints it, `device[/path in it]`."""

    path: str
    source: str
    type: str
    options: str


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """The host's end of the pod's veth pair, a port of the bridge; 0 and empty where it is not there."""

    name: str
    index: int
    bridge: str
    port: int
    state: str
    received_bytes: int  # from the pod
    sent_bytes: int


class SandboxInspection(msgspec.Struct, frozen=True, kw_only=True):
    """`namespaces`: type -> inode, of what the sandbox shares; `pins`: type -> the file that keeps it."""

    group: Group
    namespaces: dict[str, int]
    pins: dict[str, str]
    host_namespaces: dict[str, int]
    link: Link | None = None
    pause_pid: int = 0


class ContainerInspection(msgspec.Struct, frozen=True, kw_only=True):
    """`namespaces` and `mounts` are of its first process; empty when it does not run."""

    group: Group
    namespaces: dict[str, int]
    processes: tuple[Process, ...]
    process_count: int
    mounts: tuple[MountPoint, ...]


def group_of(path: str, facts: HostFacts) -> Group:
    files = {}
    for controller, *names in _V2_FILES if facts.cgroup_version == 2 else _V1_FILES:
        directory = controller_directory(path, controller, facts)
        for name in names if directory else ():
            with contextlib.suppress(OSError), open(f"{directory}/{name}", encoding="ascii") as file:
                files[f"{directory}/{name}"] = file.read().strip()
    directories = tuple(place for place in cgroup.directories(path, facts) if os.path.isdir(place))
    return Group(path, directories, files, cgroup.stats(path, facts), cgroup.oom_kills(path, facts))


def namespaces_of(pid: int) -> dict[str, int]:
    """Type -> inode; empty for a process that is gone."""
    return _inodes({name: f"/proc/{pid}/ns/{name}" for name in NAMESPACES})


def sandbox(
    group: str, pins: dict[str, str], pause_pid: int, network: NetworkFacts, facts: HostFacts
) -> SandboxInspection:
    shared = _inodes(pins)
    if pause_pid:
        shared |= {name: inode for name, inode in namespaces_of(pause_pid).items() if name == "pid"}
    return SandboxInspection(
        group=group_of(group, facts),
        namespaces=shared,
        pins=pins,
        host_namespaces=namespaces_of(os.getpid()),
        link=_link(network) if network.host_interface else None,
        pause_pid=pause_pid,
    )


def container(group: str, pid: int, facts: HostFacts) -> ContainerInspection:
    """`pid` 0: it does not run."""
    pids = cgroup.pids(group, facts)
    return ContainerInspection(
        group=group_of(group, facts),
        namespaces=namespaces_of(pid) if pid else {},
        processes=tuple(_processes(pids[:MAX_PROCESSES])),
        process_count=len(pids),
        mounts=tuple(_mounts(pid)) if pid else (),
    )


def _inodes(files: dict[str, str]) -> dict[str, int]:
    found = {}
    for name, path in files.items():
        with contextlib.suppress(OSError):
            found[name] = os.stat(path).st_ino
    return found


def _processes(pids: Iterable[int]) -> Iterator[Process]:
    for pid in pids:
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
                status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read(_COMMAND_BYTES).decode(errors="replace").rstrip("\0").replace("\0", " ")
            inner = int(status.get("NSpid", str(pid)).split()[-1])
            yield Process(pid, inner, int(status["Uid"].split()[0]), words or f"[{status['Name']}]")


def _mounts(pid: int) -> Iterator[MountPoint]:
    """In the order of the table, which is that in which they were made."""
    try:
        with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:
        return
    for line in lines:
        left, _, right = line.partition(" - ")
        fields, (type_, source, *_) = left.split(" "), right.split(" ")
        root = fields[3]
        yield MountPoint(fields[4], source if root == "/" else f"{source}[{root}]", type_, fields[5])


def _link(network: NetworkFacts) -> Link:
    directory = f"/sys/class/net/{network.host_interface}"

    def value(name: str) -> str:
        try:
            with open(f"{directory}/{name}", encoding="ascii") as file:
                return file.read().strip()
        except OSError:
            return ""

    return Link(
        name=network.host_interface,
        index=int(value("ifindex") or 0),
        bridge=network.bridge,
        port=int(value("brport/port_no") or "0", 16),
        state=value("operstate"),
        received_bytes=int(value("statistics/rx_bytes") or 0),
        sent_bytes=int(value("statistics/tx_bytes") or 0),
    )
