"""Replaces a file by rename (layer 1), where it need not survive a crash of the machine. No policy."""

from __future__ import annotations

import errno
import os

from minipod.kernel.libc import syscall
from minipod.kernel.path import AT_FDCWD

_RENAME_EXCHANGE = 2


def replace(source: str, target: str) -> None:
    """As rename(2): a process that opens `target` gets the old file or the new one. Raises OSError.

    ext4 flushes a file that is renamed over another (auto_da_alloc, ext4(5)), and on a busy disk the rename waits for
    that, 0.5 to 50 ms. It does not for two files that are exchanged, after which the old one is unlinked.
    """
    try:
        old, new = os.fsencode(source), os.fsencode(target)
        syscall("renameat2", AT_FDCWD, old, AT_FDCWD, new, _RENAME_EXCHANGE, what=target)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EINVAL, errno.ENOSYS):
            raise
        os.rename(source, target)  # there is no target yet, or the file system cannot exchange
    else:
        os.unlink(source)
