"""Project quota (layer 1): quotactl_fd(2) and the project of a directory. No policy.

A project is a number that directories carry and hand on; ext4 and xfs, mounted with `prjquota`, count and limit what a
project's files take. Linux 5.14.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct

from minipod.kernel.libc import syscall

FS_IOC_FSGETXATTR = 0x801C581F
FS_IOC_FSSETXATTR = 0x401C5820
FS_XFLAG_PROJINHERIT = 0x200
_FSXATTR = struct.Struct("=5I8x")  # struct fsxattr: xflags, extsize, nextents, projid, cowextsize

PRJQUOTA = 2
_Q_GETQUOTA = 0x800007
_Q_SETQUOTA = 0x800008
_Q_XGETQSTATV = (ord("X") << 8) + 8
_DQBLK = struct.Struct("=8QI4x")  # struct if_dqblk: bhardlimit, bsoftlimit, curspace, i…, curinodes, b-, itime, valid
_QIF_BLIMITS = 1
_BLOCK_BYTES = 1024  # QIF_DQBLKSIZE
_STATV_BYTES = 256
_FS_QSTATV_VERSION1 = 1
_FS_QUOTA_PDQ_ENFD = 0x20


def enforces_projects(fd: int) -> bool:
    """Whether the file system that `fd` is on limits projects."""
    state = ctypes.create_string_buffer(bytes([_FS_QSTATV_VERSION1]), _STATV_BYTES)
    try:
        _quotactl(fd, _Q_XGETQSTATV, 0, state)
    except OSError:
        return False  # of its many ways to say no (ENOSYS, ESRCH, EOPNOTSUPP …) none is an error
    (flags,) = struct.unpack_from("=H", state.raw, 2)
    return bool(flags & _FS_QUOTA_PDQ_ENFD)


def project_of(fd: int) -> int:
    return int(_FSXATTR.unpack(fcntl.ioctl(fd, FS_IOC_FSGETXATTR, bytes(_FSXATTR.size)))[3])


def set_project(fd: int, project: int) -> None:
    """The directory, and what is made in it from now on, belongs to the project."""
    flags, extsize, nextents, _, cowextsize = _FSXATTR.unpack(fcntl.ioctl(fd, FS_IOC_FSGETXATTR, bytes(_FSXATTR.size)))
    wanted = _FSXATTR.pack(flags | FS_XFLAG_PROJINHERIT, extsize, nextents, project, cowextsize)
    fcntl.ioctl(fd, FS_IOC_FSSETXATTR, wanted)


def project_inodes(fd: int, project: int) -> int:
    """How many files and directories the project has on the file system of `fd`."""
    try:
        return int(_DQBLK.unpack(_get(fd, project))[5])
    except FileNotFoundError:  # xfs: a project that never had any
        return 0


def limit_project(fd: int, project: int, limit_bytes: int) -> None:
    """What the project's files may take at most; 0: no limit. Whole KiB, rounded up."""
    blocks = -(-limit_bytes // _BLOCK_BYTES)
    wanted = ctypes.create_string_buffer(_DQBLK.pack(blocks, 0, 0, 0, 0, 0, 0, 0, _QIF_BLIMITS), _DQBLK.size)
    _quotactl(fd, _Q_SETQUOTA, project, wanted)


def _get(fd: int, project: int) -> bytes:
    found = ctypes.create_string_buffer(_DQBLK.size)
    _quotactl(fd, _Q_GETQUOTA, project, found)
    return found.raw


def _quotactl(fd: int, command: int, project: int, argument: ctypes.Array[ctypes.c_char]) -> None:
    what = f"{os.readlink(f'/proc/self/fd/{fd}')}, project {project}"
    syscall("quotactl_fd", fd, command << 8 | PRJQUOTA, project, argument, what=what)
