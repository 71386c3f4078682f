"""Asks what the kernel and the libraries can do (layer 1), for `minipod check`. Changes nothing."""

from __future__ import annotations

import ctypes
import errno
import os

from minipod.kernel.mount import mount_id
from minipod.kernel.process import enter_own_mount_namespace, unshare


def has_system_call(number: int) -> bool | None:
    """Whether the kernel knows a system call; None where a filter forbids to ask.

    Called with arguments that cannot succeed: only ENOSYS says that it is not there (Linux, syscalls(2)).
    """
    library = ctypes.CDLL(None, use_errno=True)
    library.syscall.restype = ctypes.c_long
    if library.syscall(ctypes.c_long(number), *[ctypes.c_long(-1)] * 5) >= 0:
        return True
    code = ctypes.get_errno()
    return None if code == errno.EPERM else code != errno.ENOSYS


def unshare_error(flags: int) -> int:
    """The errno with which a child is refused the namespaces of these flags; 0 where it gets them."""
    pid = os.fork()
    if pid == 0:
        code = 255
        try:
            unshare(flags)
            code = 0
        except OSError as error:
            code = error.errno or 255
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def can_load(library: str) -> bool:
    """Whether a shared library can be loaded by its soname."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def in_chroot() -> bool | None:
    """Whether this process's root is not its mount namespace's, as after chroot(2); None where it may not be asked.

    A child enters the namespace that it is in already: setns(2) gives it the namespace's own root.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            before = _identity_of_root()
            enter_own_mount_namespace()
            os.write(writing, b"same" if _identity_of_root() == before else b"other")
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as stream:
        answer = stream.read()
    os.waitpid(pid, 0)
    return answer == b"other" if answer else None


def _identity_of_root() -> tuple[int, int, str]:
    """(st_dev, st_ino, mount id): a bind of `/` elsewhere has the same inode."""
    root_fd = os.open("/", os.O_PATH)
    found = os.fstat(root_fd)
    number = mount_id(root_fd)
    os.close(root_fd)
    return found.st_dev, found.st_ino, number
