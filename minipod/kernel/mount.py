"""Mounts (layer 1): mount(2) and the descriptor-based calls of fsopen(2), open_tree(2), mount_setattr(2). No policy."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from collections.abc import Iterable

from minipod.kernel.libc import c_char_p, c_int, c_ulong, fail, function, syscall

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_SYNCHRONOUS = 0x10
MS_REMOUNT = 0x20
MS_NOATIME = 0x400
MS_NODIRATIME = 0x800
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MS_SLAVE = 0x80000
MS_SHARED = 0x100000
MS_RELATIME = 0x200000
MS_STRICTATIME = 0x1000000

MNT_DETACH = 0x2
UMOUNT_NOFOLLOW = 0x8

OPEN_TREE_CLONE = 0x1
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
MOVE_MOUNT_F_EMPTY_PATH = 0x4
MOVE_MOUNT_T_EMPTY_PATH = 0x40
MOUNT_ATTR_RDONLY = 0x1
#: those that belong to one mount and have the same value as MS_… and as MOUNT_ATTR_…
_ATTRIBUTES = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC
_FSOPEN_CLOEXEC = _FSMOUNT_CLOEXEC = 0x1
_FSCONFIG_SET_FLAG = 0
_FSCONFIG_SET_STRING = 1
_FSCONFIG_CMD_CREATE = 6
_FSCONFIG_STRING_LIMIT = 255

FLAG_NAMES = {
    "ro": MS_RDONLY,
    "nosuid": MS_NOSUID,
    "nodev": MS_NODEV,
    "noexec": MS_NOEXEC,
    "relatime": MS_RELATIME,
}

#: linux/magic.h
DEVPTS_SUPER_MAGIC = 0x1CD1
PROC_SUPER_MAGIC = 0x9FA0
SYSFS_MAGIC = 0x62656572

_fstatfs = function("fstatfs", c_int, ctypes.c_void_p)
_mount = function("mount", c_char_p, c_char_p, c_char_p, c_ulong, c_char_p)
_umount2 = function("umount2", c_char_p, c_int)


class MountAttr(ctypes.Structure):
    """struct mount_attr (mount_setattr(2))."""

    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def mount(source: str | None, target: str, fstype: str | None, flags: int = 0, data: str | None = None) -> None:
    """mount(2)."""
    arguments = [os.fsencode(a) if a is not None else None for a in (source, target, fstype)]
    if _mount(*arguments, flags, data.encode() if data is not None else None) != 0:
        fail("mount", f"{fstype or source or ''} on {target}".strip())


def umount(target: str, flags: int = UMOUNT_NOFOLLOW) -> None:
    """umount2(2); never follows a link in the last component."""
    if _umount2(os.fsencode(target), flags | UMOUNT_NOFOLLOW) != 0:
        fail("umount", target)


def umount_if_mounted(target: str, flags: int = MNT_DETACH) -> None:
    """Unmount every mount stacked on `target`; no error if there is none."""
    while True:
        try:
            umount(target, flags)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOENT):
                return
            raise


def pivot_root(new_root: str, put_old: str) -> None:
    syscall("pivot_root", os.fsencode(new_root), os.fsencode(put_old), what=new_root)


def open_tree(dir_fd: int, path: str, flags: int) -> int:
    """open_tree(2): a descriptor of a (cloned, detached) mount; close-on-exec."""
    return syscall("open_tree", dir_fd, os.fsencode(path), flags | os.O_CLOEXEC, what=path)


def move_mount(from_fd: int, to_fd: int) -> None:
    """move_mount(2) of a detached mount onto an open place."""
    syscall(
        "move_mount", from_fd, b"", to_fd, b"", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH, what=f"fd {to_fd}"
    )


def mount_setattr(fd: int, *, attr_set: int = 0, propagation: int = 0, recursive: bool = False) -> None:
    """mount_setattr(2) on an open mount. Linux 5.12."""
    attr = MountAttr(attr_set, 0, propagation, 0)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    syscall("mount_setattr", fd, b"", flags, ctypes.byref(attr), ctypes.sizeof(attr), what=f"fd {fd}")


def file_system_type(fd: int) -> int:
    """f_type of the file system that `fd` is on, as linux/magic.h numbers them (statfs(2))."""
    answer = (ctypes.c_ulong * 32)()  # struct statfs is 120 bytes and begins with f_type
    if _fstatfs(fd, ctypes.byref(answer)) != 0:
        fail("fstatfs", f"fd {fd}")
    return int(answer[0])


def new_mount(fstype: str, options: Iterable[tuple[str, str | None]] = (), flags: int = 0) -> int:
    """fsopen(2) to fsmount(2): a detached mount of a new file system; a descriptor (O_PATH) of its root.

    An option is (key, value), or (key, None) for a flag of the file system. `flags`, of MS_RDONLY to MS_NOEXEC, hold
    for this mount alone, also where its superblock is shared with others (sysfs, cgroup).
    """
    fs_fd = syscall("fsopen", fstype.encode(), _FSOPEN_CLOEXEC, what=fstype)
    try:
        for key, value in options:
            command, text = (_FSCONFIG_SET_FLAG, None) if value is None else (_FSCONFIG_SET_STRING, value.encode())
            syscall("fsconfig", fs_fd, command, key.encode(), text, 0, what=f"{fstype} {key}={value or ''}")
        syscall("fsconfig", fs_fd, _FSCONFIG_CMD_CREATE, None, None, 0, what=fstype)
        return syscall("fsmount", fs_fd, _FSMOUNT_CLOEXEC, flags & _ATTRIBUTES, what=fstype)
    finally:
        os.close(fs_fd)


def restrict(mount_fd: int, flags: int) -> None:
    """Add `flags`, of MS_RDONLY to MS_NOEXEC, to the mount that `mount_fd` is the root of. It has to be attached."""
    try:
        mount_setattr(mount_fd, attr_set=flags)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        _restrict_before_5_12(mount_fd, flags)


def _restrict_before_5_12(mount_fd: int, flags: int) -> None:
    kept = os.fstatvfs(mount_fd).f_flag & _ATTRIBUTES  # a remount sets all of them; the values of ST_… are the same
    mount(None, f"/proc/self/fd/{mount_fd}", None, MS_REMOUNT | MS_BIND | flags | kept)


def mount_id(fd: int) -> str:
    """The number of the mount that `fd` is on, as mountinfo has it."""
    with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as info:
        return next(line.split()[1] for line in info if line.startswith("mnt_id:"))


def is_shared(fd: int) -> bool:
    """Whether the mount that `fd` is on shares what is mounted in it (proc_pid_mountinfo(5), optional fields)."""
    number = mount_id(fd)
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
        for line in mounts:
            if line.startswith(number + " "):
                return " shared:" in line.partition(" - ")[0]
    return False


def bind(
    source_fd: int,
    target_fd: int,
    *,
    flags: int = 0,
    recursive: bool = True,
    recursive_read_only: bool = False,
    propagation: int = MS_PRIVATE,
) -> None:
    """Bind what `source_fd` names at what `target_fd` names (both may be O_PATH), by descriptors only.

    `recursive` takes the mounts below the source along. `flags`, of MS_RDONLY to MS_NOEXEC, are added to those of the
    uppermost mount alone, or of all with `recursive_read_only` (v1 VolumeMount.recursiveReadOnly, from Linux 5.12).
    """
    tree = clone_tree(source_fd, recursive=recursive)
    try:
        place_tree(
            tree,
            target_fd,
            flags=flags,
            recursive=recursive,
            recursive_read_only=recursive_read_only,
            propagation=propagation,
        )
    finally:
        os.close(tree)


def clone_tree(source_fd: int, *, recursive: bool = True) -> int:
    """A detached mount of what `source_fd` names, with the mounts below it; a descriptor of its root."""
    return open_tree(source_fd, "", OPEN_TREE_CLONE | AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0))


def place_tree(
    tree: int,
    target_fd: int,
    *,
    flags: int = 0,
    recursive: bool = True,
    recursive_read_only: bool = False,
    propagation: int = MS_PRIVATE,
) -> None:
    """Attach a detached mount at what `target_fd` names. The options are those of `bind`."""
    try:
        if flags and recursive and not recursive_read_only:
            mount_setattr(tree, attr_set=flags)
            mount_setattr(tree, propagation=propagation, recursive=True)
        else:
            mount_setattr(tree, attr_set=flags, propagation=propagation, recursive=recursive)
    except OSError as error:
        if error.errno != errno.ENOSYS or recursive_read_only:
            raise
        move_mount(tree, target_fd)
        mount(None, f"/proc/self/fd/{tree}", None, propagation | (MS_REC if recursive else 0))
        if flags:
            _restrict_before_5_12(tree, flags)
    else:
        move_mount(tree, target_fd)


def detached_overlay(lower: tuple[str, ...], upper: str, work: str) -> int:
    """A detached overlayfs, `lower` lowest first; a descriptor (O_PATH) of its root.

    The directories are named by descriptors, as an option of fsconfig(2) has at most 255 bytes. Raises OSError E2BIG
    where they are too many for that: 13 or more, before Linux 6.7.
    """
    fds: list[int] = []
    try:
        for path in (upper, work, *reversed(lower)):
            fds.append(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        upper_name, work_name, *layers = [f"/proc/self/fd/{fd}" for fd in fds]
        joined = ":".join(layers)
        fit = len(joined) <= _FSCONFIG_STRING_LIMIT
        lowers = [("lowerdir", joined)] if fit else [("lowerdir+", layer) for layer in layers]
        try:
            return new_mount(
                "overlay", (("source", "overlay"), *lowers, ("upperdir", upper_name), ("workdir", work_name))
            )
        except OSError as error:
            if error.errno == errno.EINVAL and not fit:
                raise OSError(errno.E2BIG, f"{len(layers)} layers are too many for a detached overlay") from None
            raise
    finally:
        for fd in fds:
            os.close(fd)


def overlay(lower: tuple[str, ...], upper: str, work: str, target: str) -> None:
    """Mount overlayfs on `target`; `lower` lowest first. More layers than fit a page of options need Linux 6.7."""
    _overlay(lower, (("upperdir", upper), ("workdir", work)), target, MS_RELATIME)


def overlay_read_only(lower: tuple[str, ...], target: str, flags: int) -> None:
    """An overlayfs without an upper layer; `lower` lowest first, two at least. `flags`: of MS_NOSUID to MS_NOEXEC."""
    _overlay(lower, (), target, flags | MS_RDONLY)


def _overlay(lower: tuple[str, ...], upper: tuple[tuple[str, str], ...], target: str, flags: int) -> None:
    layers = list(reversed(lower))
    escaped = ":".join(_escape(layer) for layer in layers)
    options = ",".join([f"lowerdir={escaped}", *(f"{key}={_escape(value)}" for key, value in upper)])
    if len(options) < os.sysconf("SC_PAGESIZE"):
        mount("overlay", target, "overlay", flags, options)
        return
    # a backslash escapes in upperdir and workdir, as in a line of options, but not in lowerdir+
    written = ((key, _escape(value)) for key, value in upper)
    mount_fd = new_mount("overlay", (*(("lowerdir+", layer) for layer in layers), *written), flags)
    target_fd = os.open(target, os.O_PATH | os.O_CLOEXEC)
    try:
        move_mount(mount_fd, target_fd)
    finally:
        os.close(mount_fd)
        os.close(target_fd)


def _escape(path: str) -> str:
    """overlayfs splits its options at comma and colon."""
    return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")


def isolate(folder: str) -> None:
    """Make `folder` a mount of its own, private, unless it is one or has mounts in it, which would be covered.

    Mounts in it are then no children of the mount around it: the kernel goes through all children of a mount for each
    overlay whose layers are on it, and copies what is mounted in a shared one, as systemd makes all, to every mount
    namespace of the host's services.
    """
    try:
        mount(None, folder, None, MS_PRIVATE)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        if not mounts_below(folder):
            mount(folder, folder, None, MS_BIND)
            mount(None, folder, None, MS_PRIVATE)


def reunite(folder: str) -> None:
    """Undo `isolate` where nothing is in the directory. No error where it is in use, no mount, or not there."""
    with contextlib.suppress(OSError):
        with os.scandir(folder) as entries:
            if next(entries, None) is not None:
                return
        umount(folder)


def mounts_below(path: str) -> list[str]:
    """Every mount point at or below `path` in this mount namespace, the innermost first (proc_pid_mountinfo(5))."""
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            place = line.split(" ", 5)[4].encode("latin-1", "replace").decode("unicode_escape")
            if place == path or place.startswith(path.rstrip("/") + "/"):
                found.append(place)
    return sorted(found, reverse=True)
