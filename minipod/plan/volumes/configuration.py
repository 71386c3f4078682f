"""The contents of configMap, secret, downwardAPI and projected volumes (layer 2, pure). Writes nothing.

Rules: pkg/volume/{configmap,secret,downwardapi,projected}, pkg/volume/util/atomic_writer.go (validatePath). The
objects come from an implementation of `FileSources`; `runtime.atomic` writes what comes out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from minipod.api.types import (
    ConfigMapProjection,
    Container,
    DownwardAPIVolumeFile,
    EphemeralContainer,
    KeyToPath,
    Pod,
    SecretProjection,
    Volume,
    VolumeProjection,
)
from minipod.errors import ContainerError, VolumeError
from minipod.plan.configs import HostFacts
from minipod.plan.env import field_value, pod_facts, resource_value

DEFAULT_MODE = 0o644
MAX_NAME_BYTES = 255
MAX_PATH_BYTES = 4096


class FileSources(Protocol):
    """The contents of objects of the pod's namespace; None where there is no such object."""

    def config_map_files(self, name: str) -> Mapping[str, bytes] | None: ...

    def secret_files(self, name: str) -> Mapping[str, bytes] | None: ...


class File(msgspec.Struct, frozen=True):
    """One file of a volume. Its repr never shows the contents: they may be a secret."""

    data: bytes
    mode: int

    def __repr__(self) -> str:
        return f"File({len(self.data)} bytes, {self.mode:04o})"

    __str__ = __repr__


Payload = dict[str, File]
"""{path below the volume, without . and ..: file}"""


def is_configuration(volume: Volume) -> bool:
    """Whether its files are written by minipod, and written again when their source changes."""
    sources = (volume.config_map, volume.secret, volume.downward_api, volume.projected)
    return any(source is not None for source in sources)


def payload(pod: Pod, volume: Volume, sources: FileSources, facts: HostFacts) -> Payload:
    """All files of the volume. Raises VolumeError naming the object or key that is missing."""
    try:
        found = _collected(pod, volume, sources, facts)
    except (VolumeError, ContainerError) as error:
        raise VolumeError(f'MountVolume.SetUp failed for volume "{volume.name}" : {error}') from None
    for path in found:
        _check_path(path, volume.name)
        parts = path.split("/")
        for length in range(1, len(parts)):
            if (above := "/".join(parts[:length])) in found:
                raise VolumeError(f"volume {volume.name}: path {path[:80]}: {above[:80]} is a file of the volume too")
    return found


def _collected(pod: Pod, volume: Volume, sources: FileSources, facts: HostFacts) -> Payload:
    if volume.config_map is not None:
        source = volume.config_map
        config_map = ConfigMapProjection(name=source.name, items=source.items, optional=source.optional)
        return _from_config_map(config_map, sources, _mode(source.default_mode))
    if volume.secret is not None:
        secret = volume.secret
        projected = SecretProjection(name=secret.secret_name, items=secret.items, optional=secret.optional)
        return _from_secret(projected, sources, _mode(secret.default_mode))
    if volume.downward_api is not None:
        return _from_pod(volume.downward_api.items, pod, facts, _mode(volume.downward_api.default_mode))
    assert volume.projected is not None
    result: Payload = {}
    for projection in volume.projected.sources or ():  # a later source wins
        result |= _projected(projection, pod, sources, facts, _mode(volume.projected.default_mode))
    return result


def _mode(mode: int | None) -> int:
    return DEFAULT_MODE if mode is None else mode


def _projected(projection: VolumeProjection, pod: Pod, sources: FileSources, facts: HostFacts, mode: int) -> Payload:
    if projection.config_map is not None:
        return _from_config_map(projection.config_map, sources, mode)
    if projection.secret is not None:
        return _from_secret(projection.secret, sources, mode)
    if projection.downward_api is not None:
        return _from_pod(projection.downward_api.items, pod, facts, mode)
    return {}


def _from_config_map(wanted: ConfigMapProjection, sources: FileSources, mode: int) -> Payload:
    data = sources.config_map_files(wanted.name)
    if data is None:
        if not wanted.optional:
            raise VolumeError(f'configmap "{wanted.name}" not found')
        data = {}
    missing = "configmap references non-existent config key"
    return _picked(data, wanted.items, mode, bool(wanted.optional), missing)


def _from_secret(wanted: SecretProjection, sources: FileSources, mode: int) -> Payload:
    data = sources.secret_files(wanted.name)
    if data is None:
        if not wanted.optional:
            raise VolumeError(f'secret "{wanted.name}" not found')
        data = {}
    return _picked(data, wanted.items, mode, bool(wanted.optional), "references non-existent secret key")


def _picked(data: Mapping[str, bytes], items: Sequence[KeyToPath], mode: int, optional: bool, missing: str) -> Payload:
    """All keys, or those that `items` name, under the names that they give."""
    if not items:
        return {key: File(value, mode) for key, value in data.items()}
    result: Payload = {}
    for item in items:
        if item.key in data:
            result[_clean(item.path)] = File(data[item.key], mode if item.mode is None else item.mode)
        elif not optional:
            raise VolumeError(f"{missing}: {item.key}")
    return result


def _from_pod(items: Sequence[DownwardAPIVolumeFile], pod: Pod, facts: HostFacts, mode: int) -> Payload:
    result: Payload = {}
    known = pod_facts(facts, ())
    for item in items:
        text = ""
        if item.field_ref is not None:
            text = field_value(item.field_ref, pod, known)
        elif item.resource_field_ref is not None:
            text = resource_value(item.resource_field_ref, pod, pod.spec.containers[0], known)
        result[_clean(item.path)] = File(text.encode(), mode if item.mode is None else item.mode)
    return result


def _clean(path: str) -> str:
    """Without empty elements and dots; `..` and a leading slash stay, to be refused."""
    start = "/" if path.startswith("/") else ""
    return start + "/".join(part for part in path.split("/") if part not in ("", "."))


def _check_path(path: str, volume: str) -> None:
    """atomic_writer.go validatePath; raises VolumeError."""
    parts = path.split("/")
    why = ""
    if not path:
        why = "must not be empty"
    elif path.startswith("/"):
        why = "must be a relative path"
    elif len(path.encode()) > MAX_PATH_BYTES:
        why = f"must be at most {MAX_PATH_BYTES} bytes"
    elif ".." in parts or parts[0].startswith(".."):
        why = "must neither contain nor start with '..'"
    elif any(len(part.encode()) > MAX_NAME_BYTES for part in parts):
        why = f"a file name must be at most {MAX_NAME_BYTES} bytes"
    elif "\0" in path:
        why = "must not contain a NUL byte"
    if why:
        raise VolumeError(f"volume {volume}: path {path[:80]}: {why}")


def objects_of(pod: Pod) -> set[tuple[str, str]]:
    """(kind, name) of every ConfigMap and Secret that the pod's volumes show or its variables are taken from."""
    found: set[tuple[str, str]] = set()
    for volume in pod.spec.volumes:
        if volume.config_map is not None:
            found.add(("ConfigMap", volume.config_map.name))
        if volume.secret is not None:
            found.add(("Secret", volume.secret.secret_name))
        for projection in (volume.projected.sources or ()) if volume.projected is not None else ():
            if projection.config_map is not None:
                found.add(("ConfigMap", projection.config_map.name))
            if projection.secret is not None:
                found.add(("Secret", projection.secret.name))
    containers: list[Container | EphemeralContainer] = [*pod.spec.init_containers, *pod.spec.containers]
    for container in [*containers, *pod.spec.ephemeral_containers]:
        for source in container.env_from:
            if source.config_map_ref is not None:
                found.add(("ConfigMap", source.config_map_ref.name))
            if source.secret_ref is not None:
                found.add(("Secret", source.secret_ref.name))
        for variable in container.env:
            taken = variable.value_from
            if taken is not None and taken.config_map_key_ref is not None:
                found.add(("ConfigMap", taken.config_map_key_ref.name))
            if taken is not None and taken.secret_key_ref is not None:
                found.add(("Secret", taken.secret_key_ref.name))
    return found
