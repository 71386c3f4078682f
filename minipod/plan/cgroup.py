"""cgroups (layer 2): which groups a pod has, the kubelet's numbers as files of cgroup v1 and v2, and their operations.

The spawner's child imports this, so it knows nothing of the API's types; the numbers come from `plan.resources`.
Why these hierarchies and no others: docs/decisions/020-cgroup-hierarchies.md.
"""

from __future__ import annotations

import errno
import math
import os
import time
from collections.abc import Iterable, Sequence
from typing import ClassVar

import msgspec

from minipod.kernel import cgroup
from minipod.kernel.cgroup import UNIFIED, Hierarchy
from minipod.paths import Paths
from minipod.plan.configs import CgroupResources, HostFacts
from minipod.plan.operation import ChildContext, ChildOperation, HostOperation

#: v1: limits (cpu, memory, pids), what a workload reads of itself (cpuacct), safety (devices, against mknod).
#: A container sees these in its /sys/fs/cgroup; it has a group of its own in all others as well.
V1_CONTROLLERS = ("cpu", "cpuacct", "memory", "pids", "devices")
V2_CONTROLLERS = ("cpu", "memory", "pids")

MIN_SHARES = 2  # kernel/sched/sched.h MIN_SHARES
MAX_SHARES = 262144  # MAX_SHARES
SHARES_PER_CPU = 1024

#: how long `undo` waits for killed processes to be gone before it reports which are left
KILL_TIMEOUT_S = 10.0


_OUT_OF_RANGE = "choose smaller resources.limits"


class CgroupFile(msgspec.Struct, frozen=True):
    """One value to write. `optional`: not every kernel has the file (swap accounting, memory.oom.group)."""

    controller: str
    name: str
    value: str
    optional: bool = False


class CgroupSetting(msgspec.Struct, frozen=True):
    """A value and the directory of the group that it is written to."""

    directory: str
    name: str
    value: str
    optional: bool = False

    def apply(self) -> None:
        try:
            cgroup.write(self.directory, self.name, self.value)
        except FileNotFoundError:
            if not self.optional:
                raise
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ERANGE):
                raise
            # the kubelet fails to make the pod's group in the same way (pkg/kubelet/cm)
            words = f"the kernel does not take {self.value!r} (invalid argument): {_OUT_OF_RANGE}"
            raise OSError(error.errno, words, f"{self.directory}/{self.name}") from None


# ---- places


def hierarchies(facts: HostFacts) -> tuple[Hierarchy, ...]:
    """Every hierarchy of this host: pods and containers have a group in each of them.

    Whatever a container did not join it would be in the root group of, and its cgroup namespace would have the
    host's root there: with CAP_SYS_ADMIN it could mount that hierarchy, freeze the host or open release_agent.

    On a hybrid host the cgroup2 mount comes first although it limits nothing: a process is cloned right into it, and
    it kills and reports the end of a whole group. Without it the v1 freezer serves for killing.
    """
    mounts = facts.cgroup_mounts
    found = []
    if UNIFIED in mounts:
        limiting = V2_CONTROLLERS if facts.cgroup_version == 2 else ()
        found = [Hierarchy(mounts[UNIFIED], 2, tuple(c for c in limiting if c in facts.cgroup_controllers))]
    v1 = sorted((key for key in mounts if key != UNIFIED), key=_place_in_order)
    for mount in dict.fromkeys(mounts[key] for key in v1):
        # all of a mount's controllers are named: a co-mounted cpuset has to be filled before anything can join
        found.append(Hierarchy(mount, 1, tuple(key for key, place in mounts.items() if place == mount)))
    return tuple(found)


def _place_in_order(key: str) -> tuple[int, str]:
    return (V1_CONTROLLERS.index(key), "") if key in V1_CONTROLLERS else (len(V1_CONTROLLERS), key)


def visible_hierarchies(facts: HostFacts) -> tuple[Hierarchy, ...]:
    """The v1 hierarchies that a container sees below /sys/fs/cgroup: those that limit or count it.

    The rest would cost a mount each and shows nothing of use.
    """
    return tuple(h for h in hierarchies(facts) if h.version == 1 and not set(V1_CONTROLLERS).isdisjoint(h.controllers))


def controller_directory(path: str, controller: str, facts: HostFacts) -> str:
    """The directory of the group `path` where `controller`'s files are; empty where this host lacks it."""
    if facts.cgroup_version == 2:
        return facts.cgroup_mounts.get(UNIFIED, "") and facts.cgroup_mounts[UNIFIED] + path
    mount = facts.cgroup_mounts.get(controller, "")
    return mount and mount + path


def clone_directory(path: str, facts: HostFacts) -> str:
    """The directory for clone3's CLONE_INTO_CGROUP; empty where no cgroup2 is mounted."""
    mount = facts.cgroup_mounts.get(UNIFIED, "")
    return mount and mount + path


def container_cgroup_path(pod_path: str, container_id: str) -> str:
    return f"{pod_path}/{container_id}"


# ---- numbers


def shares_to_weight_kubelet(shares: int) -> int:
    """cpu.weight of pods and QoS classes (pkg/kubelet/cm, KEP-2254): linear from 2..262144 to 1..10000."""
    return 1 + (shares - MIN_SHARES) * 9999 // (MAX_SHARES - MIN_SHARES)


def shares_to_weight_runtime(shares: int) -> int:
    """cpu.weight of containers, as runc and crun choose it: 2 -> 1, 1024 -> 100, 262144 -> 10000."""
    if shares <= MIN_SHARES:
        return 1
    if shares >= MAX_SHARES:
        return 10000
    log = math.log2(shares)
    return math.ceil(10 ** ((log * log + 125 * log) / 612 - 7 / 34))


def v1_files(resources: CgroupResources, *, container: bool) -> list[CgroupFile]:
    """What is written, in this order, into the v1 hierarchies of a container or (else) of a pod or QoS class."""
    files = []
    if resources.cpu_shares is not None:
        files.append(CgroupFile("cpu", "cpu.shares", str(resources.cpu_shares)))
    if resources.cpu_quota_us:
        files.append(CgroupFile("cpu", "cpu.cfs_period_us", str(resources.cpu_period_us)))
        files.append(CgroupFile("cpu", "cpu.cfs_quota_us", str(resources.cpu_quota_us)))
    if limit := resources.memory_limit_bytes:
        files.append(CgroupFile("memory", "memory.limit_in_bytes", str(limit)))
        if container and resources.swap_max_bytes is not None:
            total = str(limit + resources.swap_max_bytes)
            files.append(CgroupFile("memory", "memory.memsw.limit_in_bytes", total, optional=True))
    if resources.pids_max is not None:
        files.append(CgroupFile("pids", "pids.max", _max(resources.pids_max)))
    return files


def v2_files(resources: CgroupResources, *, container: bool) -> list[CgroupFile]:
    """The same for cgroup v2."""
    files = []
    if resources.cpu_shares is not None:
        weight = shares_to_weight_runtime if container else shares_to_weight_kubelet
        files.append(CgroupFile("cpu", "cpu.weight", str(weight(resources.cpu_shares))))
    if resources.cpu_quota_us:
        files.append(CgroupFile("cpu", "cpu.max", f"{_max(resources.cpu_quota_us)} {resources.cpu_period_us}"))
    if limit := resources.memory_limit_bytes:
        files.append(CgroupFile("memory", "memory.max", str(limit)))
    if container and resources.swap_max_bytes is not None:
        files.append(CgroupFile("memory", "memory.swap.max", str(resources.swap_max_bytes), optional=True))
    if container and resources.oom_group:
        files.append(CgroupFile("memory", "memory.oom.group", "1", optional=True))
    if resources.pids_max is not None:
        files.append(CgroupFile("pids", "pids.max", _max(resources.pids_max)))
    return files


def _max(value: int) -> str:
    return str(value) if value >= 0 else "max"


def placed_files(
    path: str, resources: CgroupResources, facts: HostFacts, *, container: bool
) -> tuple[CgroupSetting, ...]:
    """The values with their directories. A controller that this host lacks is left out: `check` reports it."""
    convert = v2_files if facts.cgroup_version == 2 else v1_files
    placed = []
    for file in convert(resources, container=container):
        available = facts.cgroup_version == 1 or file.controller in facts.cgroup_controllers
        directory = controller_directory(path, file.controller, facts)
        if directory and available:
            placed.append(CgroupSetting(directory, file.name, file.value, file.optional))
    return tuple(placed)


# ---- operations


class CreateCgroup(HostOperation, frozen=True):
    """Make one group in every hierarchy and set its values; `undo` kills what is inside and removes it.

    `delegate`: groups will be made below it. `shared`: several pods live below it, so `execute` leaves its values alone
    where it is there already, and `undo` only removes it empty.
    """

    path: str
    hierarchies: tuple[Hierarchy, ...]
    settings: tuple[CgroupSetting, ...] = ()
    delegate: bool = False
    shared: bool = False

    def describe(self) -> str:
        values = " ".join(f"{s.name}={s.value.replace(' ', '/')}" for s in self.settings)
        return f"cgroup {self.path}" + (f": {values}" if values else "")

    def execute(self) -> None:
        # They come and go in order: with the first and the last all are there (`make` adds a parent that is not).
        if self.shared and all(os.path.isdir(self.hierarchies[i].mount + self.path) for i in (0, -1)):
            return
        for hierarchy in self.hierarchies:
            try:
                cgroup.make(hierarchy, self.path, delegate=self.delegate)
            except OSError as error:
                if error.errno != errno.ENOMEM:
                    raise
                # the group above is charged for it; a sandbox of containerd's does not start there either
                words = "the memory limit of container or pod is too low for a group: raise resources.limits.memory"
                raise OSError(errno.ENOMEM, words) from None
        for setting in self.settings:
            setting.apply()

    def undo(self) -> None:
        directories = [hierarchy.mount + self.path for hierarchy in self.hierarchies]
        if self.shared:
            for directory in directories:
                _remove_if_unused(directory)
        else:
            remove_with_processes(directories)


class JoinCgroup(ChildOperation, frozen=True):
    """The child goes into its group in each v1 hierarchy; into that of cgroup2 it was cloned (CLONE_INTO_CGROUP).

    It writes 0 to `tasks`, not to `cgroup.procs`: moving a whole thread group takes the kernel's global lock and with
    it an RCU grace period (5 to 10 ms), moving one's own single thread does not (0.05 ms). The child has one thread.
    """

    phase: ClassVar[str] = "cgroup"

    path: str
    directories: tuple[str, ...]

    def describe(self) -> str:
        return f"join cgroup {self.path}" + (f" ({len(self.directories)} v1 hierarchies)" if self.directories else "")

    def execute(self, ctx: ChildContext) -> None:
        for directory in self.directories:
            cgroup.write(directory, "tasks", "0")


def create_pod_cgroup(path: str, resources: CgroupResources, facts: HostFacts) -> CreateCgroup:
    """The pod's group, `path` as `plan.resources.pod_cgroup_parent` gives it."""
    settings = placed_files(path, resources, facts, container=False)
    return CreateCgroup(path, hierarchies(facts), settings, delegate=True)


def create_container_cgroup(path: str, resources: CgroupResources, facts: HostFacts) -> CreateCgroup:
    """A container's group below its pod's. What it may do with devices is `plan.process.devices`."""
    return CreateCgroup(path, hierarchies(facts), placed_files(path, resources, facts, container=True))


def join_cgroup(path: str, facts: HostFacts) -> JoinCgroup:
    return JoinCgroup(path, tuple(h.mount + path for h in hierarchies(facts) if h.version == 1))


def node_cgroups(paths: Paths, facts: HostFacts) -> tuple[CreateCgroup, ...]:
    """The groups above all pods: the instance's, kubepods and the two QoS classes, outermost first.

    Made once by the agent; undone in reverse order they vanish when no pod is left. The values are those of the
    kubelet's kubepods (all cpus of the node) and of its QoS container manager (pkg/kubelet/cm).
    """
    node = CgroupResources(cpu_shares=min(MAX_SHARES, facts.cpus * SHARES_PER_CPU))
    least = CgroupResources(cpu_shares=MIN_SHARES)
    root = paths.cgroup_root
    wanted = (
        (root, node),
        (f"{root}/kubepods", node),
        (f"{root}/kubepods/burstable", least),
        (f"{root}/kubepods/besteffort", least),
    )
    return tuple(
        CreateCgroup(
            path,
            hierarchies(facts),
            placed_files(path, resources, facts, container=False),
            delegate=True,
            shared=True,
        )
        for path, resources in wanted
    )


def burstable_cgroup(paths: Paths) -> str:
    """The group that the groups of the Burstable pods are in."""
    return f"{paths.cgroup_root}/kubepods/burstable"


def set_burstable_shares(paths: Paths, facts: HostFacts, shares: int) -> None:
    """The Burstable class weighs what its pods request together (QoS container manager).

    After the last pod, when the class is gone, it does nothing. Raises OSError.
    """
    resources = CgroupResources(cpu_shares=shares)
    for setting in placed_files(burstable_cgroup(paths), resources, facts, container=False):
        msgspec.structs.replace(setting, optional=True).apply()


# ---- removal


def remove_with_processes(directories: Iterable[str], timeout_s: float = KILL_TIMEOUT_S) -> None:
    """Kill all processes in these directories of one group, wait until they are gone, remove it. Idempotent.

    Raises TimeoutError that names the processes that would not die.
    """
    # Most groups are empty by now, and the kernel refuses to remove one that is not: only those are looked into.
    left = [directory for directory in directories if not _remove_if_unused(directory)]
    if not left:
        return
    cgroup.thaw(left)
    for directory in left:
        if not _emptied(directory, left, timeout_s):
            pids = ", ".join(map(str, cgroup.pids(directory)))
            raise TimeoutError(
                errno.ETIMEDOUT,
                f"processes {pids} do not end by SIGKILL (uninterruptible sleep? see /proc/PID/stack)",
                directory,
            )
    for directory in left:
        _remove_patiently(directory)


def _emptied(directory: str, group: Sequence[str], timeout_s: float) -> bool:
    """Kill again and again: without cgroup.kill a process may fork between being listed and being killed, and one
    that was not dead yet may have frozen the others. `group`: all directories of the group."""
    if not cgroup.populated(directory):
        return True
    rounds = 10
    for _ in range(rounds):
        cgroup.kill_all(directory)
        cgroup.thaw(group)
        if cgroup.wait_empty(directory, timeout_s / rounds):
            return True
    return False


def _remove_patiently(directory: str) -> None:
    """A dying process is not listed any more but still in its group; of least weight on a busy host it dies slowly."""
    deadline = time.monotonic() + KILL_TIMEOUT_S
    pause_s = 0.001
    while True:
        try:
            return cgroup.remove(directory)
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > deadline:
                raise
        time.sleep(pause_s)
        pause_s = min(pause_s * 2, 0.1)


def _remove_if_unused(directory: str) -> bool:
    """Whether it is gone; False: there are processes or groups in it."""
    try:
        os.rmdir(directory)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno in (errno.EBUSY, errno.ENOTEMPTY):
            return False
        raise
    return True
