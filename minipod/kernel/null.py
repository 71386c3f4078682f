"""/dev/null to hand to strangers (layer 1): a node of its own, so that nothing of the host changes through it."""

from __future__ import annotations

import os
import stat

from minipod.kernel import mount
from minipod.kernel.libc import syscall

_CLOEXEC = 1  # FSOPEN_CLOEXEC, FSMOUNT_CLOEXEC
_FSCONFIG_CMD_CREATE = 6
_NULL = os.makedev(1, 3)


def open_null() -> int:
    """For reading and writing, on a tmpfs that is mounted nowhere and read-only: chmod and chown are EROFS.

    A container's root could change the mode of the host's /dev/null through /proc/self/fd/0. (Before Linux 5.12 it
    changes that of this node.)
    """
    mounted = _tmpfs()
    try:
        os.mkdir("dev", dir_fd=mounted)
        os.mknod("dev/null", stat.S_IFCHR | 0o666, _NULL, dir_fd=mounted)
        os.chmod(f"/proc/self/fd/{mounted}/dev/null", 0o666)  # mknod obeys the umask
        try:
            mount.mount_setattr(mounted, attr_set=mount.MOUNT_ATTR_RDONLY)
        except OSError:
            pass
        return os.open("dev/null", os.O_RDWR | os.O_CLOEXEC, dir_fd=mounted)
    finally:
        os.close(mounted)


def _tmpfs() -> int:
    context = syscall("fsopen", b"tmpfs", _CLOEXEC, what="tmpfs")
    try:
        syscall("fsconfig", context, _FSCONFIG_CMD_CREATE, None, None, 0, what="tmpfs")
        return syscall("fsmount", context, _CLOEXEC, 0, what="tmpfs")
    finally:
        os.close(context)
