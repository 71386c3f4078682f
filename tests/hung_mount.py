"""A FUSE file system that takes every request and answers none but the first: as a server that hangs."""

from __future__ import annotations

import os
import select
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from minipod.kernel.mount import MNT_DETACH, mount, umount

FUSE_INIT = 26
_HEADER = struct.Struct("=IIQQIIII")  # struct fuse_in_header
_INIT_OUT = struct.Struct("=IIIIHHIIHHI28x")  # struct fuse_init_out


@contextmanager
def hung_mount(path: str) -> Iterator[threading.Event]:
    """Mounted at `path`; the event is set once a process hangs in it. Its end, ENOTCONN, frees them all."""
    device_fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    asked, stop_fd = threading.Event(), os.eventfd(0, os.EFD_CLOEXEC)
    try:
        mount("hung", path, "fuse", 0, f"fd={device_fd},rootmode=40000,user_id=0,group_id=0,allow_other")
        server = threading.Thread(target=_serve, args=(device_fd, stop_fd, asked), name="hung mount")
        server.start()
        try:
            yield asked
        finally:
            umount(path, MNT_DETACH)
            os.eventfd_write(stop_fd, 1)
            server.join()
    finally:
        os.close(device_fd)
        os.close(stop_fd)


def _serve(device_fd: int, stop_fd: int, asked: threading.Event) -> None:
    """A request that was read waits in the kernel beyond the reach of SIGKILL."""
    while True:
        ready, _, _ = select.select([device_fd, stop_fd], [], [])
        if stop_fd in ready:
            return
        try:
            request = os.read(device_fd, 1 << 17)
        except OSError:  # ENODEV: it was unmounted, and no process had anything open in it
            return
        _, opcode, unique = _HEADER.unpack_from(request)[:3]
        if opcode == FUSE_INIT:
            answer = _INIT_OUT.pack(7, 31, 0, 0, 0, 0, 4096, 0, 0, 0, 0)
            os.write(device_fd, struct.pack("=IiQ", 16 + len(answer), 0, unique) + answer)
        else:
            asked.set()
