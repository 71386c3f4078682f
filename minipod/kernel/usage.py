"""How much a folder takes on its file system (layer 1): by descriptors, across no mount, along no link. No policy."""

from __future__ import annotations

import os
import stat

from minipod.kernel.walk import opened_folder, walk

_BLOCK_BYTES = 512  # stat(2): the unit of st_blocks, whatever the file system's own


def usage_bytes(path: str) -> int:
    """What du(1) counts: blocks in use, a file with several names once. What vanishes meanwhile counts for nothing."""
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
