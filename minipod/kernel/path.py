"""Paths resolved inside a root by openat2(2) (layer 1): nothing a container prepared can lead outside. No policy."""

from __future__ import annotations

import ctypes
import errno
import os
import stat

from minipod.kernel.libc import syscall

AT_FDCWD = -100
RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10


class OpenHow(ctypes.Structure):
    """struct open_how (openat2(2))."""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def openat2(dir_fd: int, path: str, flags: int, mode: int = 0, resolve: int = 0, *, cookie: int = 0) -> int:
    """openat2(2), close-on-exec. EAGAIN (a rename raced) is tried again a few times.

    `cookie`: an argument that the kernel does not look at, but a filter of system calls may.
    """
    how = OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    for attempt in range(8):
        try:
            size = ctypes.sizeof(how)
            return syscall("openat2", dir_fd, os.fsencode(path), ctypes.byref(how), size, cookie, what=path)
        except OSError as error:
            if error.errno != errno.EAGAIN or attempt == 7:
                raise
    raise AssertionError("unreachable")


def open_in_root(root_fd: int, path: str, flags: int = os.O_PATH, mode: int = 0) -> int:
    """Open `path` as if `root_fd` were `/`: links and `..` stay inside, magic links are refused."""
    return openat2(root_fd, path.lstrip("/") or ".", flags, mode, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)


def open_beneath(dir_fd: int, path: str, flags: int = os.O_PATH) -> int:
    """Open `path` below `dir_fd` along no link and across no mount: ELOOP, EXDEV."""
    return openat2(dir_fd, path, flags, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV)


def make_beneath(dir_fd: int, path: str) -> int:
    """An O_PATH descriptor of a directory below `dir_fd`, along no link, across no mount; what is missing is made."""
    flags = os.O_PATH | os.O_DIRECTORY
    try:
        return open_beneath(dir_fd, path or ".", flags)
    except FileNotFoundError:
        parent, _, name = path.rpartition("/")
        parent_fd = make_beneath(dir_fd, parent)
        try:
            os.mkdir(name, 0o755, dir_fd=parent_fd)
        finally:
            os.close(parent_fd)
    return open_beneath(dir_fd, path, flags)


def make_in_root(root_fd: int, path: str, *, directory: bool, mode: int = 0o755) -> int:
    """An O_PATH descriptor of `path` inside the root; what is missing of it is made (directories 0755, a file empty).

    Follows links inside the root as the container would see them. Raises NotADirectoryError or IsADirectoryError
    where the place exists but is of the other kind.
    """
    try:
        fd = open_in_root(root_fd, path)
    except FileNotFoundError:
        fd = _make(root_fd, path, directory=directory, mode=mode)
    is_directory = stat.S_ISDIR(os.fstat(fd).st_mode)
    if is_directory != directory:
        os.close(fd)
        kind = IsADirectoryError if is_directory else NotADirectoryError
        number = errno.EISDIR if is_directory else errno.ENOTDIR
        raise kind(number, f"{path} is {'a' if is_directory else 'not a'} directory")
    return fd


MAX_LINKS = 40  # the kernel's MAXSYMLINKS


def _make(root_fd: int, path: str, *, directory: bool, mode: int) -> int:
    """Makes what is missing. A link to what is not there (an image's /etc/resolv.conf) is followed inside the root."""
    parts = _parts(path)
    parent, done, links = _reopened(root_fd), "", 0
    while parts:
        part = parts.pop(0)
        place = f"{done}/{part}"
        try:
            fd = open_in_root(root_fd, place)
        except FileNotFoundError:
            target = _link_at(parent, part)
            if target is not None:
                links += 1
                if links > MAX_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path) from None
                parts[:0] = _parts(target)
                if target.startswith("/"):
                    os.close(parent)
                    parent, done = _reopened(root_fd), ""
                continue
            if parts or directory:
                os.mkdir(part, 0o755 if parts else mode, dir_fd=parent)
            else:
                os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644, dir_fd=parent))
            fd = openat2(parent, part, os.O_PATH | os.O_NOFOLLOW, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
        os.close(parent)
        parent, done = fd, place
    return parent


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def _reopened(fd: int) -> int:
    return os.open(".", os.O_PATH | os.O_CLOEXEC, dir_fd=fd)


def _link_at(parent: int, name: str) -> str | None:
    """What the link of this name says; None where there is none."""
    try:
        return os.readlink(name, dir_fd=parent)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EINVAL):
            return None
        raise
