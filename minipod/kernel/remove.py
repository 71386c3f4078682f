"""Removes trees that a container could write to (layer 1): by descriptors, crossing no mount, following no link."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator

from minipod.kernel.path import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, RESOLVE_NO_XDEV, openat2

_MAX_DEPTH = 64
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK
_RESOLVE = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV


def remove_tree(path: str) -> None:
    """Remove `path` with all that is below it, following no link and crossing no mount. Idempotent.

    Everything is opened relative to its directory's descriptor, so a directory that is replaced by a link during the
    removal is not followed. A mount point (for openat2's RESOLVE_NO_XDEV also a bind of the same file system) stops the
    removal before it is entered. Only `path` itself is looked up by name: its parents must be the caller's own. Raises
    OSError: EXDEV names a mount point in the tree.
    """
    parent, name = os.path.split(os.path.abspath(path))
    try:
        parent_fd = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        remove_tree_at(parent_fd, name, path)
    finally:
        os.close(parent_fd)


def remove_tree_at(parent_fd: int, name: str, path: str) -> None:
    """`remove_tree` of an entry of an open directory; `path`: for errors.

    Depth first with a bounded number of descriptors: directories below `_MAX_DEPTH` are first moved to the top.
    """
    if _unlinked(parent_fd, name):
        return
    first = _entered(parent_fd, name, path)
    if first is None:
        return
    stack: list[tuple[int, str, Iterator[str]]] = [(first, name, iter(_names(first)))]
    try:
        while stack:
            fd, own_name, names = stack[-1]
            entry = next(names, None)
            if entry is None:
                above = stack[-2][0] if len(stack) > 1 else parent_fd
                if _rmdir(above, own_name):
                    stack.pop()
                    os.close(fd)
                else:  # a file was created in it
                    stack[-1] = (fd, own_name, iter(_names(fd)))
            elif not _unlinked(fd, entry):
                if len(stack) == _MAX_DEPTH:
                    _move_up(fd, entry, first)
                    continue
                child = _entered(fd, entry, f"{path}/…/{entry}")
                if child is not None:
                    stack.append((child, entry, iter(_names(child))))
    finally:
        for fd, _, _ in stack:
            os.close(fd)


def _move_up(fd: int, name: str, top_fd: int) -> None:
    """Rename a directory to a new name in the top directory, which is listed again before it is removed."""
    number = 0
    while True:
        try:
            return os.rename(name, f".removing-{number}", src_dir_fd=fd, dst_dir_fd=top_fd)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise
        number += 1


def _names(fd: int) -> list[str]:
    os.lseek(fd, 0, os.SEEK_SET)
    return os.listdir(fd)


def _unlinked(dir_fd: int, name: str) -> bool:
    """Unlink what is not a directory; False for a directory. unlink(2) never follows a link."""
    try:
        os.unlink(name, dir_fd=dir_fd)
    except FileNotFoundError:
        return True
    except IsADirectoryError:
        return False
    except PermissionError as error:
        # EPERM where unlink of a directory is refused so (POSIX), or the file is immutable
        if error.errno == errno.EPERM and stat.S_ISDIR(os.lstat(name, dir_fd=dir_fd).st_mode):
            return False
        raise
    return True


def _entered(dir_fd: int, name: str, path: str) -> int | None:
    """A descriptor of the directory; None when it is gone. Raises OSError: EXDEV for a mount point."""
    try:
        return openat2(dir_fd, name, _OPEN, 0, _RESOLVE)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.EXDEV:
            raise OSError(errno.EXDEV, "is a mount point; unmount it first", path) from None
        # replaced by a link or a file in between: then it can be unlinked
        if error.errno in (errno.ELOOP, errno.ENOTDIR) and _unlinked(dir_fd, name):
            return None
        raise


def _rmdir(parent_fd: int, name: str) -> bool:
    try:
        os.rmdir(name, dir_fd=parent_fd)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    return True
