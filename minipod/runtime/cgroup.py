"""Reads the cgroups of pods and containers (layer 3): OOM kills, usage, processes, leftovers.

Groups are named by their path (`/minipod/kubepods/…`), the same in every hierarchy. `plan.cgroup` creates them.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
from collections.abc import AsyncIterator

import msgspec

from minipod.kernel import cgroup
from minipod.paths import Paths
from minipod.plan.cgroup import controller_directory, hierarchies, remove_with_processes
from minipod.plan.configs import HostFacts

_GONE = (errno.ENOENT, errno.ENODEV)
_THAW_PAUSE_S = 0.1
_NO_LIMIT = 1 << 62  # v1 reports "no limit" as a number of pages that no machine has
_UNIT = "run minipod agent as a service of systemd"


class CgroupStats(msgspec.Struct, frozen=True):
    """Usage of one group with everything below it; 0 where this host does not account for it."""

    cpu_usage_ns: int = 0
    memory_usage_bytes: int = 0
    memory_working_set_bytes: int = 0  # usage without inactive page cache, as the kubelet reports it
    pids: int = 0


def directories(path: str, facts: HostFacts) -> list[str]:
    """The group's directory in each hierarchy that pods have groups in."""
    return [hierarchy.mount + path for hierarchy in hierarchies(facts)]


def oom_kills(path: str, facts: HostFacts) -> int:
    """How often the kernel killed in the group for memory (v2 may count a victim twice); 0 for a group that is gone.

    v1: `memory.oom_control` (Linux 4.13), v2: `memory.events`. Ask before the group is removed.
    """
    name = "memory.events" if facts.cgroup_version == 2 else "memory.oom_control"
    return _keyed(controller_directory(path, "memory", facts), name).get("oom_kill", 0)


def stats(path: str, facts: HostFacts) -> CgroupStats:
    """Usage now; all zero for a group that is gone."""
    memory = controller_directory(path, "memory", facts)
    pids = _number(controller_directory(path, "pids", facts), "pids.current")
    if facts.cgroup_version == 2:
        usage, inactive = _number(memory, "memory.current"), _keyed(memory, "memory.stat").get("inactive_file", 0)
        cpu = _keyed(memory, "cpu.stat").get("usage_usec", 0) * 1000
    else:
        usage = _number(memory, "memory.usage_in_bytes")
        inactive = _keyed(memory, "memory.stat").get("total_inactive_file", 0)
        cpu = _number(controller_directory(path, "cpuacct", facts), "cpuacct.usage")
    return CgroupStats(cpu, usage, max(0, usage - inactive), pids)


def processes(path: str, facts: HostFacts) -> tuple[int, int]:
    """(processes and threads in the group, how many there may be), 0 for a group without such a limit."""
    directory = controller_directory(path, "pids", facts)
    return _number(directory, "pids.current"), _number(directory, "pids.max")


def pids(path: str, facts: HostFacts) -> list[int]:
    """Every process in the group or below it, in any hierarchy, ascending."""
    found: set[int] = set()
    for directory in directories(path, facts):
        found.update(cgroup.pids(directory))
    return sorted(found)


def populated(path: str, facts: HostFacts) -> bool:
    """Whether any living process is in the group or below it."""
    return any(cgroup.populated(directory) for directory in directories(path, facts))


def kill(path: str, facts: HostFacts) -> None:
    """SIGKILL to all in the group and below; returns before they are gone. Idempotent."""
    for directory in directories(path, facts):
        if cgroup.populated(directory):
            cgroup.kill_all(directory)
    thaw(path, facts)


def kill_each(path: str, facts: HostFacts) -> None:
    """As `kill`, for the group of a container that is to be started in it afterwards."""
    for directory in directories(path, facts):
        if cgroup.populated(directory):
            cgroup.kill_each(directory)


def thaw(path: str, facts: HostFacts) -> None:
    """What a container froze by itself in the v1 freezer, so that it can die."""
    cgroup.thaw(directories(path, facts))


@contextlib.asynccontextmanager
async def kept_thawed(path: str, facts: HostFacts) -> AsyncIterator[None]:
    """For as long as the group is being killed. Few freeze themselves, so each has a moment to end without."""

    async def work() -> None:
        while True:
            await asyncio.sleep(_THAW_PAUSE_S)
            thaw(path, facts)

    task = asyncio.ensure_future(work())
    try:
        yield
    finally:
        task.cancel()


def wait_empty(path: str, facts: HostFacts, timeout_s: float) -> bool:
    """Wait until the group is empty; False when `timeout_s` was not enough. Blocks: not for an event loop."""
    return all(cgroup.wait_empty(directory, timeout_s) for directory in directories(path, facts))


def of_the_caller(facts: HostFacts, lines: str | None = None) -> list[str]:
    """What the groups that the agent was started in do to it and its spawner, which stay in them; what is not seen.

    `lines`: the text of /proc/self/cgroup, read when None.
    """
    if lines is None:
        with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read()
    groups = {
        controller: path
        for line in lines.splitlines()
        for _, controllers, path in [line.split(":", 2)]
        for controller in controllers.split(",")
    }
    found = []
    path = groups.get("" if facts.cgroup_version == 2 else "memory", "/")
    while path != "/":
        directory = controller_directory(path, "memory", facts)
        limit = _number(directory, "memory.max" if facts.cgroup_version == 2 else "memory.limit_in_bytes")
        if 0 < limit < _NO_LIMIT and not path.endswith(".service"):  # a unit's own limit is meant for the agent
            found.append(
                f"cgroup {path}: its memory limit of {limit} bytes holds for the agent and the spawner: {_UNIT}"
            )
        path = os.path.dirname(path)
    sessions = {path for path in groups.values() if re.search(r"/session-[^/]+\.scope$", path)}
    hidden = sorted(key for key in groups if key and key not in facts.cgroup_mounts)
    found += [
        f"cgroup hierarchy {key} is mounted nowhere here: containers stay in the host's root group of it, where "
        f"CAP_SYS_ADMIN is enough to freeze or limit the host: mount it below /sys/fs/cgroup and start the agent anew"
        for key in hidden
    ]
    return found + [
        f"cgroup {path}: a log-out with KillUserProcesses= ends agent and spawner: {_UNIT}" for path in sorted(sessions)
    ]


def find_leftovers(paths: Paths, facts: HostFacts) -> tuple[str, ...]:
    """The paths of all groups where this instance has its pods' groups, in any hierarchy.

    The caller knows which of them belong to existing pods.
    """
    root = f"{paths.cgroup_root}/kubepods"
    tiers = (root, f"{root}/burstable", f"{root}/besteffort")
    found: set[str] = set()
    for hierarchy in hierarchies(facts):
        for tier in tiers:
            with contextlib.suppress(OSError), os.scandir(hierarchy.mount + tier) as entries:
                found.update(f"{tier}/{entry.name}" for entry in entries if entry.is_dir(follow_symlinks=False))
    return tuple(sorted(found.difference(tiers)))


def complete(path: str, facts: HostFacts) -> None:
    """Make what a group lacks: of a hierarchy that was mounted, or is joined by a newer minipod, since it was made.

    Later commands are in it. A container without any group is left alone: it has ended.
    """
    there = [(hierarchy, os.path.isdir(hierarchy.mount + path)) for hierarchy in hierarchies(facts)]
    if any(is_there for _, is_there in there):
        for hierarchy, is_there in there:
            if not is_there:
                cgroup.make(hierarchy, path)


def remove(path: str, facts: HostFacts) -> None:
    """Kill what is in the group and remove it from every hierarchy. Idempotent. Raises TimeoutError, OSError."""
    remove_with_processes(directories(path, facts))


def remove_instance(paths: Paths, facts: HostFacts) -> None:
    """Remove the groups above the pods, those that are empty: after the last pod, and for gc. Idempotent."""
    root = paths.cgroup_root
    for path in (f"{root}/kubepods/burstable", f"{root}/kubepods/besteffort", f"{root}/kubepods", root):
        for directory in directories(path, facts):
            with contextlib.suppress(OSError):
                os.rmdir(directory)


def _keyed(directory: str, name: str) -> dict[str, int]:
    try:
        return cgroup.read_keyed(directory, name) if directory else {}
    except OSError as error:
        if error.errno in _GONE:
            return {}
        raise


def _number(directory: str, name: str) -> int:
    try:
        text = cgroup.read(directory, name) if directory else "0"
        return _NO_LIMIT if text == "max" else int(text)
    except OSError as error:
        if error.errno in _GONE:
            return 0
        raise
