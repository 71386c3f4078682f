"""Where a container's mounts go (layer 2): places found by descriptor, and what no volume may cover. Mounts nothing.

The runtime's own file systems (/proc, /dev, /sys and those below) go to directories of the root file system or of one
another, along no link, and are kept as descriptors (`mount /proc`): later changes are made to the mount that was
made, never to what a path leads to by then. A volume's place is looked up as the container would see it, and
is refused by what it is.
"""

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
from collections.abc import Iterator

from minipod.kernel import mount as kmount
from minipod.kernel.path import make_beneath, make_in_root, open_beneath
from minipod.plan.operation import ChildContext

#: what lxcfs puts over the host's numbers, file by file (runc's checkProcMount)
PROC_FILES = frozenset(
    f"/proc/{name}"
    for name in (
        *("cpuinfo", "diskstats", "loadavg", "meminfo", "slabinfo", "stat", "swaps", "uptime"),
        *("sys/crypto/fips_enabled", "sys/kernel/ns_last_pid"),
    )
)


def keep_mount(ctx: ChildContext, target: str, mount_fd: int) -> None:
    """From here on `target` and what is below it are found through this descriptor."""
    ctx.fds[_name(target)] = mount_fd


def kept_mount(ctx: ChildContext, target: str) -> int:
    """The root of the mount that was made at `target`; of the root file system for `/`."""
    return ctx.fds["root"] if target == "/" else ctx.fds[_name(target)]


def open_own(ctx: ChildContext, path: str, flags: int = os.O_PATH) -> int:
    """Open what is below one of the runtime's own mounts, along no link and across no mount."""
    base_fd, rest = _nearest(ctx, path)
    return open_beneath(base_fd, rest or ".", flags)


@contextlib.contextmanager
def own_place(ctx: ChildContext, path: str) -> Iterator[int]:
    """A directory for one of the runtime's own mounts, made where it is missing; a link in its place is an error."""
    base_fd, rest = _nearest(ctx, path)
    try:
        fd = make_beneath(base_fd, rest)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EXDEV):
            message = f"{path} must be an ordinary directory of the image, neither a link nor a file"
            raise NotADirectoryError(errno.ENOTDIR, message) from None
        raise
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def own_file(ctx: ChildContext, path: str) -> Iterator[int]:
    """The same for a file in one of the runtime's own mounts (/dev/console); what a volume has put there stays."""
    parent, name = posixpath.split(path)
    parent_fd = open_own(ctx, parent)
    try:
        with contextlib.suppress(FileExistsError):
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644, dir_fd=parent_fd))
        fd = open_beneath(parent_fd, name)
    finally:
        os.close(parent_fd)
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def volume_place(ctx: ChildContext, path: str, *, directory: bool) -> Iterator[int]:
    """Where a volume goes: links are followed inside the root, what is missing is made. Raises OSError for a place
    that is the root itself, in the container's own /proc, or in its /sys where `path` does not name it."""
    fd = make_in_root(ctx.fds["root"], path, directory=directory)
    try:
        why = _forbidden(ctx, fd, posixpath.normpath("/" + path.lstrip("/")))
        if why:
            raise PermissionError(errno.EPERM, f"{path}: {why}")
        yield fd
    finally:
        os.close(fd)


def _forbidden(ctx: ChildContext, fd: int, path: str) -> str:
    """Why nothing may be mounted at the open place `fd`, which `path` led to; empty where it may.

    The procfs is known by its superblock, so that what is bound over itself in it counts too, and another procfs
    that a hostPath volume shows does not. One sysfs serves a whole network namespace: it is known by the mount.
    """
    if os.path.samestat(os.fstat(fd), os.fstat(ctx.fds["root"])):
        return "leads to the root directory of the container"
    kind = kmount.file_system_type(fd)
    if kind == kmount.PROC_SUPER_MAGIC and os.fstat(fd).st_dev == os.fstat(kept_mount(ctx, "/proc")).st_dev:
        return "" if path in PROC_FILES and _is_own(ctx, fd, path) else "leads into the container's /proc"
    named = path == "/sys" or path.startswith("/sys/")
    if kind == kmount.SYSFS_MAGIC and not named and kmount.mount_id(fd) == kmount.mount_id(kept_mount(ctx, "/sys")):
        return "leads into the container's /sys"
    return ""


def _is_own(ctx: ChildContext, fd: int, path: str) -> bool:
    """Whether `fd` is what has this path in the mount that was made, and not what a link has led to."""
    own_fd = open_own(ctx, path)
    try:
        return os.path.samestat(os.fstat(fd), os.fstat(own_fd))
    finally:
        os.close(own_fd)


def _nearest(ctx: ChildContext, path: str) -> tuple[int, str]:
    """(the innermost own mount at or above `path`, the rest of the path)."""
    above = path
    while above != "/":
        fd = ctx.fds.get(_name(above))
        if fd is not None:
            return fd, path[len(above) :].lstrip("/")
        above = posixpath.dirname(above)
    return ctx.fds["root"], path.lstrip("/")


def _name(target: str) -> str:
    return f"mount {target}"
