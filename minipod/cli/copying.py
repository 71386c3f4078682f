"""Copies trees between two directories that are open (layer 6), neither of which is trusted.

Every name is opened relative to its directory's descriptor and never followed where it is a link; what is written is a
new file that takes the place of the old one by a rename. So a link on either side, there before or put there during
the copy, leads nowhere (CVE-2019-1002101, CVE-2019-14271: there is no archive and no program of the image).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

from minipod.errors import UsageError
from minipod.kernel.path import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CHUNK = 1 << 20
_MAX_DEPTH = 200  # three calls and three descriptors each
_UNKNOWN_SIZE = 1 << 20  # of a file that says it is empty, as those of /proc do


class Copier:
    """`links`: copy symbolic links (into a container), else they are left out with a warning (out of a container).

    `owner`: (uid, gid) of what is made; None: the source's. `preserve`: keep permissions and times.
    """

    def __init__(
        self, warn: Callable[[str], None], *, links: bool, owner: tuple[int, int] | None, preserve: bool = True
    ) -> None:
        self._warn = warn
        self._links = links
        self._owner = owner
        self._preserve = preserve

    def copy(self, source_fd: int, target_fd: int, name: str, shown: str, depth: int = 0) -> None:
        """What `source_fd` (O_PATH) names becomes `name` in the directory `target_fd`. Raises OSError, UsageError."""
        found = os.fstat(source_fd)
        if stat.S_ISREG(found.st_mode):
            self._copy_file(source_fd, found, target_fd, name)
        elif stat.S_ISDIR(found.st_mode):
            if depth > _MAX_DEPTH:
                raise UsageError(f"{shown}: more than {_MAX_DEPTH} directories in each other")
            self._copy_folder(source_fd, found, target_fd, name, shown, depth)
        elif stat.S_ISLNK(found.st_mode):
            self._copy_link(source_fd, found, target_fd, name, shown)
        else:
            self._warn(f"skipping {shown}: neither a file nor a directory")

    def copy_contents(self, source_fd: int, folder_fd: int, shown: str, depth: int = 0) -> None:
        """Everything in the directory `source_fd` into the directory `folder_fd`."""
        listed = os.open(f"/proc/self/fd/{source_fd}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in sorted(os.listdir(listed)):
                try:
                    fd = openat2(listed, name, os.O_PATH | os.O_NOFOLLOW, 0, RESOLVE_BENEATH)
                except FileNotFoundError:
                    continue  # removed during the copy
                try:
                    self.copy(fd, folder_fd, name, f"{shown}/{name}", depth)
                finally:
                    os.close(fd)
        finally:
            os.close(listed)

    def _copy_file(self, source_fd: int, found: os.stat_result, target_fd: int, name: str) -> None:
        _refuse_too_large(found.st_size, target_fd)
        read_fd = os.open(f"/proc/self/fd/{source_fd}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            size = found.st_size or _UNKNOWN_SIZE
            temporary = f".{name[:200]}.minipod-{os.getpid()}"
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            write_fd = os.open(temporary, flags, 0o600, dir_fd=target_fd)
            try:
                _copy_bytes(read_fd, write_fd, size)
                self._finish(write_fd, found)
                try:
                    os.rename(temporary, name, src_dir_fd=target_fd, dst_dir_fd=target_fd)
                except OSError as error:
                    if error.errno != errno.EBUSY:
                        raise
                    _overwrite(read_fd, target_fd, name, size)  # a mount point, such as /etc/hosts
                    os.unlink(temporary, dir_fd=target_fd)
            except BaseException:
                _forget(target_fd, temporary)
                raise
            finally:
                os.close(write_fd)
        finally:
            os.close(read_fd)

    def _copy_folder(
        self, source_fd: int, found: os.stat_result, target_fd: int, name: str, shown: str, depth: int
    ) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=target_fd)
            made = True
        except FileExistsError:
            made = False
        try:
            folder_fd = openat2(target_fd, name, _FOLDER, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise UsageError(f"{shown}: the target has a link or a file of this name; it is not followed") from None
            raise
        try:
            self.copy_contents(source_fd, folder_fd, shown, depth + 1)
            if made:
                self._finish(folder_fd, found)
        finally:
            os.close(folder_fd)

    def _copy_link(self, source_fd: int, found: os.stat_result, target_fd: int, name: str, shown: str) -> None:
        text = os.readlink("", dir_fd=source_fd)
        if not self._links:
            self._warn(f'skipping symlink: "{shown}" -> "{text}"')
            return
        _forget(target_fd, name)
        os.symlink(text, name, dir_fd=target_fd)
        uid, gid = self._owner or (found.st_uid, found.st_gid)
        os.chown(name, uid, gid, dir_fd=target_fd, follow_symlinks=False)

    def _finish(self, fd: int, found: os.stat_result) -> None:
        """Owner first: changing it clears set-user-ID, which is not kept either."""
        uid, gid = self._owner or (found.st_uid, found.st_gid)
        os.fchown(fd, uid, gid)
        folder = stat.S_ISDIR(found.st_mode)
        plain = 0o755 if folder else 0o755 if found.st_mode & 0o100 else 0o644
        os.fchmod(fd, stat.S_IMODE(found.st_mode) & 0o1777 if self._preserve else plain)
        if self._preserve:
            os.utime(fd, ns=(found.st_atime_ns, found.st_mtime_ns))


def _refuse_too_large(size: int, target_fd: int) -> None:
    """A file of holes has any size: nothing is begun that the target has no room for."""
    there = os.fstatvfs(target_fd)
    if size > there.f_bavail * there.f_frsize:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _copy_bytes(read_fd: int, write_fd: int, size: int) -> None:
    """What the file had when it was opened: a file that grows during the copy has no end (tar does the same)."""
    while size > 0:
        data = os.read(read_fd, min(_CHUNK, size))
        if not data:
            return
        size -= len(data)
        view = memoryview(data)
        while view:
            view = view[os.write(write_fd, view) :]


def _overwrite(read_fd: int, target_fd: int, name: str, size: int) -> None:
    os.lseek(read_fd, 0, os.SEEK_SET)
    flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    fd = openat2(target_fd, name, flags, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "is no regular file", name)
        os.ftruncate(fd, 0)
        _copy_bytes(read_fd, fd, size)
    finally:
        os.close(fd)


def _forget(folder_fd: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=folder_fd)
    except FileNotFoundError:
        pass
