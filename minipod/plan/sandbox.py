"""A pod sandbox as operations (layer 2): cgroup, namespaces, network, files and shared memory, in their order."""

from __future__ import annotations

import os

from minipod.kernel import mount as kmount
from minipod.kernel.remove import remove_tree
from minipod.paths import Paths
from minipod.plan.cgroup import (
    clone_directory,
    container_cgroup_path,
    create_container_cgroup,
    create_pod_cgroup,
    join_cgroup,
    node_cgroups,
)
from minipod.plan.configs import CgroupResources, HostFacts, NetworkFacts, SandboxConfig
from minipod.plan.files import sandbox_files
from minipod.plan.network.pod_network import pod_network
from minipod.plan.operation import ChildOperation, HostOperation
from minipod.plan.process.identity import ExecPause, NewSession, SetOomScoreAdj
from minipod.plan.process.namespaces import Clone, CreateNamespaces

SHM_BYTES = 64 << 20
PAUSE_OOM_SCORE_ADJ = -998  # pkg/kubelet/qos/policy.go PodInfraOOMAdj


class MakeSandboxFolder(HostOperation, frozen=True):
    """The sandbox's folder below <root>/sandboxes."""

    directory: str

    def describe(self) -> str:
        return f"mkdir {self.directory}"

    def execute(self) -> None:
        os.makedirs(f"{self.directory}/ns", mode=0o700, exist_ok=True)

    def undo(self) -> None:
        remove_tree(self.directory)


class WriteSandboxFiles(HostOperation, frozen=True):
    """hosts, hostname and resolv.conf, which every container of the pod gets bound into /etc."""

    directory: str
    files: dict[str, str]

    def describe(self) -> str:
        return f"write {', '.join(self.files)} in {self.directory}"

    def execute(self) -> None:
        for name, text in self.files.items():
            with open(f"{self.directory}/{name}", "w", encoding="utf-8") as file:
                file.write(text)
                os.fchmod(file.fileno(), 0o644)


class MountSharedMemory(HostOperation, frozen=True):
    """The tmpfs that is /dev/shm in every container of the pod."""

    target: str
    size_bytes: int = SHM_BYTES

    def describe(self) -> str:
        return f"mount tmpfs {self.target} nosuid,nodev,noexec,mode=1777,size={self.size_bytes >> 10}k"

    def execute(self) -> None:
        os.makedirs(self.target, exist_ok=True)
        flags = kmount.MS_NOSUID | kmount.MS_NODEV | kmount.MS_NOEXEC
        kmount.mount("shm", self.target, "tmpfs", flags, f"mode=1777,size={self.size_bytes >> 10}k")

    def undo(self) -> None:
        kmount.umount_if_mounted(self.target)


class PinPidNamespace(HostOperation, frozen=True):
    """Keep the PID namespace that `pid` is the first process of; made after the pause process runs."""

    pid: int
    path: str

    def describe(self) -> str:
        return f"bind /proc/PID/ns/pid of the pause process at {self.path}"

    def execute(self) -> None:
        os.close(os.open(self.path, os.O_CREAT | os.O_RDONLY | os.O_CLOEXEC, 0o444))
        kmount.mount(f"/proc/{self.pid}/ns/pid", self.path, None, kmount.MS_BIND)

    def undo(self) -> None:
        kmount.umount_if_mounted(self.path)


def sandbox_directory(sandbox_id: str, paths: Paths) -> str:
    return f"{paths.root}/sandboxes/{sandbox_id}"


def netns_path(config: SandboxConfig, paths: Paths) -> str:
    """The file under /run/netns; empty with the host's network."""
    if config.namespaces.network == "node":
        return ""
    return f"/run/netns/{paths.netns_name(config.namespace, config.name)}"


def namespace_pins(config: SandboxConfig, paths: Paths) -> dict[str, str]:
    """Kind -> file of the namespaces that the pod's containers share. With the host's network also its UTS."""
    directory = sandbox_directory(config.id, paths)
    pins = {}
    if config.namespaces.network != "node":
        pins = {"net": netns_path(config, paths), "uts": f"{directory}/ns/uts"}
    if config.namespaces.ipc != "node":
        pins["ipc"] = f"{directory}/ns/ipc"
    return pins


def pid_namespace_path(config: SandboxConfig, paths: Paths) -> str:
    return f"{sandbox_directory(config.id, paths)}/ns/pid"


def sandbox_operations(
    config: SandboxConfig, network: NetworkFacts, facts: HostFacts, paths: Paths
) -> tuple[HostOperation, ...]:
    """Everything a sandbox leaves on the host, in order; undone backwards when it stops."""
    directory = sandbox_directory(config.id, paths)
    operations: list[HostOperation] = []
    if config.cgroup_parent.startswith(paths.cgroup_root + "/"):
        operations += node_cgroups(paths, facts)
    operations.append(create_pod_cgroup(config.cgroup_parent, config.cgroup_resources, facts))
    operations.append(MakeSandboxFolder(directory))
    pins = namespace_pins(config, paths)
    if pins:
        hostname = config.kernel_hostname or config.hostname
        operations.append(CreateNamespaces(pins=pins, hostname=hostname, sysctls=config.sysctls))
    operations += pod_network(config, network, netns_path(config, paths))
    ips = [address.partition("/")[0] for address in (network.ipv4, network.ipv6) if address]
    operations.append(WriteSandboxFiles(directory, sandbox_files(config, ips, facts)))
    if config.namespaces.ipc != "node":
        operations.append(MountSharedMemory(f"{directory}/shm"))
    if config.namespaces.pid == "pod":
        operations.append(create_container_cgroup(_pause_cgroup(config), CgroupResources(cpu_shares=2), facts))
    return tuple(operations)


def pause_process(config: SandboxConfig, facts: HostFacts, machine: str) -> tuple[Clone, list[ChildOperation]] | None:
    """The one process that shareProcessNamespace needs, in a group of its own beside the containers'; else None."""
    if config.namespaces.pid != "pod":
        return None
    cgroup = _pause_cgroup(config)
    clone = Clone(namespaces=("pid",), cgroup2=clone_directory(cgroup, facts))
    return clone, [SetOomScoreAdj(PAUSE_OOM_SCORE_ADJ), NewSession(), join_cgroup(cgroup, facts), ExecPause(machine)]


def _pause_cgroup(config: SandboxConfig) -> str:
    return container_cgroup_path(config.cgroup_parent, config.id)
