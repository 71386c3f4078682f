"""Replacing a file by rename (layer 1), where it need not survive the machine. No policy."""

from __future__ import annotations

import errno
import os

from minipod.kernel.libc import syscall
from minipod.kernel.path import AT_FDCWD

_RENAME_EXCHANGE = 2


def replace(source: str, target: str) -> None:
    """As rename(2): who opens `target` finds the old file or the new one. Raises OSError.

    ext4 begins to write out a file that is renamed over another (auto_da_alloc, ext4(5)), and on a busy disk whoever
    renames waits for it, 0.5 to 50 ms. Two files that change places it leaves alone, and the old one is then unlinked.
    """
    try:
        old, new = os.fsencode(source), os.fsencode(target)
        syscall("renameat2", AT_FDCWD, old, AT_FDCWD, new, _RENAME_EXCHANGE, what=target)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EINVAL, errno.ENOSYS):
            raise
        os.rename(source, target)  # nothing is there yet, or the file system cannot
    else:
        os.unlink(source)
