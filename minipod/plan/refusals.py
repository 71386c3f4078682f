"""What an API server accepts and the runtime below the kubelet then refuses (layer 2), in its states and reasons. Pure.

containerd (internal/cri/opts) refuses when a container is created, runc (libcontainer/configs/validate, its init) when
it is started; without this the kernel's message would result, or none where this runtime happens to support it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from minipod.errors import ContainerError
from minipod.plan.configs import ContainerConfig

PATH_MAX = 4095  # bytes (limits.h, without the NUL)
_NUL_WORDS = "invalid argument: a NUL byte ends a string of the kernel's: take it out"


def fault_of(path: str) -> str:
    """Why the kernel rejects such a path; empty where it accepts it."""
    if "\0" in path:
        return _NUL_WORDS
    if len(os.fsencode(path)) > PATH_MAX:
        return f"file name too long: a path has at most {PATH_MAX} bytes"
    return ""


def refuse_creation(config: ContainerConfig) -> None:
    """Raises ContainerError (CreateContainerError; CreateContainerConfigError for what the kubelet itself does)."""
    for mount in config.mounts:
        if "\0" in mount.below:
            message = f'failed to prepare subPath for volumeMount "{mount.volume}": {mount.below!r}: {_NUL_WORDS}'
            raise ContainerError(message, "CreateContainerConfigError")
        if fault := fault_of(mount.host_path):
            message = f'volume "{mount.volume}": failed to stat {_shortened(mount.host_path)}: {fault}'
            raise ContainerError(message, "CreateContainerError")


def refuse_start(config: ContainerConfig, cwd: str, argv: Sequence[str]) -> None:
    """Raises ContainerError (RunContainerError). `cwd`, `argv`: what the container's and the image's resolve to."""
    for mount in config.mounts:
        if not mount.host_path.startswith("/"):
            raise ContainerError(
                f'volume "{mount.volume}": hostPath {mount.host_path!r} is not absolute, and the runtime would look '
                "for it in a directory of its own: write it with a leading /"
            )
    if not cwd.startswith("/"):
        raise ContainerError(f"workingDir {cwd!r}: Cwd must be an absolute path: write it with a leading /")
    places = [("mountPath", mount.container_path) for mount in config.mounts]
    places += [("terminationMessagePath", config.termination_message_path), ("workingDir", cwd)]
    for field, path in places:
        if fault := fault_of(path):
            raise ContainerError(f"{field} {_shortened(path)}: {fault}")
    refuse_command(argv)


def refuse_command(argv: Sequence[str]) -> None:
    """Of a container, or in one: cut at the byte it would be another command. Raises ContainerError."""
    for index, word in enumerate(argv):
        if "\0" in word:
            raise ContainerError(f"exec {argv[0]!r}: argument {index}, {_shortened(word)}: {_NUL_WORDS}")


def _shortened(word: str) -> str:
    return repr(word if len(word) <= 40 else word[:40] + "…")
