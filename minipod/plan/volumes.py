"""A pod's volumes (layer 2): every source as host operations, and the mounts that containers get of them.

What is in the files of a configMap, secret, downwardAPI or projected volume is no part of an operation (a plan is
printed and saved): `plan.configuration` says it, `runtime.atomic` writes it. Rules: pkg/volume/emptydir/empty_dir.go,
pkg/volume/hostpath/host_path.go, pkg/volume/volume_linux.go (fsGroup), pkg/kubelet/kubelet_pods.go makeMounts. A pod's
volumes outlive its sandbox; they end with the pod.
"""

from __future__ import annotations

import functools
import os
import stat
from collections.abc import Callable, Mapping

import msgspec

from minipod.api import quantity
from minipod.api.types import Container, EmptyDirVolumeSource, PersistentVolume, Pod, Volume, VolumeMount
from minipod.errors import ContainerError, VolumeError
from minipod.kernel.mount import mount, umount_if_mounted
from minipod.kernel.remove import remove_tree
from minipod.paths import Paths
from minipod.plan.configs import HostFacts, Image, Mount
from minipod.plan.env import CONFIG_ERROR, expand_sub_path
from minipod.plan.operation import HostOperation
from minipod.plan.resources import pod_memory_limit
from minipod.plan.volume_mounts import BindFolder, GiveToGroup, MakeProvisionedFolder, MountImage, MountNfs

_PROPAGATION = {"None": "private", "HostToContainer": "host-to-container", "Bidirectional": "bidirectional"}
_FS_GROUP_MODE = 0o660 | 0o110 | stat.S_ISGID

#: type -> (what a path of another kind is not, the test)
_HOST_PATH_TYPES: dict[str, tuple[str, Callable[[int], bool]]] = {
    "DirectoryOrCreate": ("a directory", stat.S_ISDIR),
    "Directory": ("a directory", stat.S_ISDIR),
    "FileOrCreate": ("a file", stat.S_ISREG),
    "File": ("a file", stat.S_ISREG),
    "Socket": ("a socket file", stat.S_ISSOCK),
    "CharDevice": ("a character device", stat.S_ISCHR),
    "BlockDevice": ("a block device", stat.S_ISBLK),
}


# ---- places


def pod_directory(pod: Pod, paths: Paths) -> str:
    """The pod's folder on disk: volumes, and its containers' layers and termination logs."""
    return f"{paths.state}/pods/{pod.metadata.uid}"


def empty_dir_path(pod: Pod, name: str, paths: Paths) -> str:
    return f"{pod_directory(pod, paths)}/volumes/kubernetes.io~empty-dir/{name}"


#: volume source -> the folder of its kind below the pod's volumes, as the kubelet names it
_PLUGINS = {
    "empty_dir": "empty-dir",
    "config_map": "configmap",
    "secret": "secret",
    "downward_api": "downward-api",
    "projected": "projected",
    "persistent_volume_claim": "local-volume",
    "ephemeral": "local-volume",
    "image": "image",
    "nfs": "nfs",
}
#: of these nothing can be written to, whatever a mount says (GetAttributes().ReadOnly)
_READ_ONLY = ("config_map", "secret", "downward_api", "projected", "image")
_IN_MEMORY = ("secret", "downward_api", "projected")


def volume_path(pod: Pod, volume: Volume, paths: Paths) -> str:
    """Where the volume is on the host."""
    if volume.host_path is not None:
        return volume.host_path.path
    plugin = _PLUGINS.get(_attribute_of(volume), "empty-dir")
    return f"{pod_directory(pod, paths)}/volumes/kubernetes.io~{plugin}/{volume.name}"


class FoundSources(msgspec.Struct, frozen=True):
    """What was looked up for a pod's volumes, by the volume's name."""

    volumes: dict[str, PersistentVolume] = {}
    images: dict[str, Image] = {}


# ---- operations


class MakePodFolder(HostOperation, frozen=True):
    """The pod's own folder; `undo` removes it with everything below, and stops at anything still mounted there."""

    path: str

    def describe(self) -> str:
        return f"mkdir {self.path}"

    def execute(self) -> None:
        os.makedirs(self.path, mode=0o750, exist_ok=True)

    def undo(self) -> None:
        if os.path.basename(self.path):  # a pod without a uid would name the folder of all pods
            remove_tree(self.path)


class MakeEmptyDir(HostOperation, frozen=True):
    """An empty folder that everybody may write to; with `gid` it belongs to that group and hands it on."""

    path: str
    gid: int | None = None

    def describe(self) -> str:
        return f"mkdir {self.path} mode {self._mode():04o}" + (f" group {self.gid}" if self.gid is not None else "")

    def _mode(self) -> int:
        return 0o777 if self.gid is None else 0o777 | stat.S_ISGID

    def execute(self) -> None:
        os.makedirs(os.path.dirname(self.path), mode=0o750, exist_ok=True)
        try:
            os.mkdir(self.path, 0o777)
        except FileExistsError:
            return
        _own(self.path, 0o777, self.gid)

    def undo(self) -> None:
        remove_tree(self.path)


class MountTmpfs(HostOperation, frozen=True):
    """A tmpfs over an emptyDir's folder: an emptyDir of medium Memory."""

    path: str
    size_bytes: int
    noswap: bool = False
    gid: int | None = None

    def describe(self) -> str:
        return f"mount tmpfs {self.path} {self._options()}" + (f" group {self.gid}" if self.gid is not None else "")

    def _options(self) -> str:
        return f"size={self.size_bytes}" + (",noswap" if self.noswap else "")

    def execute(self) -> None:
        if os.path.ismount(self.path):
            return
        mount("tmpfs", self.path, "tmpfs", 0, self._options())
        _own(self.path, 0o1777, self.gid)

    def undo(self) -> None:
        umount_if_mounted(self.path)


def _own(path: str, mode: int, gid: int | None) -> None:
    if gid is not None:
        os.chown(path, -1, gid, follow_symlinks=False)
        mode |= _FS_GROUP_MODE
    os.chmod(path, mode)  # mkdir obeys the umask


class CheckHostPath(HostOperation, frozen=True):
    """A path of the host is of the wanted type, or is made where the type says so. What is there is never removed."""

    volume: str
    path: str
    type: str = ""

    def describe(self) -> str:
        if self.type in ("", "DirectoryOrCreate"):
            return f"mkdir -p {self.path} (hostPath {self.volume})"
        if self.type == "FileOrCreate":
            return f"touch {self.path} (hostPath {self.volume})"
        return f"check that {self.path} is {_HOST_PATH_TYPES[self.type][0]} (hostPath {self.volume})"

    def execute(self) -> None:
        try:
            self._make()
            if self.type:
                self._check()
        except OSError as error:
            raise VolumeError(f"volume {self.volume}: hostPath {self.path}: {error.strerror}") from error

    def _make(self) -> None:
        if os.path.exists(self.path):
            return
        if self.type in ("", "DirectoryOrCreate"):
            # without a type the kubelet checks nothing, and containerd makes a folder of what is missing
            os.makedirs(self.path, mode=0o755, exist_ok=True)
        elif self.type == "FileOrCreate":
            os.close(os.open(self.path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))

    def _check(self) -> None:
        kind, matches = _HOST_PATH_TYPES[self.type]
        try:
            found = matches(os.stat(self.path).st_mode)
        except FileNotFoundError:
            found = False
        if not found:
            raise VolumeError(f"volume {self.volume}: hostPath type check failed: {self.path} is not {kind}")


def volume_operations(
    pod: Pod, paths: Paths, facts: HostFacts, found: FoundSources | None = None
) -> tuple[HostOperation, ...]:
    """What makes the pod's volumes, in order; undone backwards when the pod ends, and only then.

    `found` None: nothing was looked up (`minipod plan`), what it would say is shown as a placeholder. Raises
    VolumeError for a source that is not supported.
    """
    operations: list[HostOperation] = [MakePodFolder(pod_directory(pod, paths))]
    for index, volume in enumerate(pod.spec.volumes):
        source = _attribute_of(volume)
        path = volume_path(pod, volume, paths)
        if volume.host_path is not None:
            operations.append(CheckHostPath(volume.name, path, volume.host_path.type or ""))
        elif source in ("", "empty_dir"):
            operations += _empty_dir(pod, volume, index, paths, facts)
        elif source in _READ_ONLY and source != "image":
            operations += _configuration(pod, source, path, facts)
        elif volume.image is not None:
            image = found.images[volume.name] if found is not None else None
            layers = image.layers if image is not None else (f"<the layers of {volume.image.reference}>",)
            operations.append(MountImage(path, volume.image.reference, layers))
        elif volume.nfs is not None:
            operations.append(MountNfs(volume.name, volume.nfs.server, volume.nfs.path, path, volume.nfs.read_only))
        elif source in ("persistent_volume_claim", "ephemeral"):
            operations += _claimed(pod, volume, path, found, paths)
        else:
            raise VolumeError(f"spec.volumes[{index}].{_source_of(volume)}: this volume source is not supported")
    return tuple(operations)


def _configuration(pod: Pod, source: str, path: str, facts: HostFacts) -> list[HostOperation]:
    """The place for files that minipod writes; what is or may be secret never reaches a disk."""
    gid = fs_group(pod)
    if source not in _IN_MEMORY:
        return [MakeEmptyDir(path, gid)]
    size = tmpfs_size(None, None, facts.memory_bytes)
    return [MakeEmptyDir(path), MountTmpfs(path, size, kernel_at_least(facts, 6, 4), gid)]


def _claimed(pod: Pod, volume: Volume, path: str, found: FoundSources | None, paths: Paths) -> list[HostOperation]:
    """A PersistentVolume at its place. fsGroup is for those that minipod makes or manages, not for hostPath and nfs."""
    if found is None:
        return [BindFolder(volume.name, "<the volume of its claim>", path)]
    held = found.volumes[volume.name].spec
    claim = volume.persistent_volume_claim
    if held.nfs is not None:
        readonly = held.nfs.read_only or (claim is not None and claim.read_only)
        return [MountNfs(volume.name, held.nfs.server, held.nfs.path, path, readonly, held.mount_options)]
    if held.host_path is not None:
        source = held.host_path.path
        return [CheckHostPath(volume.name, source, held.host_path.type or ""), BindFolder(volume.name, source, path)]
    if held.local is None:
        name = found.volumes[volume.name].metadata.name
        raise VolumeError(f"persistentvolume {name}: only hostPath, local and nfs can be used on one host")
    operations: list[HostOperation] = []
    if held.local.path.startswith(f"{paths.state}/pv/"):
        operations.append(MakeProvisionedFolder(held.local.path))
    operations.append(BindFolder(volume.name, held.local.path, path))
    gid = fs_group(pod)
    if gid is not None and not (claim is not None and claim.read_only):
        context = pod.spec.security_context
        policy = context.fs_group_change_policy if context is not None else None
        operations.append(GiveToGroup(path, gid, policy == "OnRootMismatch"))
    return operations


@functools.cache
def _sources() -> tuple[tuple[str, str], ...]:
    """(attribute, name in a manifest) of every source; asking msgspec each time would cost milliseconds a pod."""
    return tuple((field.name, field.encode_name) for field in msgspec.structs.fields(Volume) if field.name != "name")


def _attribute_of(volume: Volume) -> str:
    """The name of the source that is set; empty without any (an emptyDir)."""
    return next((name for name, _ in _sources() if getattr(volume, name) is not None), "")


def _source_of(volume: Volume) -> str:
    """The name of the source as the manifest spells it; empty without any (an emptyDir)."""
    return next((wire for name, wire in _sources() if getattr(volume, name) is not None), "")


def _empty_dir(pod: Pod, volume: Volume, index: int, paths: Paths, facts: HostFacts) -> list[HostOperation]:
    source = volume.empty_dir or EmptyDirVolumeSource()
    path = empty_dir_path(pod, volume.name, paths)
    gid = fs_group(pod)
    if source.medium == "":
        return [MakeEmptyDir(path, gid)]
    if source.medium == "Memory":
        size = tmpfs_size(source.size_limit, pod_memory_limit(pod), facts.memory_bytes)
        return [MakeEmptyDir(path), MountTmpfs(path, size, kernel_at_least(facts, 6, 4), gid)]
    raise VolumeError(f"spec.volumes[{index}].emptyDir.medium: {source.medium} is not supported; use Memory or none")


def fs_group(pod: Pod) -> int | None:
    return pod.spec.security_context.fs_group if pod.spec.security_context is not None else None


def tmpfs_size(size_limit: str | None, pod_limit_bytes: int | None, node_bytes: int) -> int:
    """The smallest of the node's memory, the pod's limit and the volume's own, of those that are set."""
    wanted = quantity.value(size_limit) if size_limit else 0
    return min(size for size in (node_bytes, pod_limit_bytes or 0, wanted, 2**63 - 1) if size > 0)


def kernel_at_least(facts: HostFacts, major: int, minor: int) -> bool:
    """Whether the host's release (`6.18.44-x`) is that or newer; an unknown one is not."""
    numbers = facts.kernel.split("-")[0].split(".")[:2]
    if len(numbers) < 2 or not all(number.isascii() and number.isdigit() for number in numbers):
        return False
    return (int(numbers[0]), int(numbers[1])) >= (major, minor)


# ---- mounts


def mounts_for(
    pod: Pod, container: Container, paths: Paths, facts: HostFacts, env: Mapping[str, str]
) -> tuple[Mount, ...]:
    """The container's volumeMounts in order; `env` is its environment, for subPathExpr. Raises ContainerError."""
    volumes = {volume.name: volume for volume in pod.spec.volumes}
    mounts = []
    for index, wanted in enumerate(container.volume_mounts):
        place = f"volumeMounts[{index}]"
        volume = volumes.get(wanted.name)
        if volume is None:
            raise ContainerError(f'{place}.name: no volume "{wanted.name}" in spec.volumes', CONFIG_ERROR)
        source = volume_path(pod, volume, paths)
        mounts.append(
            Mount(
                container_path=wanted.mount_path if wanted.mount_path.startswith("/") else f"/{wanted.mount_path}",
                host_path=source,
                readonly=wanted.read_only or _is_read_only(volume),
                propagation=_PROPAGATION[wanted.mount_propagation or "None"],
                recursive_read_only=_recursive_read_only(wanted, facts, place),
                sub_path=_sub_path(wanted, env, place),
            )
        )
    return tuple(mounts)


def _is_read_only(volume: Volume) -> bool:
    if volume.persistent_volume_claim is not None and volume.persistent_volume_claim.read_only:
        return True
    return _attribute_of(volume) in _READ_ONLY


def _sub_path(wanted: VolumeMount, env: Mapping[str, str], place: str) -> str:
    path = expand_sub_path(wanted.sub_path_expr, env) if wanted.sub_path_expr else wanted.sub_path
    written = wanted.sub_path_expr or path  # what it expands to may be a secret's value
    if path.startswith("/"):
        raise ContainerError(f"{place}.subPath: {written}: must be a relative path", CONFIG_ERROR)
    if ".." in path.split("/"):
        raise ContainerError(f"{place}.subPath: {written}: must not contain '..'", CONFIG_ERROR)
    return path


def _recursive_read_only(wanted: VolumeMount, facts: HostFacts, place: str) -> bool:
    """IfPossible is what this kernel can do; Enabled is an error where it cannot (mount_setattr, Linux 5.12)."""
    mode = wanted.recursive_read_only or "Disabled"
    if mode == "Disabled" or not wanted.read_only:
        return False
    possible = kernel_at_least(facts, 5, 12)
    if mode == "Enabled" and not possible:
        raise ContainerError(
            f"{place}.recursiveReadOnly: this kernel ({facts.kernel}) lacks mount_setattr; it needs 5.12", CONFIG_ERROR
        )
    return possible
