"""Getting files onto the disk (layer 1). No policy."""

from __future__ import annotations

import os

from minipod.kernel.libc import c_int, fail, function

_syncfs = function("syncfs", c_int)


def sync_file_system(path: str | os.PathLike[str]) -> None:
    """syncfs(2): returns when everything written to the file system of `path` is on its disk. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _syncfs(fd) < 0:
            fail("syncfs", os.fspath(path))
    finally:
        os.close(fd)
