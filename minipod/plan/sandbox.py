"""A pod sandbox as operations (layer 2): cgroup, namespaces, network, files and shared memory, in their order."""

from __future__ import annotations

import contextlib
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
from minipod.plan.operation import ChildOperation, HostOperation, in_order
from minipod.plan.process.entry import EnterMounts, PivotRoot
from minipod.plan.process.identity import (
    AssumeUser,
    BecomeUser,
    DropCapabilities,
    ExecPause,
    NewKeyring,
    NewSession,
    SetNoNewPrivs,
    SetOomScoreAdj,
)
from minipod.plan.process.kernel_mounts import MakeDevices, MaskPaths, MountFilesystem, ReadOnlyPaths, RemountReadOnly
from minipod.plan.process.namespaces import (
    Clone,
    CloseDescriptors,
    CreateNamespaces,
    JoinNamespaces,
    UnshareCgroupNamespace,
)
from minipod.plan.process.rootfs import MountEmptyRoot
from minipod.plan.process.security import READONLY_PATHS, masked_paths

SHM_BYTES = 64 << 20
FILES_BYTES = 16 << 20  # of what a container may write to although it is the host's: hosts, termination messages
PAUSE_OOM_SCORE_ADJ = -998  # pkg/kubelet/qos/policy.go PodInfraOOMAdj
PAUSE_USER = 65535  # of registry.k8s.io/pause


#: in the sandbox's directory: what is known of it, for as long as anything of it is left
RECORD = "sandbox.json"


class MakeSandboxFolder(HostOperation, frozen=True):
    """The sandbox's directory below <run-dir>/sandboxes, which becomes a mount for all of them.

    Its record is left: by it the agent that comes after a killed one goes on.
    """

    directory: str

    def describe(self) -> str:
        return f"mkdir {self.directory}; bind {os.path.dirname(self.directory)} on itself, private, if it is no mount"

    def execute(self) -> None:
        os.makedirs(f"{self.directory}/ns", mode=0o700, exist_ok=True)
        kmount.isolate(os.path.dirname(self.directory))

    def undo(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(self.directory):
                if name != RECORD:
                    remove_tree(f"{self.directory}/{name}")


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


class MountMemory(HostOperation, frozen=True):
    """A tmpfs of a pod's own, which takes no more than this of the host's memory."""

    target: str
    size_bytes: int
    mode: int

    def describe(self) -> str:
        return f"mount tmpfs {self.target} nosuid,nodev,noexec,{self._options()}"

    def _options(self) -> str:
        return f"mode={self.mode:o},size={self.size_bytes >> 10}k"

    def execute(self) -> None:
        os.makedirs(self.target, exist_ok=True)
        flags = kmount.MS_NOSUID | kmount.MS_NODEV | kmount.MS_NOEXEC
        kmount.mount(os.path.basename(self.target), self.target, "tmpfs", flags, self._options())

    def undo(self) -> None:
        kmount.umount_if_mounted(self.target)


def sandbox_directory(sandbox_id: str, paths: Paths) -> str:
    return f"{paths.root}/sandboxes/{sandbox_id}"


def files_directory(sandbox_id: str, paths: Paths) -> str:
    """Where the files lie that are the host's and bound into the pod's containers, which may write to them."""
    return f"{sandbox_directory(sandbox_id, paths)}/files"


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


def sandbox_operations(
    config: SandboxConfig, network: NetworkFacts, facts: HostFacts, paths: Paths
) -> tuple[HostOperation, ...]:
    """Everything that a sandbox makes on the host, in order; undone in reverse when it stops."""
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
    files = files_directory(config.id, paths)
    operations.append(MountMemory(files, FILES_BYTES, 0o700))
    operations.append(WriteSandboxFiles(files, sandbox_files(config, ips, facts, network.names)))
    if config.namespaces.ipc != "node":
        operations.append(MountMemory(f"{directory}/shm", SHM_BYTES, 0o1777))
    if config.namespaces.pid == "pod":
        operations.append(create_container_cgroup(pause_cgroup(config), CgroupResources(cpu_shares=2), facts))
    return tuple(operations)


def pause_process(
    config: SandboxConfig, facts: HostFacts, paths: Paths, machine: str
) -> tuple[Clone, tuple[ChildOperation, ...]] | None:
    """The one process that shareProcessNamespace needs, in a group of its own with the containers'; else None.

    The pod's containers see it, with SYS_PTRACE also what it holds: a root with nothing in it but the procfs that they
    get theirs from, masked as theirs is, the pod's namespaces, another user and no capability.
    """
    if config.namespaces.pid != "pod":
        return None
    cgroup = pause_cgroup(config)
    clone = Clone(namespaces=("pid",), cgroup2=clone_directory(cgroup, facts))
    operations: list[ChildOperation] = [
        CloseDescriptors(),
        SetOomScoreAdj(PAUSE_OOM_SCORE_ADJ),
        NewKeyring(),
        join_cgroup(cgroup, facts),
        UnshareCgroupNamespace(),
        JoinNamespaces(namespace_pins(config, paths)),
        MountEmptyRoot(),
        EnterMounts(),
        MountFilesystem(fstype="proc", target="/proc", flags=("nosuid", "nodev", "noexec")),
        MountFilesystem(fstype="tmpfs", target="/dev", flags=("nosuid", "noexec"), data="size=64k,mode=755"),
        MakeDevices(),
        MaskPaths(masked_paths(0)),
        ReadOnlyPaths(READONLY_PATHS),
        RemountReadOnly("/"),
        PivotRoot(),
        SetNoNewPrivs(),
        AssumeUser(uid=PAUSE_USER, gid=PAUSE_USER),
        BecomeUser(capabilities=0),
        DropCapabilities(0),
        NewSession(),
        ExecPause(machine),
    ]
    return clone, in_order(operations)


def pause_cgroup(config: SandboxConfig) -> str:
    return container_cgroup_path(config.cgroup_parent, config.id)
