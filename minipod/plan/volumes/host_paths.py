"""Paths of the host as volumes (layer 2): of the type that is wanted, when the pod begins and when they are mounted.

Rules: pkg/volume/hostpath/host_path.go.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

from minipod.errors import VolumeError
from minipod.plan.operation import HostOperation
from minipod.plan.refusals import fault_of

#: type -> (what a path of another kind is not, the test)
_TYPES: dict[str, tuple[str, Callable[[int], bool]]] = {
    "DirectoryOrCreate": ("a directory", stat.S_ISDIR),
    "Directory": ("a directory", stat.S_ISDIR),
    "FileOrCreate": ("a file", stat.S_ISREG),
    "File": ("a file", stat.S_ISREG),
    "Socket": ("a socket file", stat.S_ISSOCK),
    "CharDevice": ("a character device", stat.S_ISCHR),
    "BlockDevice": ("a block device", stat.S_ISBLK),
}


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
        return f"check that {self.path} is {_TYPES[self.type][0]} (hostPath {self.volume})"

    def execute(self) -> None:
        try:
            self._make()
            if self.type:
                self._check()
        except OSError as error:
            raise VolumeError(
                f'MountVolume.SetUp failed for volume "{self.volume}" : hostPath {self.path}: {error.strerror}'
            ) from error

    def _make(self) -> None:
        fault = fault_of(self.path)
        if fault and self.type:
            raise OSError(errno.EINVAL, fault)
        if fault or not os.path.isabs(self.path) or os.path.exists(self.path):
            return  # what is refused later (plan.refusals) is made nowhere
        if self.type in ("", "DirectoryOrCreate"):
            # without a type the kubelet checks nothing, and containerd makes a directory of what is missing
            os.makedirs(self.path, mode=0o755, exist_ok=True)
        elif self.type == "FileOrCreate":
            os.close(os.open(self.path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))

    def _check(self) -> None:
        kind, matches = _TYPES[self.type]
        try:
            found = matches(os.stat(self.path).st_mode)
        except FileNotFoundError:
            found = False
        if not found:
            raise VolumeError(
                f'MountVolume.SetUp failed for volume "{self.volume}" : '
                f"hostPath type check failed: {self.path} is not {kind}"
            )


def refuse_another_type(source_fd: int, path: str, wanted: str) -> None:
    """Checks the type of what is about to be mounted: it may have been replaced by a link. Raises OSError."""
    if wanted and not _TYPES[wanted][1](os.fstat(source_fd).st_mode):
        raise OSError(errno.EINVAL, f"hostPath type check failed: is not {_TYPES[wanted][0]}", path)
