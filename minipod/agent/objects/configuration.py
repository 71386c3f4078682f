"""Variables and files of ConfigMaps and Secrets for pods (layer 5): from the store to containers and volumes.

What the files say is `plan.volumes.configuration`'s, how they are written `runtime.atomic`'s; when they are written
anew is `refresh`'s. No error shows what an object holds.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Mapping

from minipod.agent.registry.registry import Registry
from minipod.api.types import ConfigMap, Pod, Secret
from minipod.errors import ContainerError, VolumeError
from minipod.kernel.path import open_in_root
from minipod.kernel.regular import reopened_regular
from minipod.paths import Paths
from minipod.plan.configs import HostFacts
from minipod.plan.env import CONFIG_ERROR, env_file_place, parse_env_file
from minipod.plan.volumes.configuration import Payload, is_configuration, payload
from minipod.plan.volumes.sources import fs_group, used_volumes, volume_path
from minipod.runtime import atomic
from minipod.runtime.offload import off_loop

MAX_ENV_FILE_BYTES = 64 << 10  # KEP-3721


class PodSources:
    """`plan.env.Sources` and `plan.volumes.configuration.FileSources` of one pod."""

    def __init__(self, objects: Registry, paths: Paths, pod: Pod) -> None:
        self._objects = objects
        self._paths = paths
        self._pod = pod
        self._namespace = pod.metadata.namespace

    def config_map(self, name: str) -> Mapping[str, str] | None:
        found = self._objects.find(ConfigMap, self._namespace, name)
        return None if found is None else found.data

    def secret(self, name: str) -> Mapping[str, str] | None:
        found = self._objects.find(Secret, self._namespace, name)
        return None if found is None else _Texts(name, found.data)

    def config_map_files(self, name: str) -> Mapping[str, bytes] | None:
        found = self._objects.find(ConfigMap, self._namespace, name)
        if found is None:
            return None
        return {**{key: text.encode() for key, text in found.data.items()}, **found.binary_data}

    def secret_files(self, name: str) -> Mapping[str, bytes] | None:
        found = self._objects.find(Secret, self._namespace, name)
        return None if found is None else found.data

    def env_file(self, volume: str, path: str) -> Mapping[str, str] | None:
        """Reads inside the volume: links that a container made cannot lead outside."""
        found = next((found for found in self._pod.spec.volumes if found.name == volume), None)
        if found is None:
            raise ContainerError(f'cannot find the volume "{volume}" referenced by fileKeyRef', CONFIG_ERROR)
        try:
            text = _read_inside(volume_path(self._pod, found, self._paths), path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
            raise ContainerError(f"file {env_file_place(volume, path)}: {why}", CONFIG_ERROR) from None
        return parse_env_file(text, env_file_place(volume, path))


class _Texts(dict[str, str]):
    """A Secret's values as variables: those that are no text are an error only where they are asked for."""

    def __init__(self, name: str, data: Mapping[str, bytes]) -> None:
        super().__init__((key, "") for key in data)
        self._name = name
        self._data = data

    def __getitem__(self, key: str) -> str:
        try:
            return self._data[key].decode()
        except UnicodeDecodeError:
            why = "is not UTF-8 text, so it cannot be a variable: mount the secret as a volume"
            raise ContainerError(f'secret "{self._name}": key {key} {why}', CONFIG_ERROR) from None

    def items(self) -> list[tuple[str, str]]:  # type: ignore[override] # read only where a mapping is
        return [(key, self[key]) for key in self]


def _read_inside(root: str, path: str) -> str:
    root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        seen_fd = open_in_root(root_fd, path)
    finally:
        os.close(root_fd)
    try:
        fd = reopened_regular(seen_fd, os.O_RDONLY, path)  # a container may have made a device node of it
    finally:
        os.close(seen_fd)
    with os.fdopen(fd, "rb") as file:
        data = file.read(MAX_ENV_FILE_BYTES + 1)
    if len(data) > MAX_ENV_FILE_BYTES:
        raise OSError(errno.EFBIG, f"is larger than {MAX_ENV_FILE_BYTES >> 10} KiB")
    return data.decode()


class Configuration:
    """Writes the files of all pods; those of one pod one after the other."""

    def __init__(self, objects: Registry, paths: Paths, facts: HostFacts) -> None:
        self._objects = objects
        self._paths = paths
        self._facts = facts
        self._locks: dict[str, asyncio.Lock] = {}

    def sources(self, pod: Pod) -> PodSources:
        return PodSources(self._objects, self._paths, pod)

    async def write(self, pod: Pod) -> bool:
        """Writes all files of all volumes from the current objects. Returns whether any changed. Raises VolumeError.

        A volume that cannot be written keeps what it had; the others are written all the same.
        """
        if not any(is_configuration(volume) for volume in used_volumes(pod)):
            return False
        async with self._locks.setdefault(pod.metadata.uid, asyncio.Lock()):
            wanted, failure = self._wanted(pod)
            changed, failed = await off_loop(_write_all, wanted, fs_group(pod))
        if (error := failure or failed) is not None:
            raise error
        return changed

    def _wanted(self, pod: Pod) -> tuple[list[tuple[str, str, Payload]], VolumeError | None]:
        """(volume, place, files) of every volume whose objects are there; and the first that lacks one."""
        found: list[tuple[str, str, Payload]] = []
        failure: VolumeError | None = None
        sources = self.sources(pod)
        for volume in used_volumes(pod):
            if not is_configuration(volume):
                continue
            try:
                files = payload(pod, volume, sources, self._facts)
            except VolumeError as error:
                failure = failure or error
                continue
            found.append((volume.name, volume_path(pod, volume, self._paths), files))
        return found, failure

    def forget(self, uid: str) -> None:
        self._locks.pop(uid, None)


def _write_all(wanted: list[tuple[str, str, Payload]], gid: int | None) -> tuple[bool, VolumeError | None]:
    """Whether any file changed, and the first error."""
    changed, failure = False, None
    for name, path, files in wanted:
        try:
            changed |= atomic.write(path, files, gid)
        except VolumeError as error:
            failure = failure or error
        except OSError as error:
            failure = failure or _failed(name, error)
    return changed, failure


def _failed(volume: str, error: OSError) -> VolumeError:
    return VolumeError(f'MountVolume.SetUp failed for volume "{volume}" : {error.strerror or error}')
