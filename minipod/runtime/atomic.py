"""Replaces all files of a volume at once (layer 3): writes a new directory, which one rename makes current.

Rules: pkg/volume/util/atomic_writer.go. `<volume>/..data` is a link to the directory with the files, the names that a
container sees are links through it. A process that opens `..data` sees all of the old files or all of the new ones.
Every step goes by descriptors and follows no link.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Mapping

from minipod.errors import VolumeError
from minipod.failpoint import reached
from minipod.kernel.chance import random_below
from minipod.kernel.remove import remove_tree
from minipod.plan.volumes.configuration import File

DATA = "..data"
_NEW_DATA = "..data_tmp"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def write(volume: str, payload: Mapping[str, File], gid: int | None = None) -> bool:
    """Makes `payload` what the volume shows; whether anything had to be written.

    `gid`: the pod's fsGroup, which then owns the files and may read them. Where it fails (a full disk) the old files
    stay as they are. Raises OSError, VolumeError.
    """
    volume_fd = os.open(volume, _FOLDER)
    try:
        old = _current(volume_fd, volume)
        if old and _holds(volume_fd, old, payload):
            _show(volume_fd, payload)
            return False
        new = _make_folder(volume_fd)
        try:
            _fill(volume_fd, new, payload, gid)
            reached("configuration.filled")
            _swap(volume_fd, new)
            reached("configuration.swapped")
        except BaseException:
            with contextlib.suppress(OSError):
                remove_tree(f"{volume}/{new}")
            raise
        _show(volume_fd, payload)
        if old:  # else there was nothing before, but perhaps a directory of a writer that was killed: it goes next time
            _remove_stale(volume_fd, volume, new)
        return True
    finally:
        os.close(volume_fd)


def _current(volume_fd: int, volume: str) -> str:
    """The directory that ..data names; empty where there is none yet."""
    try:
        name = os.readlink(DATA, dir_fd=volume_fd)
    except FileNotFoundError:
        return ""
    if "/" in name or not name.startswith("..2"):
        raise VolumeError(f"{volume}/{DATA}: does not lead to a directory of this volume")
    return name


def _holds(volume_fd: int, folder: str, payload: Mapping[str, File]) -> bool:
    """Whether the directory has exactly these files with these contents."""
    try:
        folder_fd = os.open(folder, _FOLDER, dir_fd=volume_fd)
    except FileNotFoundError:
        return False
    try:
        found = dict(_files(folder_fd, ""))
    finally:
        os.close(folder_fd)
    return found == {path: file.data for path, file in payload.items()}


def _files(folder_fd: int, prefix: str) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    for name in os.listdir(folder_fd):
        mode = os.lstat(name, dir_fd=folder_fd).st_mode
        if stat.S_ISDIR(mode):
            below = os.open(name, _FOLDER, dir_fd=folder_fd)
            try:
                found += _files(below, f"{prefix}{name}/")
            finally:
                os.close(below)
        elif stat.S_ISREG(mode):
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder_fd)
            with os.fdopen(fd, "rb") as file:
                found.append((f"{prefix}{name}", file.read()))
        else:
            found.append((f"{prefix}{name}", b"\0not written by minipod"))
    return found


def _make_folder(volume_fd: int) -> str:
    while True:
        name = time.strftime("..%Y_%m_%d_%H_%M_%S.", time.gmtime()) + str(random_below(10**9))
        try:
            os.mkdir(name, 0o755, dir_fd=volume_fd)
        except FileExistsError:
            continue
        return name


def _fill(volume_fd: int, folder: str, payload: Mapping[str, File], gid: int | None) -> None:
    folder_fd = os.open(folder, _FOLDER, dir_fd=volume_fd)
    try:
        _own(folder_fd, 0o755, gid, folder=True)
        for path, file in payload.items():
            *parents, name = path.split("/")
            if not parents:
                _write_file(folder_fd, name, file, gid)
                continue
            parent_fd = _descend(folder_fd, parents, gid)
            try:
                _write_file(parent_fd, name, file, gid)
            finally:
                os.close(parent_fd)
    finally:
        os.close(folder_fd)


def _write_file(folder_fd: int, name: str, file: File, gid: int | None) -> None:
    fd = os.open(name, _NEW_FILE, 0o600, dir_fd=folder_fd)
    try:
        rest = memoryview(file.data)
        while rest:
            rest = rest[os.write(fd, rest) :]
        _own(fd, file.mode, gid, folder=False)
    finally:
        os.close(fd)


def _descend(folder_fd: int, parents: list[str], gid: int | None) -> int:
    fd = os.dup(folder_fd)
    for name in parents:
        try:
            os.mkdir(name, 0o755, dir_fd=fd)
            made = True
        except FileExistsError:
            made = False
        try:
            below = os.open(name, _FOLDER, dir_fd=fd)
        finally:
            os.close(fd)
        fd = below
        if made:
            _own(fd, 0o755, gid, folder=True)
    return fd


def _own(fd: int, mode: int, gid: int | None, *, folder: bool) -> None:
    """volume_linux.go changeFilePermission of a read-only volume: the group may read, and enter directories."""
    if gid is not None:
        os.fchown(fd, -1, gid)
        mode |= 0o440 | (stat.S_ISGID | 0o110 if folder else 0)
    os.fchmod(fd, mode)


def _swap(volume_fd: int, new: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_NEW_DATA, dir_fd=volume_fd)  # of a writer that was killed
    os.symlink(new, _NEW_DATA, dir_fd=volume_fd)
    os.rename(_NEW_DATA, DATA, src_dir_fd=volume_fd, dst_dir_fd=volume_fd)


def _show(volume_fd: int, payload: Mapping[str, File]) -> None:
    """The names that a container sees: one link for the first element of each path."""
    for name in {path.partition("/")[0] for path in payload}:
        with contextlib.suppress(FileExistsError):
            os.symlink(f"{DATA}/{name}", name, dir_fd=volume_fd)


def _remove_stale(volume_fd: int, volume: str, current: str) -> None:
    """Links whose file is gone; then the older directories, also those of writers that were killed."""
    names = os.listdir(volume_fd)
    for name in names:
        if not name.startswith("..") and not _exists(volume_fd, name):
            with contextlib.suppress(FileNotFoundError, IsADirectoryError):
                os.unlink(name, dir_fd=volume_fd)
    for name in names:
        if name.startswith("..2") and name != current:
            remove_tree(f"{volume}/{name}")


def _exists(volume_fd: int, name: str) -> bool:
    try:
        if not os.readlink(name, dir_fd=volume_fd).startswith(f"{DATA}/"):
            return True
        os.stat(name, dir_fd=volume_fd)
    except OSError as error:
        # EINVAL: no link, so none of ours
        return error.errno == errno.EINVAL
    return True
