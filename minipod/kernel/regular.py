"""Opens files in directories that others can write to (layer 1): follows no link, opens only regular files. No policy.

A pod with a hostPath volume can replace its log by a link, a FIFO or a device node, or a directory by a link. Opening a
FIFO waits for its other end, opening some devices has an effect (it starts a watchdog). Therefore a file is opened with
O_PATH first, its type is checked, and the same descriptor is then reopened.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FLAGS = os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_TRIES = 8


@contextlib.contextmanager
def opened_folder(path: str, own: int, make: bool = False) -> Iterator[int]:
    """A descriptor of a directory. The last `own` names of its path may not be links; `make`: create them if missing.

    Raises OSError.
    """
    above, *names = path.rsplit("/", own)
    fd = os.open(above or "/", _FOLDER)
    try:
        for name in names:
            if name in ("", ".", ".."):
                raise OSError(errno.EINVAL, "is no directory of the path", path)
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, 0o755, dir_fd=fd)
            try:
                below = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=fd)
            except OSError as error:
                raise _described(error, path) from None
            os.close(fd)
            fd = below
        yield fd
    finally:
        os.close(fd)


def open_regular(name: str, flags: int, folder_fd: int, path: str) -> int:
    """A descriptor of a regular file, close-on-exec. `path`: the file's path, for errors.

    Raises OSError: ELOOP for a link, EINVAL for what is neither link nor regular file.
    """
    if "/" in name or name in ("", ".", ".."):
        raise OSError(errno.EINVAL, "is no file's name", path)
    try:
        seen_fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder_fd)
    except OSError as error:
        raise _described(error, path) from None
    try:
        return reopened_regular(seen_fd, flags, path)
    finally:
        os.close(seen_fd)


def reopened_regular(seen_fd: int, flags: int, path: str) -> int:
    """`open_regular` for a file that is open with O_PATH as `seen_fd`, which stays open."""
    kind = os.fstat(seen_fd).st_mode
    if stat.S_ISLNK(kind):
        raise OSError(errno.ELOOP, "is a link, which is not followed", path)
    if not stat.S_ISREG(kind):
        raise OSError(errno.EINVAL, "is no regular file", path)
    try:
        return os.open(f"/proc/self/fd/{seen_fd}", flags | _FLAGS)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None


def make_regular(name: str, flags: int, mode: int, folder_fd: int, path: str) -> int:
    """`open_regular`, but creates the file with `mode` where there is none."""
    for _ in range(_TRIES):
        with contextlib.suppress(FileExistsError):
            return os.open(name, flags | _FLAGS | os.O_CREAT | os.O_EXCL, mode, dir_fd=folder_fd)
        with contextlib.suppress(FileNotFoundError):
            return open_regular(name, flags, folder_fd, path)
    raise OSError(errno.EAGAIN, "comes and goes", path)


def _described(error: OSError, path: str) -> OSError:
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        return OSError(error.errno, "is a link or no directory, which is not followed", path)
    return OSError(error.errno, error.strerror, path)
