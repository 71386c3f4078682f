"""A pod's volumes (layer 2): every source as host operations, and the mounts that containers get of them.

What is in the files of a configMap, secret, downwardAPI or projected volume is no part of an operation (a plan is
printed and saved): `plan.volumes.configuration` computes it, `runtime.atomic` writes it. Rules:
pkg/volume/emptydir/empty_dir.go, pkg/volume/hostpath/host_path.go, pkg/volume/volume_linux.go (fsGroup),
pkg/kubelet/kubelet_pods.go makeMounts. A pod's volumes outlive its sandbox; they end with the pod.
"""

from __future__ import annotations

import functools
import os
import posixpath
from collections.abc import Mapping

import msgspec

from minipod.api import quantity
from minipod.api.types import (
    Container,
    EmptyDirVolumeSource,
    EphemeralContainer,
    PersistentVolume,
    Pod,
    Volume,
    VolumeMount,
)
from minipod.errors import ContainerError, VolumeError
from minipod.kernel.remove import remove_tree
from minipod.paths import Paths
from minipod.plan.configs import Device, HostFacts, Mount
from minipod.plan.env import CONFIG_ERROR, expand_sub_path
from minipod.plan.operation import HostOperation
from minipod.plan.resources import pod_memory_limit
from minipod.plan.volumes.empty_dirs import (
    HUGE_PAGES,
    MakeEmptyDir,
    MountHugePages,
    MountTmpfs,
    huge_page_size,
    tmpfs_size,
)
from minipod.plan.volumes.host_paths import CheckHostPath
from minipod.plan.volumes.mounted import (
    BindFolder,
    GiveToGroup,
    LinkDevice,
    MakeProvisionedFolder,
    MountImage,
)
from minipod.plan.volumes.nfs import MountNfs
from minipod.plan.volumes.quota import LimitFolder

_PROPAGATION = {"None": "private", "HostToContainer": "host-to-container", "Bidirectional": "bidirectional"}

# ---- places


def pod_directory(pod: Pod, paths: Paths) -> str:
    """The pod's directory on disk: volumes, and its containers' layers and termination logs."""
    return f"{paths.state}/pods/{pod.metadata.uid}"


def empty_dir_path(pod: Pod, name: str, paths: Paths) -> str:
    return f"{pod_directory(pod, paths)}/volumes/kubernetes.io~empty-dir/{name}"


#: volume source -> the directory of its kind below the pod's volumes, as the kubelet names it
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
#: read-only whatever a mount has (GetAttributes().ReadOnly)
_READ_ONLY = ("config_map", "secret", "downward_api", "projected", "image")
_IN_MEMORY = ("secret", "downward_api", "projected")


def volume_path(pod: Pod, volume: Volume, paths: Paths) -> str:
    """Where the volume is on the host."""
    if volume.host_path is not None:
        return volume.host_path.path
    plugin = _PLUGINS.get(_attribute_of(volume), "empty-dir")
    return f"{pod_directory(pod, paths)}/volumes/kubernetes.io~{plugin}/{volume.name}"


def device_path(pod: Pod, name: str, paths: Paths) -> str:
    """Where the device of a volume of mode Block is linked to, as the kubelet names it."""
    return f"{pod_directory(pod, paths)}/volumeDevices/kubernetes.io~local-volume/{name}"


def used_volumes(pod: Pod) -> tuple[Volume, ...]:
    """Those that some container mounts or gets as a device; a kubelet ignores the others (GetPodVolumeNames)."""
    names = _mounted(pod) | _given_as_devices(pod)
    return tuple(volume for volume in pod.spec.volumes if volume.name in names)


def _all_containers(pod: Pod) -> list[Container | EphemeralContainer]:
    return [*pod.spec.init_containers, *pod.spec.containers, *pod.spec.ephemeral_containers]


def _mounted(pod: Pod) -> set[str]:
    return {mount.name for container in _all_containers(pod) for mount in container.volume_mounts}


def _given_as_devices(pod: Pod) -> set[str]:
    return {device.name for container in _all_containers(pod) for device in container.volume_devices}


class FoundSources(msgspec.Struct, frozen=True):
    """What was looked up for a pod's volumes, by the volume's name."""

    volumes: dict[str, PersistentVolume] = {}


# ---- operations


class MakePodFolder(HostOperation, frozen=True):
    """The pod's own directory; `undo` removes it with everything below, and stops at anything still mounted there."""

    path: str

    def describe(self) -> str:
        return f"mkdir {self.path}"

    def execute(self) -> None:
        os.makedirs(self.path, mode=0o750, exist_ok=True)

    def undo(self) -> None:
        if os.path.basename(self.path):  # a pod without a uid would name the directory of all pods
            remove_tree(self.path)


def volume_operations(
    pod: Pod, paths: Paths, facts: HostFacts, found: FoundSources | None = None
) -> tuple[HostOperation, ...]:
    """What makes the pod's volumes, in order; undone in reverse when the pod ends, and only then.

    `found` None: nothing was looked up (`minipod plan`), a placeholder stands for what it would be. Raises
    VolumeError for a source that is not supported.
    """
    operations: list[HostOperation] = [MakePodFolder(pod_directory(pod, paths))]
    used = used_volumes(pod)
    for index, volume in enumerate(pod.spec.volumes):
        if volume not in used:
            continue
        source = _attribute_of(volume)
        path = volume_path(pod, volume, paths)
        if volume.host_path is not None:
            operations.append(CheckHostPath(volume.name, path, volume.host_path.type or ""))
        elif source in ("", "empty_dir"):
            operations += _empty_dir(pod, volume, index, paths, facts)
        elif source in _READ_ONLY and source != "image":
            operations += _configuration(pod, source, path, facts)
        elif volume.image is not None:
            if found is None:  # mounted when the first container that wants it starts, as the kubelet pulls it then
                layers = (f"<the layers of {volume.image.reference}>",)
                operations.append(MountImage(path, volume.image.reference, layers))
        elif volume.nfs is not None:
            operations.append(MountNfs(volume.name, volume.nfs.server, volume.nfs.path, path, volume.nfs.read_only))
        elif source in ("persistent_volume_claim", "ephemeral"):
            operations += _claimed(pod, volume, path, found, paths)
        else:
            raise VolumeError(f"spec.volumes[{index}].{_source_of(volume)}: this volume source is not supported")
    return tuple(operations)


def host_paths(pod: Pod, container: Container | EphemeralContainer) -> tuple[CheckHostPath, ...]:
    """The host's paths that the container is about to get: they may have been removed since the volumes were made."""
    mounted = {mount.name for mount in container.volume_mounts}
    return tuple(
        CheckHostPath(volume.name, volume.host_path.path, volume.host_path.type or "")
        for volume in pod.spec.volumes
        if volume.host_path is not None and volume.name in mounted
    )


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
        if volume.name in _given_as_devices(pod):
            return [LinkDevice(volume.name, "<the device of its claim>", device_path(pod, volume.name, paths))]
        return [BindFolder(volume.name, "<the volume of its claim>", path)]
    _check_mode(pod, volume, found.volumes[volume.name])
    name, held = found.volumes[volume.name].metadata.name, found.volumes[volume.name].spec
    source = held.local or held.host_path
    if source is not None and not source.path.startswith("/"):
        raise VolumeError(f"persistentvolume {name}: path {source.path!r} is not absolute: write it with a leading /")
    if held.volume_mode == "Block":
        if source is None:
            raise VolumeError(f"persistentvolume {name}: of volumeMode Block only local and hostPath can be used")
        return [LinkDevice(volume.name, source.path, device_path(pod, volume.name, paths))]
    claim = volume.persistent_volume_claim
    if held.nfs is not None:
        readonly = held.nfs.read_only or (claim is not None and claim.read_only)
        return [MountNfs(volume.name, held.nfs.server, held.nfs.path, path, readonly, held.mount_options)]
    if held.host_path is not None:
        place = held.host_path.path
        return [CheckHostPath(volume.name, place, held.host_path.type or ""), BindFolder(volume.name, place, path)]
    if held.local is None:
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


def _check_mode(pod: Pod, volume: Volume, held: PersistentVolume) -> None:
    """desired_state_of_world_populator.go createVolumeSpec. Raises VolumeError."""
    mode = held.spec.volume_mode or "Filesystem"
    wrong = ("volumeMounts", _mounted(pod)) if mode == "Block" else ("volumeDevices", _given_as_devices(pod))
    if volume.name in wrong[1]:
        raise VolumeError(f"volume {volume.name} has volumeMode {mode}, but is specified in {wrong[0]}")


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
        limit = quantity.value(source.size_limit) if source.size_limit else 0
        return [MakeEmptyDir(path, gid), *([LimitFolder(path, limit)] if limit > 0 else [])]
    if source.medium == "Memory":
        size = tmpfs_size(source.size_limit, pod_memory_limit(pod), facts.memory_bytes)
        return [MakeEmptyDir(path), MountTmpfs(path, size, kernel_at_least(facts, 6, 4), gid)]
    if source.medium == HUGE_PAGES or source.medium.startswith(f"{HUGE_PAGES}-"):
        page = huge_page_size(pod, source.medium)
        return [MakeEmptyDir(path), MountHugePages(path, page, gid)]
    raise VolumeError(f'spec.volumes[{index}].emptyDir.medium: unknown storage medium "{source.medium}"')


def fs_group(pod: Pod) -> int | None:
    return pod.spec.security_context.fs_group if pod.spec.security_context is not None else None


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
        path = _sub_path(wanted, env, place)
        mounts.append(
            Mount(
                volume=volume.name,
                container_path=posixpath.normpath("/" + wanted.mount_path.lstrip("/")),
                host_path=volume_path(pod, volume, paths),
                host_path_type=(volume.host_path.type or "") if volume.host_path is not None else "",
                readonly=wanted.read_only or _is_read_only(volume),
                propagation=_PROPAGATION[wanted.mount_propagation or "None"],
                recursive_read_only=_recursive_read_only(wanted, facts, place),
                sub_path=path if volume.image is None else "",
                image_sub_path=path if volume.image is not None else "",
            )
        )
    return tuple(mounts)


def devices_for(pod: Pod, container: Container, paths: Paths) -> tuple[Device, ...]:
    """The container's volumeDevices (makeBlockVolumes). Raises ContainerError."""
    volumes = {volume.name: volume for volume in pod.spec.volumes}
    devices = []
    for index, wanted in enumerate(container.volume_devices):
        volume = volumes.get(wanted.name)
        if volume is None:
            raise ContainerError(
                f'volumeDevices[{index}].name: no volume "{wanted.name}" in spec.volumes', CONFIG_ERROR
            )
        claim = volume.persistent_volume_claim
        devices.append(
            Device(
                container_path=posixpath.normpath("/" + wanted.device_path.lstrip("/")),
                host_path=device_path(pod, wanted.name, paths),
                permissions="r" if claim is not None and claim.read_only else "rwm",
            )
        )
    return tuple(devices)


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
