"""Rules for what a container sees of the pod's volumes: volumeMounts and volumeDevices (layer 1, pure)."""

from __future__ import annotations

from collections.abc import Mapping

from minipod.api.types import Volume, VolumeMount
from minipod.api.validation.check import Check, Path
from minipod.api.validation.formats import descending_path, no_backsteps
from minipod.api.validation.visit import AnyContainer

PROPAGATIONS = ("Bidirectional", "HostToContainer", "None")
RECURSIVE_READ_ONLY = ("Disabled", "Enabled", "IfPossible")


def volume_mounts(check: Check, container: AnyContainer, volumes: Mapping[str, Volume], path: Path) -> None:
    """The server names the list, not the entry, where subPath, mountPropagation or recursiveReadOnly is wrong."""
    devices = {device.name: device.device_path for device in container.volume_devices}
    context = container.security_context
    privileged = context is not None and context.privileged is True
    taken: set[str] = set()
    for index, mount in enumerate(container.volume_mounts):
        at = (path, index)
        check.required(mount.name, at, "name")
        if mount.name not in volumes:
            check.not_found(at, "name", value=mount.name, why=_one_of(volumes))
        check.required(mount.mount_path, at, "mountPath")
        if mount.mount_path in taken:
            check.invalid(at, "mountPath", value=mount.mount_path, why="must be unique in the container")
        taken.add(mount.mount_path)
        if mount.name in devices:
            check.invalid(at, "name", value=mount.name, why="is in volumeDevices too")
        if mount.mount_path in devices.values():
            check.invalid(at, "mountPath", value=mount.mount_path, why="is a path in volumeDevices too")
        if mount.sub_path:
            check.format(mount.sub_path, descending_path, path, "subPath")
        if mount.sub_path_expr:
            if mount.sub_path:
                why = "cannot be given together with subPath"
                check.invalid(at, "subPathExpr", value=mount.sub_path_expr, why=why)
            check.format(mount.sub_path_expr, descending_path, path, "subPathExpr")
        if mount.mount_propagation is not None:
            propagation(check, mount.mount_propagation, privileged, (path, "mountPropagation"))
        if mount.recursive_read_only is not None:
            recursive_read_only(check, mount, (path, "recursiveReadOnly"))


def _one_of(volumes: Mapping[str, Volume]) -> str:
    if not volumes:
        return "the pod has no volume without faults"
    return f"must be a volume of the pod: {', '.join(volumes)}"


def propagation(check: Check, value: str, privileged: bool, path: Path) -> None:
    check.one_of(value, PROPAGATIONS, path)
    if value == "Bidirectional" and not privileged:
        check.forbidden(path, why="Bidirectional needs a privileged container")


def recursive_read_only(check: Check, mount: VolumeMount, path: Path) -> None:
    value = mount.recursive_read_only
    if not check.one_of(value, RECURSIVE_READ_ONLY, path) or value == "Disabled":
        return
    if not mount.read_only:
        check.forbidden(path, why=f"{value} needs readOnly: true")
    if mount.mount_propagation not in (None, "None"):
        check.forbidden(path, why=f"{value} cannot be combined with mountPropagation")


def volume_devices(check: Check, container: AnyContainer, volumes: Mapping[str, Volume], path: Path) -> None:
    mounts = {mount.name: mount.mount_path for mount in container.volume_mounts}
    names: set[str] = set()
    paths: set[str] = set()
    for index, device in enumerate(container.volume_devices):
        at = (path, index)
        name, device_path = device.name, device.device_path
        check.required(name, at, "name")
        if name in names:
            check.invalid(at, "name", value=name, why="must be unique in the container")
        if name not in volumes:
            check.not_found(at, "name", value=name, why=_one_of(volumes))
        elif volumes[name].persistent_volume_claim is None and volumes[name].ephemeral is None:
            why = "must be a volume of type persistentVolumeClaim or ephemeral"
            check.invalid(at, "name", value=name, why=why)
        check.required(device_path, at, "devicePath")
        if device_path in paths:
            check.invalid(at, "devicePath", value=device_path, why="must be unique in the container")
        if check.format(device_path, no_backsteps, at, "devicePath"):
            paths.add(device_path)
        if name in mounts:
            check.invalid(at, "name", value=name, why="is in volumeMounts too")
        if device_path in mounts.values():
            check.invalid(at, "devicePath", value=device_path, why="is a path in volumeMounts too")
        if name:
            names.add(name)
