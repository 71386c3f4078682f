"""How much a folder takes on its file system (layer 1): by descriptors, across no mount, along no link. No policy."""

from __future__ import annotations

import os
import stat

from minipod.kernel.path import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, RESOLVE_NO_XDEV, openat2

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_RESOLVE = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV
_BLOCK_BYTES = 512  # stat(2): the unit of st_blocks, whatever the file system's own


def usage_bytes(path: str) -> int:
    """What du(1) counts: blocks in use, a file with several names once. What vanishes meanwhile counts for nothing."""
    total = 0
    seen: set[int] = set()
    top_fd = os.open(path, _FOLDER)
    try:
        waiting = ["."]
        while waiting:
            folder = waiting.pop()
            try:
                fd = openat2(top_fd, folder, _FOLDER, 0, _RESOLVE)
            except OSError:
                continue
            try:
                for name in os.listdir(fd):
                    try:
                        found = os.lstat(name, dir_fd=fd)
                    except OSError:
                        continue
                    if found.st_nlink > 1 and not stat.S_ISDIR(found.st_mode):
                        if found.st_ino in seen:
                            continue
                        seen.add(found.st_ino)
                    total += found.st_blocks * _BLOCK_BYTES
                    if stat.S_ISDIR(found.st_mode):
                        waiting.append(f"{folder}/{name}")
            finally:
                os.close(fd)
    finally:
        os.close(top_fd)
    return total
