"""Measures a directory's disk usage (layer 1): by descriptors, crossing no mount, following no link. No policy."""

from __future__ import annotations

import os
import stat

from minipod.kernel.walk import opened_folder, walk

_BLOCK_BYTES = 512  # stat(2): the unit of st_blocks, whatever the file system's own


def usage_bytes(path: str) -> int:
    """As du(1): the blocks in use, a file with several names once. Files that vanish during the walk do not count."""
    total = 0
    seen: set[int] = set()

    def count(folder_fd: int, name: str) -> bool:
        nonlocal total
        try:
            found = os.lstat(name, dir_fd=folder_fd)
        except OSError:
            return False
        is_folder = stat.S_ISDIR(found.st_mode)
        if found.st_nlink > 1 and not is_folder:
            if found.st_ino in seen:
                return False
            seen.add(found.st_ino)
        total += found.st_blocks * _BLOCK_BYTES
        return is_folder

    with opened_folder(path) as top_fd:
        walk(top_fd, count)
    return total
