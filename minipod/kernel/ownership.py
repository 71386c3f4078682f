"""Gives a tree to a group (layer 1): by descriptors, crossing no mount, following no link. No policy of its own."""

from __future__ import annotations

import os
import stat

from minipod.kernel.path import RESOLVE_BENEATH, RESOLVE_NO_XDEV, openat2
from minipod.kernel.walk import opened_folder, walk


def give_to_group(path: str, gid: int, *, file_bits: int, folder_bits: int) -> None:
    """chgrp of `path` and everything below it; adds mode bits to files and directories, not to links.

    What vanishes or is replaced during the walk is skipped. Raises OSError for `path` itself.
    """
    with opened_folder(path) as top_fd:
        _give(top_fd, gid, file_bits, folder_bits)
        walk(top_fd, lambda fd, name: _entry(fd, name, gid, file_bits, folder_bits))


def _entry(folder_fd: int, name: str, gid: int, file_bits: int, folder_bits: int) -> bool:
    """Returns whether it is a directory to enter."""
    try:
        fd = openat2(folder_fd, name, os.O_PATH | os.O_NOFOLLOW, 0, RESOLVE_BENEATH | RESOLVE_NO_XDEV)
    except OSError:
        return False
    try:
        return _give(fd, gid, file_bits, folder_bits)
    finally:
        os.close(fd)


def _give(fd: int, gid: int, file_bits: int, folder_bits: int) -> bool:
    """Returns whether it is a directory. `fd` may be O_PATH: its link in /proc resolves to the opened file itself."""
    mode = os.fstat(fd).st_mode
    place = f"/proc/self/fd/{fd}"
    os.chown(place, -1, gid)
    if stat.S_ISLNK(mode):
        return False
    is_folder = stat.S_ISDIR(mode)
    os.chmod(place, stat.S_IMODE(mode) | (folder_bits if is_folder else file_bits))
    return is_folder
