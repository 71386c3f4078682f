"""A volume's subPath (layer 2): found and made below the volume, never outside, whatever a container put there.

Rules: pkg/kubelet/kubelet_pods.go makeMounts, pkg/volume/util/subpath/subpath_linux.go. Made when the container is
created, so that errors are reported as the kubelet reports them; looked up again, by one openat2, when it is mounted.
"""

from __future__ import annotations

import errno
import os
import stat

from minipod.errors import ContainerError
from minipod.kernel.path import RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, openat2
from minipod.plan.operation import HostOperation

_BELOW = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS


def open_source(source: str, sub_path: str = "") -> int:
    """A descriptor (O_PATH) of what is to be mounted. A link that leads out of the volume is OSError EXDEV."""
    fd = os.open(source, os.O_PATH | os.O_CLOEXEC)
    if not sub_path:
        return fd
    try:
        return openat2(fd, sub_path, os.O_PATH, 0, _BELOW)
    finally:
        os.close(fd)


class MakeSubPath(HostOperation, frozen=True, kw_only=True):
    """The sub path is there and inside the volume; what is missing is made as directories with the volume's own mode.

    So all users that may write to the volume may write to it. It belongs to the volume: undoing keeps it.
    `image`: of an image's files, where nothing can be made. Raises ContainerError.
    """

    volume: str
    container: str
    source: str
    sub_path: str
    image: bool = False

    def describe(self) -> str:
        return f"{'find' if self.image else 'mkdir -p'} {self.sub_path} in {self.source}, along no link that leads out"

    def execute(self) -> None:
        whose = f'for volumeMount "{self.volume}" of container "{self.container}"'
        try:
            os.close(open_source(self.source, self.sub_path))
            return
        except OSError as error:
            if self.image or not isinstance(error, FileNotFoundError):
                reason = "CreateContainerError" if self.image else "CreateContainerConfigError"
                raise ContainerError(f"failed to prepare subPath {whose}: {_why(error)}", reason) from error
        try:
            self._make()
        except OSError as error:
            message = f"failed to create subPath directory {whose}: {_why(error)}"
            raise ContainerError(message, "CreateContainerConfigError") from error

    def _make(self) -> None:
        """Directory by directory, each looked up from the volume's descriptor."""
        volume_fd = os.open(self.source, os.O_PATH | os.O_CLOEXEC)
        try:
            mode = stat.S_IMODE(os.fstat(volume_fd).st_mode)
            parent = "."
            for name in [part for part in self.sub_path.split("/") if part not in ("", ".")]:
                path = f"{parent}/{name}"
                try:
                    fd = openat2(volume_fd, path, os.O_PATH, 0, _BELOW)
                except FileNotFoundError:
                    fd = _make_folder(volume_fd, parent, name, mode)
                os.close(fd)
                parent = path
        finally:
            os.close(volume_fd)


def _make_folder(volume_fd: int, parent: str, name: str, mode: int) -> int:
    parent_fd = openat2(volume_fd, parent, os.O_PATH, 0, _BELOW)
    try:
        os.mkdir(name, 0o700, dir_fd=parent_fd)  # a dangling link of this name is EEXIST
        fd = openat2(parent_fd, name, os.O_PATH | os.O_NOFOLLOW, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
    finally:
        os.close(parent_fd)
    os.chmod(f"/proc/self/fd/{fd}", mode)  # mkdir obeys the umask
    return fd


def _why(error: OSError) -> str:
    """Nothing of the host, only the error."""
    if error.errno in (errno.EXDEV, errno.ELOOP):
        return "it leads out of the volume"
    if error.errno == errno.EEXIST:
        return "a link there leads nowhere"
    return os.strerror(error.errno or 0).lower()
