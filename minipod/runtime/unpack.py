"""Unpacks one image layer (layer 3). A program of its own that locks itself into the target; starts nothing else.

An archive comes from strangers: absolute names, `..`, links that point outside. So `images.py` runs this file as
a separate process, which enters the target by chroot before it reads the first header; whatever a name then says,
it ends below the target. It imports nothing but the standard library, and nothing at all once it is inside:
a late import would run code out of the archive.

    python3 -I -S -X utf8 unpack.py TARGET gzip|none < BLOB

writes one line of JSON: {"diff_id": "sha256:…", "size": bytes of the archive} or {"error": "…", "errno": n}.
The layer is left as overlayfs wants it: a whiteout is a character device 0:0, an opaque folder carries
trusted.overlay.opaque (kernel Documentation/filesystems/overlayfs.rst; image-spec layer.md).
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import stat
import sys
import tarfile
import zlib
from typing import IO, Protocol

WHITEOUT_PREFIX = ".wh."
WHITEOUT_META_PREFIX = ".wh..wh."
WHITEOUT_OPAQUE = ".wh..wh..opq"
OPAQUE_XATTR = "trusted.overlay.opaque"
XATTR_RECORD = "SCHILY.xattr."
#: what an archive may set; trusted.overlay.* would let it redirect lookups of the finished overlay
XATTRS_KEPT = ("security.capability", "system.posix_acl_access", "system.posix_acl_default", "user.")
CHUNK = 1 << 20
END_OF_ARCHIVE = ("EmptyHeaderError", "EOFHeaderError")  # tarfile's private names for its two regular ends
MAX_ID = 2**32 - 2


class BadLayerError(Exception):
    """The archive is not one that a runtime may unpack; the text says what is wrong with which entry."""


class Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


class HashingReader:
    """Passes reads through and hashes them: the diff id is the digest of the uncompressed archive."""

    def __init__(self, source: Readable) -> None:
        self._source = source
        self._hash = hashlib.sha256()
        self.size = 0

    def read(self, size: int = CHUNK) -> bytes:
        data = self._source.read(size)
        self._hash.update(data)
        self.size += len(data)
        return data

    def drain(self) -> None:
        """Reads the padding after the archive's end, which belongs to the digest."""
        while self.read(CHUNK):
            pass

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"


class StrictTarInfo(tarfile.TarInfo):
    """tarfile takes a damaged header behind the first for the archive's end; here it is an error."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> StrictTarInfo:
        try:
            return super().fromtarfile(tar)
        except tarfile.HeaderError as error:
            if type(error).__name__ in END_OF_ARCHIVE:
                raise
            raise BadLayerError(f"damaged header: {error}") from error


def unpack(source: Readable) -> None:
    """Unpacks an uncompressed tar stream below `/`, which is the target by now. Raises BadLayerError, OSError."""
    folders: list[tuple[str, tarfile.TarInfo]] = []
    with tarfile.open(
        fileobj=source, mode="r|", bufsize=CHUNK, encoding="utf-8", errors="surrogateescape", tarinfo=StrictTarInfo
    ) as tar:  # type: ignore[call-overload]  # typeshed wants a file object; only read() is used in stream mode
        for member in tar:
            tar.members.clear()  # a stream is never rewound; keeping every header would grow without bound
            path = os.path.normpath(f"/{member.name}")
            if os.path.basename(path).startswith(WHITEOUT_PREFIX):
                apply_whiteout(path)
                continue
            make_entry(tar, member, path)
            if member.isdir():
                folders.append((path, member))
    for path, member in reversed(folders):  # last, as each new entry touches its folder
        if os.path.isdir(path) and not os.path.islink(path):
            os.utime(path, (member.mtime, member.mtime), follow_symlinks=False)


def apply_whiteout(path: str) -> None:
    folder, name = os.path.split(path)
    make_parents(folder)
    if name == WHITEOUT_OPAQUE:
        os.setxattr(folder, OPAQUE_XATTR, b"y")
        return
    if name.startswith(WHITEOUT_META_PREFIX):  # aufs' own bookkeeping, in images of old
        return
    hidden = name.removeprefix(WHITEOUT_PREFIX)
    if hidden in ("", ".", ".."):
        raise BadLayerError(f"whiteout of nothing: {name!r}")
    target = os.path.join(folder, hidden)
    if not os.path.lexists(target):  # what the same layer brings stays; a whiteout is for the layers below
        os.mknod(target, stat.S_IFCHR | 0o000, os.makedev(0, 0))


def make_entry(tar: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> None:
    """One file, folder, link or device with owner, mode, attributes and time."""
    if not 0 <= member.uid <= MAX_ID or not 0 <= member.gid <= MAX_ID:
        raise BadLayerError(f"{member.name!r}: owner {member.uid}:{member.gid} is out of range")
    make_parents(os.path.dirname(path))
    make_room(path, member)
    mode = stat.S_IMODE(member.mode)
    if member.isreg():
        write_file(tar, member, path)
    elif member.isdir():
        if not os.path.isdir(path):
            os.mkdir(path, 0o700)
    elif member.issym():
        os.symlink(member.linkname, path)
    elif member.islnk():
        os.link(os.path.normpath(f"/{member.linkname}"), path, follow_symlinks=False)
        return  # owner, mode and time are those of the first name
    elif member.ischr() or member.isblk():
        kind = stat.S_IFCHR if member.ischr() else stat.S_IFBLK
        os.mknod(path, kind | 0o600, os.makedev(member.devmajor, member.devminor))
    elif member.isfifo():
        os.mkfifo(path, 0o600)
    else:
        raise BadLayerError(f"{member.name!r}: unknown type {member.type!r}")
    os.chown(path, member.uid, member.gid, follow_symlinks=False)
    if not member.issym():
        os.chmod(path, mode)  # after chown, which clears set-uid
    set_xattrs(member, path)
    os.utime(path, (member.mtime, member.mtime), follow_symlinks=False)


def make_parents(folder: str) -> None:
    """An archive need not name the folders that its entries are in."""
    if not os.path.isdir(folder):
        os.makedirs(folder, 0o755, exist_ok=True)


def make_room(path: str, member: tarfile.TarInfo) -> None:
    """A later entry replaces an earlier one of its name; only a folder is kept for a folder."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(found.st_mode):
        os.unlink(path)
    elif not member.isdir():
        remove_tree(path)


def remove_tree(path: str) -> None:
    """Inside the chroot and alone there, so names are safe; shutil is not loaded here."""
    for folder, folders, files in os.walk(path, topdown=False):
        for name in files:
            os.unlink(os.path.join(folder, name))
        for name in folders:
            inner = os.path.join(folder, name)
            os.unlink(inner) if os.path.islink(inner) else os.rmdir(inner)
    os.rmdir(path)


def write_file(tar: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> None:
    content = tar.extractfile(member)
    if content is None:
        raise BadLayerError(f"{member.name!r}: no content")
    with content, open(path, "xb", buffering=0) as file:
        copy(content, file, sparse=member.issparse())
        if file.tell() != member.size:
            raise BadLayerError(f"{member.name!r}: {file.tell()} of {member.size} bytes")
        file.truncate(member.size)


def copy(content: IO[bytes], file: IO[bytes], sparse: bool) -> None:
    while chunk := content.read(CHUNK):
        if sparse and not any(chunk):
            file.seek(len(chunk), os.SEEK_CUR)
            continue
        view = memoryview(chunk)
        while view:
            view = view[file.write(view) :]


def set_xattrs(member: tarfile.TarInfo, path: str) -> None:
    for record, value in member.pax_headers.items():
        name = record.removeprefix(XATTR_RECORD)
        if name == record or not name.startswith(XATTRS_KEPT) or name.startswith("user.overlay."):
            continue
        os.setxattr(path, name, value.encode("utf-8", "surrogateescape"), follow_symlinks=False)


def enter(target: str) -> None:
    """From here on `/` is the target, and no module can be loaded any more."""
    os.chroot(target)
    os.chdir("/")
    os.umask(0)
    sys.path.clear()
    sys.meta_path.clear()


def main() -> int:
    target, compression = sys.argv[1:]
    raw = os.fdopen(os.dup(0), "rb", CHUNK)
    reader = HashingReader(gzip.GzipFile(fileobj=raw, mode="rb") if compression == "gzip" else raw)
    answer: dict[str, object]
    try:
        enter(target)
        unpack(reader)
        reader.drain()
        answer = {"diff_id": reader.digest, "size": reader.size}
    except OSError as error:
        # gzip's own errors are OSErrors without a number
        answer = {"error": error.strerror or str(error), "errno": error.errno or 0, "path": error.filename or ""}
    except (BadLayerError, tarfile.TarError, EOFError, zlib.error, ValueError, OverflowError) as error:
        answer = {"error": str(error) or type(error).__name__, "errno": 0, "path": ""}
    print(json.dumps(answer, default=repr))
    return 1 if "error" in answer else 0


if __name__ == "__main__":
    sys.exit(main())
