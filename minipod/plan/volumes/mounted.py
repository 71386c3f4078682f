"""Volumes that come from elsewhere (layer 2): directories of PersistentVolumes, images; as host operations.

Each gets a place in the pod's directory, where it is mounted for as long as the pod is there. Undoing takes the mount
away, never what is mounted. Rules: pkg/volume/{local,image}, pkg/volume/volume_linux.go (fsGroup).
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from minipod.errors import VolumeError
from minipod.kernel import mount as kmount
from minipod.kernel.ownership import give_to_group
from minipod.plan.operation import HostOperation

_FS_GROUP_FILE = 0o660
_FS_GROUP_FOLDER = 0o660 | 0o110 | stat.S_ISGID


class MakeProvisionedFolder(HostOperation, frozen=True):
    """The directory of a PersistentVolume that minipod made. It belongs to the volume, so undoing keeps it."""

    path: str

    def describe(self) -> str:
        return f"mkdir -p {self.path} mode 0777"

    def execute(self) -> None:
        if os.path.isdir(self.path):
            return
        os.makedirs(os.path.dirname(self.path), mode=0o711, exist_ok=True)
        os.mkdir(self.path, 0o777)
        os.chmod(self.path, 0o777)


class BindFolder(HostOperation, frozen=True):
    """A directory or file of the host at the volume's place in the pod's directory."""

    volume: str
    source: str
    path: str

    def describe(self) -> str:
        return f"bind {self.source} at {self.path}"

    def execute(self) -> None:
        if os.path.ismount(self.path):
            return
        try:
            source_fd = os.open(self.source, os.O_PATH | os.O_CLOEXEC)
        except OSError as error:
            raise VolumeError(
                f'MountVolume.SetUp failed for volume "{self.volume}" : path "{self.source}": {error.strerror}'
            ) from error
        try:
            make_place(self.path, directory=stat.S_ISDIR(os.fstat(source_fd).st_mode))
            kmount.mount(f"/proc/self/fd/{source_fd}", self.path, None, kmount.MS_BIND | kmount.MS_REC)
            # what is taken away here later must not be taken away at the source
            kmount.mount(None, self.path, None, kmount.MS_SLAVE | kmount.MS_REC)
        finally:
            os.close(source_fd)

    def undo(self) -> None:
        unmount(self.path)


class GiveToGroup(HostOperation, frozen=True):
    """fsGroup of a volume that keeps its files from pod to pod. `only_on_mismatch`: fsGroupChangePolicy."""

    path: str
    gid: int
    only_on_mismatch: bool = False

    def describe(self) -> str:
        policy = ", unless its root belongs to it" if self.only_on_mismatch else ""
        return f"chgrp -R {self.gid} {self.path}{policy}"

    def execute(self) -> None:
        found = os.stat(self.path, follow_symlinks=False)
        if not stat.S_ISDIR(found.st_mode):
            return
        ready = found.st_gid == self.gid and found.st_mode & _FS_GROUP_FOLDER == _FS_GROUP_FOLDER
        if not (self.only_on_mismatch and ready):
            give_to_group(self.path, self.gid, file_bits=_FS_GROUP_FILE, folder_bits=_FS_GROUP_FOLDER)


class MountImage(HostOperation, frozen=True):
    """An image's files, read-only (KEP-4639). `layers`: lowest first."""

    path: str
    reference: str
    layers: tuple[str, ...]

    def describe(self) -> str:
        return f"mount image {self.reference} {self.path} ro,nosuid,nodev: {len(self.layers)} layer(s)"

    def execute(self) -> None:
        if os.path.ismount(self.path):
            return
        make_place(self.path, directory=True)
        flags = kmount.MS_RDONLY | kmount.MS_NOSUID | kmount.MS_NODEV
        if len(self.layers) == 1:
            kmount.mount(self.layers[0], self.path, None, kmount.MS_BIND)
            kmount.mount(None, self.path, None, kmount.MS_REMOUNT | kmount.MS_BIND | flags)
        else:
            kmount.overlay_read_only(self.layers, self.path, flags)

    def undo(self) -> None:
        unmount(self.path)


class LinkDevice(HostOperation, frozen=True):
    """A block device of the host under the volume's name in the pod's directory (a PersistentVolume of mode Block)."""

    volume: str
    device: str
    path: str

    def describe(self) -> str:
        return f"symlink {self.path} -> {self.device}, a block device"

    def execute(self) -> None:
        why = ""
        try:
            if not stat.S_ISBLK(os.stat(self.device).st_mode):
                why = "is not a block device"
        except OSError as error:
            why = error.strerror or str(error)
        if why:
            raise VolumeError(f'MapVolume.SetUpDevice failed for volume "{self.volume}" : {self.device}: {why}')
        os.makedirs(os.path.dirname(self.path), mode=0o750, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.symlink(self.device, self.path)

    def undo(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)


def make_place(path: str, *, directory: bool) -> None:
    """Where something is to be mounted."""
    os.makedirs(path if directory else os.path.dirname(path), mode=0o750, exist_ok=True)
    if not directory:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))


def unmount(path: str) -> None:
    """The mount and the empty place that it was on; where a place is not empty, the directory's removal reports it."""
    kmount.umount_if_mounted(path)
    try:
        if os.path.isdir(path):
            os.rmdir(path)
        else:
            os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EBUSY):
            raise
