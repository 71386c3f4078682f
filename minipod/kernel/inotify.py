"""inotify(7) (layer 1): watches on files and directories as a descriptor to poll. No policy, no threads.

Loads its own handle of the C library: the thin CLI imports this module alone.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

IN_MODIFY = 0x002
IN_ATTRIB = 0x004
IN_CLOSE_WRITE = 0x008
IN_MOVED_FROM = 0x040
IN_MOVED_TO = 0x080
IN_CREATE = 0x100
IN_DELETE = 0x200
IN_DELETE_SELF = 0x400
IN_MOVE_SELF = 0x800
IN_Q_OVERFLOW = 0x4000
IN_ONLYDIR = 0x0100_0000

_IN_CLOEXEC = os.O_CLOEXEC
_IN_NONBLOCK = os.O_NONBLOCK
_HEADER = struct.Struct("iIII")  # struct inotify_event without its name

_libc = ctypes.CDLL(None, use_errno=True)
_libc.inotify_init1.argtypes = [ctypes.c_int]
_libc.inotify_init1.restype = ctypes.c_int
_libc.inotify_add_watch.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32]
_libc.inotify_add_watch.restype = ctypes.c_int


class Event:
    """`wd`: the watch (-1 when events were lost); `name`: the entry of a watched directory, else empty."""

    __slots__ = ("cookie", "mask", "name", "wd")

    def __init__(self, wd: int, mask: int, cookie: int, name: str) -> None:
        self.wd = wd
        self.mask = mask
        self.cookie = cookie
        self.name = name


def parse_events(data: bytes) -> list[Event]:
    """The events in what read(2) of an inotify descriptor gave."""
    events = []
    offset = 0
    while offset < len(data):
        wd, mask, cookie, length = _HEADER.unpack_from(data, offset)
        offset += _HEADER.size
        name = data[offset : offset + length].rstrip(b"\0")
        offset += length
        events.append(Event(wd, mask, cookie, os.fsdecode(name)))
    return events


class Inotify:
    """One inotify instance; a context manager. Non-blocking: `read` gives nothing where there is nothing."""

    def __init__(self) -> None:
        fd: int = _libc.inotify_init1(_IN_CLOEXEC | _IN_NONBLOCK)
        if fd < 0:
            number = ctypes.get_errno()
            raise OSError(number, f"inotify_init1: {os.strerror(number).lower()}; raise fs.inotify.max_user_instances")
        self._fd = fd

    def __enter__(self) -> Inotify:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def fileno(self) -> int:
        return self._fd

    def add_watch(self, path: str, mask: int) -> int:
        """Watch `path`; the same path gives the same number and replaces its mask. Raises OSError."""
        wd = int(_libc.inotify_add_watch(self._fd, os.fsencode(path), mask))
        if wd < 0:
            number = ctypes.get_errno()
            remedy = "; raise fs.inotify.max_user_watches" if number == errno.ENOSPC else ""
            raise OSError(number, f"inotify_add_watch: {os.strerror(number).lower()}{remedy}", path)
        return wd

    def read(self) -> list[Event]:
        """All events that are there, an empty list where there are none."""
        try:
            return parse_events(os.read(self._fd, 1 << 16))
        except BlockingIOError:
            return []

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
