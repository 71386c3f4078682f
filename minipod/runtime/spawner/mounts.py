"""The mount namespace that every container's begins as a copy of (layer 3): empty, so that the copy takes no time."""

from __future__ import annotations

import os

from minipod.kernel import mount as kmount
from minipod.kernel import process
from minipod.kernel.path import AT_FDCWD


def empty_mount_namespace() -> int:
    """A descriptor of a new mount namespace with a read-only tmpfs, an empty directory /root and this process' /proc.

    The caller is in its own again afterwards, with its root and working directory. For a process of one thread, as
    setns(2) wants it. Raises OSError.
    """
    opened = [
        os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC),
        os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC),
        os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC),
        kmount.open_tree(AT_FDCWD, "/proc", kmount.OPEN_TREE_CLONE),
    ]
    own_fd, root_fd, folder_fd, proc_fd = opened
    try:
        process.unshare(process.CLONE_NEWNS)
        try:
            _empty(proc_fd)
            return os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            process.setns(own_fd, process.CLONE_NEWNS)
            process.change_root(root_fd)
            os.fchdir(folder_fd)
    finally:
        for fd in opened:
            os.close(fd)


def _empty(proc_fd: int) -> None:
    """Replace all that is mounted in this mount namespace, a copy of the host's."""
    process.enter_own_mount_namespace()
    kmount.mount(None, "/", None, kmount.MS_PRIVATE | kmount.MS_REC)
    flags = kmount.MS_NOSUID | kmount.MS_NODEV | kmount.MS_NOEXEC
    top_fd = kmount.new_mount("tmpfs", (("mode", "555"), ("size", "16k"), ("nr_inodes", "8")), flags)
    try:
        for name in ("proc", "root"):
            os.mkdir(name, 0o555, dir_fd=top_fd)
        _attach(top_fd, "/proc")
        os.fchdir(top_fd)
        kmount.pivot_root(".", ".")
        kmount.umount(".", kmount.MNT_DETACH)
        os.chdir("/")
        _attach(proc_fd, "/proc")
        kmount.restrict(top_fd, kmount.MS_RDONLY)
    finally:
        os.close(top_fd)


def _attach(mount_fd: int, path: str) -> None:
    place_fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        kmount.move_mount(mount_fd, place_fd)
    finally:
        os.close(place_fd)
