"""A container as operations (layer 2): from CRI's ContainerConfig and the image to what the kernel is asked. Pure."""

from __future__ import annotations

import base64
import posixpath

import msgspec

from minipod.errors import ContainerError
from minipod.kernel.cgroup import Hierarchy
from minipod.paths import Paths
from minipod.plan.cgroup import (
    clone_directory,
    container_cgroup_path,
    create_container_cgroup,
    join_cgroup,
    visible_hierarchies,
)
from minipod.plan.configs import ContainerConfig, HostFacts, Image, Mount, SandboxConfig
from minipod.plan.operation import ChildOperation, HostOperation, in_order
from minipod.plan.process.devices import limit_devices
from minipod.plan.process.entry import ChangeFolder, CheckProgram, EnterMounts, EnterRoot, PivotRoot
from minipod.plan.process.identity import (
    AssumeUser,
    BecomeUser,
    DropCapabilities,
    Exec,
    InstallSeccompFilter,
    LimitOpenFiles,
    NewKeyring,
    NewSession,
    OpenTerminal,
    ResolveUser,
    SetNoNewPrivs,
    SetOomScoreAdj,
)
from minipod.plan.process.kernel_mounts import (
    MakeDevices,
    MaskPaths,
    MountFilesystem,
    PlaceCgroup,
    ReadOnlyPaths,
    RemountReadOnly,
    TakeCgroup,
    TakeDevices,
)
from minipod.plan.process.namespaces import (
    Clone,
    CloseDescriptors,
    EnterPidNamespace,
    JoinContainer,
    JoinNamespaces,
    TakeProcfs,
    UnshareCgroupNamespace,
)
from minipod.plan.process.places import PROC_FILES
from minipod.plan.process.rootfs import (
    BindMount,
    KeepWritable,
    MakeContainerFolder,
    MakeDeviceNode,
    MakeFolder,
    MountRoot,
    TakeDevice,
    TouchFile,
)
from minipod.plan.process.security import READONLY_PATHS, capability_mask, capability_set, masked_paths
from minipod.plan.refusals import refuse_command, refuse_creation
from minipod.plan.sandbox import namespace_pins, sandbox_directory
from minipod.plan.volumes.sub_path import MakeSubPath

SOFT_OPEN_FILES = 1024  # systemd's DefaultLimitNOFILE
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class ContainerPlan(msgspec.Struct, frozen=True, kw_only=True):
    """`host` runs at create and is undone at remove; `clone` and `child` are what the spawner gets at start."""

    host: tuple[HostOperation, ...]
    clone: Clone
    child: tuple[ChildOperation, ...]


class ExecPlace(msgspec.Struct, frozen=True, kw_only=True):
    """What a command in a running container starts from: the container's own state, as it was started.

    `root`: device and inode of its root file system.
    """

    root: tuple[int, int]
    user: AssumeUser
    environment: tuple[str, ...]
    cwd: str


class SeccompFilter(msgspec.Struct, frozen=True):
    """A compiled filter (struct sock_filter …) and what it is called; an empty program is no filter.

    `cookie`: of the passage at its start; 0 without one (`plan.process.passage`).
    """

    profile: str
    program: bytes = b""
    cookie: int = 0


def container_plan(
    config: ContainerConfig,
    sandbox: SandboxConfig,
    image: Image,
    facts: HostFacts,
    paths: Paths,
    seccomp: SeccompFilter,
) -> ContainerPlan:
    """Everything that makes this container. Raises ContainerError (CreateContainerError) for what can't be."""
    refuse_creation(config)
    cgroup = container_cgroup_path(sandbox.cgroup_parent, config.id)
    host: list[HostOperation] = [create_container_cgroup(cgroup, config.resources, facts)]
    limit = None if config.security.privileged else limit_devices(cgroup, facts, config.devices)
    if limit is not None:
        host.append(limit)
    host.append(MakeContainerFolder(config.directory))
    host += _sub_paths(config)
    if config.termination_message_host_path:
        host.append(TouchFile(config.termination_message_host_path, 0o666))
    volumes = _volumes(config, sandbox, image, paths)
    child: list[ChildOperation] = [
        *_process(config, cgroup, facts),
        UnshareCgroupNamespace(),
        *_namespaces(config, sandbox, seccomp, paths),
        *_taken(config, volumes),
        *_taken_groups(cgroup, facts),
        MountRoot(layers=image.layers, directory=config.directory),
        _user(config, image),
        EnterMounts(),
        *_kernel_mounts(config, facts),
        *volumes,
    ]
    cwd = config.working_dir or image.config.working_dir or "/"
    child.append(MakeFolder(cwd))
    if config.tty:
        child.append(OpenTerminal(console=True))
    if config.security.readonly_rootfs:
        child.append(RemountReadOnly("/"))
    child += [PivotRoot(), ChangeFolder(cwd), *_restrictions(config, seccomp), NewSession(config.tty, seccomp.cookie)]
    child += _program(_argv(config, image), _environment(config, image), seccomp)
    clone = _clone(config, clone_directory(cgroup, facts))
    return ContainerPlan(host=tuple(host), clone=clone, child=in_order(child))


def exec_operations(
    config: ContainerConfig,
    sandbox: SandboxConfig,
    place: ExecPlace,
    command: tuple[str, ...],
    facts: HostFacts,
    seccomp: SeccompFilter,
    terminal: tuple[int, int] | None,
) -> tuple[Clone, tuple[ChildOperation, ...]]:
    """Another process in a running container, with the same user, limits and filter.

    Raises ContainerError for a command that cannot be passed to a process.
    """
    refuse_command(command)
    cgroup = container_cgroup_path(sandbox.cgroup_parent, config.id)
    child: list[ChildOperation] = [
        *_process(config, cgroup, facts),
        JoinContainer(),
        EnterRoot(*place.root),
        place.user,
        ChangeFolder(place.cwd),
        *_restrictions(config, seccomp),
        EnterPidNamespace(seccomp.cookie),
        NewSession(terminal is not None, seccomp.cookie),
    ]
    env = dict(entry.split("=", 1) for entry in place.environment)
    if terminal is not None:
        child.append(OpenTerminal(*terminal))
        env.setdefault("TERM", "xterm")
    child += _program(command, tuple(f"{name}={value}" for name, value in env.items()), seccomp)
    return Clone(namespaces=(), cgroup2=clone_directory(cgroup, facts)), in_order(child)


def _process(config: ContainerConfig, cgroup: str, facts: HostFacts) -> list[ChildOperation]:
    """What every process of a container starts with, the first and those that join it."""
    return [
        CloseDescriptors(),
        SetOomScoreAdj(config.oom_score_adj),
        LimitOpenFiles(SOFT_OPEN_FILES, facts.open_files),
        NewKeyring(),
        join_cgroup(cgroup, facts),
    ]


def _program(argv: tuple[str, ...], env: tuple[str, ...], seccomp: SeccompFilter) -> list[ChildOperation]:
    return [*([CheckProgram(argv[0], seccomp.cookie)] if "/" in argv[0] else []), Exec(argv=argv, env=env)]


def _namespaces(
    config: ContainerConfig, sandbox: SandboxConfig, seccomp: SeccompFilter, paths: Paths
) -> list[ChildOperation]:
    """Those of the pod, and the PID namespace of others: of the pod's first process, or of a container (debug)."""
    operations: list[ChildOperation] = []
    pins = namespace_pins(sandbox, paths)
    if pins:
        operations.append(JoinNamespaces(pins))
    if joins_pid_namespace(config):
        operations += [TakeProcfs(), JoinContainer(("pid",)), EnterPidNamespace(seccomp.cookie)]
    return operations


def _taken(config: ContainerConfig, volumes: list[ChildOperation]) -> list[ChildOperation]:
    """What the container gets of the host, from where the host's mounts are."""
    operations: list[ChildOperation] = [volume.take() for volume in volumes if isinstance(volume, BindMount)]
    operations += [TakeDevice(volume.device) for volume in volumes if isinstance(volume, MakeDeviceNode)]
    return [*operations, *([TakeDevices()] if config.security.privileged else [])]


def joins_pid_namespace(config: ContainerConfig) -> bool:
    """Whether it starts where others run already, which the request carries a pidfd of (`target`)."""
    return config.security.namespaces.pid in ("pod", "target")


def _clone(config: ContainerConfig, cgroup2: str) -> Clone:
    """Alone in a PID namespace of its own it is its first process at once."""
    own = config.security.namespaces.pid == "container"
    return Clone(namespaces=("pid",) if own else (), cgroup2=cgroup2)


def _sub_paths(config: ContainerConfig) -> list[MakeSubPath]:
    return [
        MakeSubPath(
            volume=mount.volume,
            container=config.name,
            source=mount.host_path,
            sub_path=mount.below,
            image=bool(mount.image_sub_path),
        )
        for mount in config.mounts
        if mount.below
    ]


def _image_volumes(config: ContainerConfig, image: Image) -> list[KeepWritable]:
    """Writable as everything else, unless the root is not: then they still are (containerd's image volumes)."""
    if not config.security.readonly_rootfs:
        return []
    places = sorted({posixpath.normpath("/" + path.lstrip("/")) for path in image.config.volumes} - {"/"})
    return [KeepWritable(place) for place in places]


def _user(config: ContainerConfig, image: Image) -> ResolveUser:
    security = config.security
    user = str(security.run_as_user) if security.run_as_user is not None else security.run_as_username
    return ResolveUser(
        user=user or image.config.user,
        gid=security.run_as_group,
        groups=security.supplemental_groups,
        merge_image_groups=security.supplemental_groups_policy != "Strict",
        run_as_non_root=security.run_as_non_root,
    )


def _kernel_mounts(config: ContainerConfig, facts: HostFacts) -> list[ChildOperation]:
    """The kernel's file systems with their devices, and masked, before any volume can cover or uncover them."""
    privileged = config.security.privileged
    sys_flags = ("nosuid", "nodev", "noexec") if privileged else ("ro", "nosuid", "nodev", "noexec")
    operations: list[ChildOperation] = [
        MountFilesystem(fstype="proc", target="/proc", flags=("nosuid", "nodev", "noexec")),
        MountFilesystem(fstype="tmpfs", target="/dev", flags=("nosuid",), data="size=65536k,mode=755"),
        MakeDevices(host=privileged),
        MountFilesystem(
            fstype="devpts",
            target="/dev/pts",
            flags=("nosuid", "noexec"),
            data="newinstance,ptmxmode=0666,mode=0620,gid=5",
        ),
        MountFilesystem(fstype="mqueue", target="/dev/mqueue", flags=("nosuid", "nodev", "noexec")),
        MountFilesystem(fstype="sysfs", target="/sys", flags=sys_flags),
        *_cgroup_mounts(facts, sys_flags),
    ]
    if not privileged and config.security.proc_mount == "Default":
        operations += [MaskPaths(masked_paths(facts.cpus)), ReadOnlyPaths(READONLY_PATHS)]
    return operations


def _volumes(config: ContainerConfig, sandbox: SandboxConfig, image: Image, paths: Paths) -> list[ChildOperation]:
    """The container's own mounts, those nearer to the root first, over the image's volumes."""
    shm = "/dev/shm" if sandbox.namespaces.ipc == "node" else f"{sandbox_directory(sandbox.id, paths)}/shm"
    mounts = list(config.mounts)
    if config.termination_message_host_path:
        mounts.append(
            Mount(container_path=config.termination_message_path, host_path=config.termination_message_host_path)
        )
    for mount in mounts:
        _refuse_in_proc(mount.container_path)
        _refuse_root(mount.container_path)
    operations: list[ChildOperation] = []
    if any(posixpath.normpath(mount.container_path) == "/dev" for mount in mounts):
        mounts.insert(0, Mount(container_path="/dev/shm", host_path=shm))  # in the volume, as under containerd
    else:
        operations.append(BindMount(source=shm, target="/dev/shm"))
    mounts.sort(key=lambda mount: mount.container_path.rstrip("/").count("/"))
    operations += _image_volumes(config, image)
    operations += [
        BindMount(
            source=mount.host_path,
            target=mount.container_path,
            readonly=mount.readonly,
            recursive_read_only=mount.recursive_read_only,
            propagation=mount.propagation,
            sub_path=mount.below,
            host_path_type=mount.host_path_type,
        )
        for mount in mounts
    ]
    for device in config.devices:
        _refuse_in_proc(device.container_path)
        operations.append(MakeDeviceNode(device.host_path, device.container_path))
    return operations


def _refuse_root(path: str) -> None:
    """What is mounted over the root is neither seen nor hides it: pivot_root takes the mount below."""
    if posixpath.normpath("/" + path.lstrip("/")) == "/":
        message = f"mountPath {path}: a volume cannot be the root file system: choose a directory in it"
        raise ContainerError(message, "CreateContainerError")


def _refuse_in_proc(path: str) -> None:
    """What the manifest itself asks for in /proc; where an image's links lead is looked at when it is mounted.

    Who chooses what /proc is chooses what the masks hide (runc's checkProcMount, CVE-2019-16884).
    """
    place = posixpath.normpath("/" + path.lstrip("/"))
    if (place == "/proc" or place.startswith("/proc/")) and place not in PROC_FILES:
        message = f"mountPath {path}: nothing can be mounted in /proc: choose another place"
        raise ContainerError(message, "CreateContainerError")


def _taken_groups(cgroup: str, facts: HostFacts) -> list[ChildOperation]:
    if facts.cgroup_version == 2:
        return []
    return [
        TakeCgroup(directory=found.mount + cgroup, target=_cgroup_place(found)) for found in visible_hierarchies(facts)
    ]


def _cgroup_place(hierarchy: Hierarchy) -> str:
    return f"/sys/fs/cgroup/{','.join(hierarchy.controllers)}"


def _cgroup_mounts(facts: HostFacts, flags: tuple[str, ...]) -> list[ChildOperation]:
    """/sys/fs/cgroup as the container's own cgroup namespace shows it: one cgroup2, or a directory a v1 hierarchy."""
    if facts.cgroup_version == 2:
        return [MountFilesystem(fstype="cgroup2", target="/sys/fs/cgroup", flags=(*flags, "relatime"))]
    operations: list[ChildOperation] = [
        MountFilesystem(
            fstype="tmpfs", target="/sys/fs/cgroup", flags=("nosuid", "nodev", "noexec", "relatime"), data="mode=755"
        )
    ]
    operations += [PlaceCgroup(target=_cgroup_place(found), flags=flags) for found in visible_hierarchies(facts)]
    if "ro" in flags:
        operations.append(RemountReadOnly("/sys/fs/cgroup"))
    return operations


def _restrictions(config: ContainerConfig, seccomp: SeccompFilter) -> list[ChildOperation]:
    """Who the process is and what it may do; the order is `in_order`'s."""
    security = config.security
    operations: list[ChildOperation] = []
    if security.no_new_privs:
        operations.append(SetNoNewPrivs())
    if seccomp.program:
        operations.append(InstallSeccompFilter(seccomp.profile, base64.b64encode(seccomp.program).decode()))
    mask = capability_mask(capabilities_of(config))
    return [*operations, BecomeUser(capabilities=mask), DropCapabilities(mask)]


def capabilities_of(config: ContainerConfig) -> frozenset[str]:
    """The names of the capabilities that the container's root keeps."""
    security = config.security
    return capability_set(security.add_capabilities, security.drop_capabilities, privileged=security.privileged)


def _argv(config: ContainerConfig, image: Image) -> tuple[str, ...]:
    """`command` replaces the image's entrypoint and drops its cmd; `args` alone replaces the cmd.

    An image that resets the entrypoint of its base has [""] (containerd's WithProcessArgs, Docker's commit).
    """
    if config.command:
        return (*config.command, *config.args)
    entrypoint = () if image.config.entrypoint == ("",) else image.config.entrypoint
    argv = (*entrypoint, *(config.args or image.config.cmd))
    if not argv:
        raise ContainerError(
            f'no command: image "{config.image}" has neither Entrypoint nor Cmd: set command', "CreateContainerError"
        )
    return argv


def _environment(config: ContainerConfig, image: Image) -> tuple[str, ...]:
    """The image's variables below the container's own; HOME is added at exec, from the image's passwd."""
    env = {"PATH": DEFAULT_PATH}
    if config.tty:
        env["TERM"] = "xterm"
    for entry in image.config.env:
        name, equals, value = entry.partition("=")
        if name and equals:
            env[name] = value
        else:  # a bare name takes the variable away (containerd's replaceOrAppendEnvValues); nothing is the host's
            env.pop(name, None)
    env.update(config.envs)
    return tuple(f"{name}={value}" for name, value in env.items())
