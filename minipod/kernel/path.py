"""Paths resolved inside a root by openat2(2) (layer 1): nothing a container prepared can lead outside. No policy."""

from __future__ import annotations

import ctypes
import errno
import os
import stat

from minipod.kernel.libc import syscall

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10


class OpenHow(ctypes.Structure):
    """struct open_how (openat2(2))."""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def openat2(dir_fd: int, path: str, flags: int, mode: int = 0, resolve: int = 0) -> int:
    """openat2(2), close-on-exec. EAGAIN (a rename raced) is tried again a few times."""
    how = OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    for attempt in range(8):
        try:
            return syscall("openat2", dir_fd, path.encode(), ctypes.byref(how), ctypes.sizeof(how), what=path)
        except OSError as error:
            if error.errno != errno.EAGAIN or attempt == 7:
                raise
    raise AssertionError("unreachable")


def open_in_root(root_fd: int, path: str, flags: int = os.O_PATH, mode: int = 0) -> int:
    """Open `path` as if `root_fd` were `/`: links and `..` stay inside, magic links are refused."""
    return openat2(root_fd, path.lstrip("/") or ".", flags, mode, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)


def make_in_root(root_fd: int, path: str, *, directory: bool, mode: int = 0o755) -> int:
    """An O_PATH descriptor of `path` inside the root; what is missing of it is made (folders 0755, a file empty).

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


def _make(root_fd: int, path: str, *, directory: bool, mode: int) -> int:
    parts = [part for part in path.split("/") if part not in ("", ".")]
    parent = os.open(".", os.O_PATH | os.O_CLOEXEC, dir_fd=root_fd)
    done = ""
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        place = f"{done}/{part}"
        try:
            fd = open_in_root(root_fd, place)
        except FileNotFoundError:
            # A dangling link at this place is an error of the image, told by mkdirat's EEXIST.
            if last and not directory:
                os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644, dir_fd=parent))
            else:
                os.mkdir(part, mode if last else 0o755, dir_fd=parent)
            fd = openat2(parent, part, os.O_PATH | os.O_NOFOLLOW, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
        os.close(parent)
        parent, done = fd, place
    return parent
