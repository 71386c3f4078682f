"""The directory of static pods (layer 5): which files are there, and what each stands for. Starts no pods.

As pkg/kubelet/config/file.go, but only names that end with a manifest's suffix count: the kubelet reads editors' copies
too. A file is read again when its inode, size or times have changed. Nothing here is waited for but the file system.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Collection
from typing import NamedTuple

from minipod.api.static_pod import StaticPod
from minipod.config import read_settings
from minipod.errors import ManifestError

SUFFIXES = (".yaml", ".yml", ".json")
UNFINISHED_S = 10.0  # a file that someone has open for writing is read after so long without a write

Read = Callable[[str, str], StaticPod]
"""(text, path) -> the pod. Raises ManifestError."""


class StaticFile(NamedTuple):
    """One file. `pod` None: it is broken (`problem` says how), or someone is still writing it (no problem)."""

    path: str
    pod: StaticPod | None
    problem: str = ""


class Found(NamedTuple):
    """What a look has found. `ignored`: paths that are no manifests."""

    files: tuple[StaticFile, ...] = ()
    ignored: tuple[str, ...] = ()

    @property
    def has_unfinished(self) -> bool:
        return any(file.pod is None and not file.problem for file in self.files)


_Identity = tuple[int, ...]


class Directory:
    """Remembers what it has read. `look` is called in one thread at a time."""

    def __init__(self, path: str, read: Read) -> None:
        self.path = path
        self._read = read
        self._known: dict[str, tuple[_Identity, StaticFile]] = {}

    def look(self, unfinished: Collection[str] = ()) -> Found:
        """All files, by name. `unfinished`: names that have been written to and not closed since.

        A directory that is not there has none. Raises OSError where it cannot be read: that means nothing of its files.
        """
        try:
            names = sorted(os.listdir(self.path))
        except FileNotFoundError:
            names = []
        files, ignored, known = [], [], {}
        for name in names:
            if name.startswith("."):
                continue
            path = os.path.join(self.path, name)
            if not name.endswith(SUFFIXES):
                ignored.append(path)
                continue
            file = self._file(path, name in unfinished)
            if file is not None:
                files.append(file)
                if path in self._known:
                    known[path] = self._known[path]
        self._known = known
        return Found(tuple(files), tuple(ignored))

    def _file(self, path: str, is_unfinished: bool) -> StaticFile | None:
        """None: it has gone since it was listed."""
        try:
            if is_unfinished and _is_being_written(os.lstat(path)):
                return StaticFile(path, None)
            identity = _identity(os.stat(path))
            before = self._known.get(path)
            if before is not None and before[0] == identity:
                return before[1]
            data = read_settings(path)
            if _identity(os.stat(path)) != identity:
                return StaticFile(path, None)
        except OSError as error:
            self._known.pop(path, None)
            if isinstance(error, FileNotFoundError) and not os.path.lexists(path):
                return None
            return StaticFile(path, None, f"{path}: cannot be read: {_words(error, path)}")
        file = self._decoded(path, data)
        self._known[path] = identity, file
        return file

    def _decoded(self, path: str, data: bytes) -> StaticFile:
        try:
            return StaticFile(path, self._read(data.decode(), path))
        except UnicodeDecodeError:
            return StaticFile(path, None, f"{path}: is not UTF-8")
        except ManifestError as error:
            return StaticFile(path, None, str(error))


def _identity(found: os.stat_result) -> _Identity:
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _is_being_written(found: os.stat_result) -> bool:
    """Whether a file of which no close was seen is worth waiting for; a link to another one is never closed."""
    is_alone = stat.S_ISREG(found.st_mode) and found.st_nlink == 1
    return is_alone and -UNFINISHED_S < time.time() - found.st_mtime < UNFINISHED_S


def _words(error: OSError, path: str) -> str:
    if isinstance(error, FileNotFoundError) and os.path.islink(path):
        return f"a link to {os.readlink(path)}, which is not there"
    return (error.strerror or str(error)).lower()
