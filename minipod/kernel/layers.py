"""Files in a stack of overlayfs layers that is not mounted (layer 1): found as overlayfs would show them. No policy.

For a look into an image before its container exists: it takes no mount and no process. What the layers say is obeyed
as in a mounted root: upper before lower, whiteouts, opaque directories, links resolved inside (kernel
Documentation/filesystems/overlayfs.rst). Nothing here follows a link of the host or crosses one of its mounts.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Sequence

from minipod.kernel.path import (
    MAX_LINKS,
    RESOLVE_BENEATH,
    RESOLVE_NO_SYMLINKS,
    RESOLVE_NO_XDEV,
    open_in_root,
    openat2,
)

_OPAQUE = "trusted.overlay.opaque"
_MAX_STEPS = 64  # names on the way: links may lead along thousands, and each is looked up in hundreds of layers
_WITHIN = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV


def read_in_layers(layers: Sequence[str], path: str, limit: int) -> bytes:
    """The whole of a regular file; `layers` lowest first. Raises OSError, EINVAL for what is none, EFBIG for more."""
    layer, place = _find(list(reversed(layers)), path)
    layer_fd = os.open(layer, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return _read_whole(lambda flags: openat2(layer_fd, place or ".", flags, 0, _WITHIN), path, limit)
    finally:
        os.close(layer_fd)


def read_in_root(root_fd: int, path: str, limit: int) -> bytes:
    """The same below a root that is mounted."""
    return _read_whole(lambda flags: open_in_root(root_fd, path, flags), path, limit)


def _read_whole(opened: Callable[[int], int], path: str, limit: int) -> bytes:
    """What is opened is looked at before it is opened for reading: a device may act on that, a FIFO wait."""
    for flags in (os.O_PATH, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY):
        fd = opened(flags)
        found = os.fstat(fd)
        if flags == os.O_PATH or not stat.S_ISREG(found.st_mode):
            os.close(fd)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "is no regular file", path)
    try:
        data = b""
        while found.st_size <= limit and len(data) <= limit:
            # one more than there is; all of `limit` would be memory to clear
            chunk = os.read(fd, min(limit, found.st_size) + 1 - min(len(data), found.st_size))
            if not chunk:
                break
            data += chunk
    finally:
        os.close(fd)
    if max(len(data), found.st_size) > limit:
        raise OSError(errno.EFBIG, f"has more than {limit} bytes", path)
    return data


def _find(layers: list[str], path: str) -> tuple[str, str]:
    """(layer, place in it) of what the path leads to; `layers` uppermost first. Raises OSError."""
    trail: list[list[tuple[str, str]]] = [[(layer, "") for layer in layers]]
    parts, links, steps = _parts(path), 0, 0
    while parts:
        part = parts.pop(0)
        steps += 1
        if steps > _MAX_STEPS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        if part == "..":
            trail = trail[:-1] or trail[:1]
            continue
        found = _look_up(trail[-1], part, path)
        layer, place = found[0]
        mode = os.lstat(f"{layer}/{place}").st_mode
        if stat.S_ISLNK(mode):
            links += 1
            if links > MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            target = os.readlink(f"{layer}/{place}")
            parts[:0] = _parts(target)
            if target.startswith("/"):
                trail = trail[:1]
        elif not parts:
            return layer, place
        elif stat.S_ISDIR(mode):
            trail.append(found)
        else:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
    return trail[-1][0]


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def _look_up(folders: list[tuple[str, str]], name: str, path: str) -> list[tuple[str, str]]:
    """Where the name is: in one layer, or as a directory in several that are merged."""
    merged: list[tuple[str, str]] = []
    for layer, folder in folders:
        place = f"{folder}/{name}".lstrip("/")
        try:
            found = os.lstat(f"{layer}/{place}")
        except FileNotFoundError:
            continue
        if _is_whiteout(found):
            break
        if not stat.S_ISDIR(found.st_mode):
            if not merged:
                return [(layer, place)]
            break
        merged.append((layer, place))
        if _is_opaque(f"{layer}/{place}"):
            break
    if not merged:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    return merged


def _is_whiteout(found: os.stat_result) -> bool:
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


def _is_opaque(folder: str) -> bool:
    try:
        return os.getxattr(folder, _OPAQUE, follow_symlinks=False) == b"y"
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
            return False
        raise
