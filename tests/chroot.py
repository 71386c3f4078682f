"""Whether the tests run in a chroot: there, a process that joins a pod's namespace may come out on the host's root."""

from __future__ import annotations

import os
from pathlib import Path

from minipod.kernel.process import CLONE_NEWNS, setns


def on_the_namespaces_root() -> bool:
    """Whether this process's root is its mount namespace's: false in a chroot, where setns(2) leads out of it."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writing, b"1" if _root_stays() else b"0")
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as answer:
        said = answer.read()
    os.waitpid(pid, 0)
    return said == b"1"


def _root_stays() -> bool:
    before = _identity_of_root()
    namespace_fd = os.open("/proc/self/ns/mnt", os.O_RDONLY)
    setns(namespace_fd, CLONE_NEWNS)
    return _identity_of_root() == before


def _identity_of_root() -> tuple[int, int, str]:
    """(st_dev, st_ino, mount id): a bind of `/` elsewhere has the same inode."""
    root_fd = os.open("/", os.O_PATH)
    found = os.fstat(root_fd)
    information = Path(f"/proc/self/fdinfo/{root_fd}").read_text()
    os.close(root_fd)
    mount = next(line for line in information.splitlines() if line.startswith("mnt_id:"))
    return found.st_dev, found.st_ino, mount
