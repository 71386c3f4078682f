"""Images in directories and archives (layer 3): OCI layouts and docker's archives. Checks every byte, unpacks nothing.

The shapes are those of image-spec's image-layout.md, and what `docker save` writes: manifest.json with the names of
configurations and layers.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import json
import os
import posixpath
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol

import msgspec

from minipod.api.references import InvalidReference, Reference, parse_reference
from minipod.errors import ImageError
from minipod.kernel.path import RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, openat2
from minipod.paths import large_files
from minipod.runtime.images import tarstream
from minipod.runtime.images.layers import ALWAYS_ALLOWED_BYTES, MAX_RATIO
from minipod.runtime.images.manifests import (
    DOCKER_MANIFEST,
    MAX_JSON_BYTES,
    Descriptor,
    FoundImage,
    Index,
    check,
    check_data,
    decode,
    fits,
    read_image,
)

CHUNK = 1 << 20
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
MAGIC = {b"\x1f\x8b": ".gzip", b"\x28\xb5": ".zstd"}
MAX_LINKS = 8
MAX_MEMBERS = 100_000  # of an image archive: two or three a layer


class Files(Protocol):
    """Named files, of a directory or of an archive. `where` begins errors."""

    where: str

    def open(self, name: str) -> IO[bytes]:
        """Raises FileNotFoundError, ImageError."""


class Folder:
    def __init__(self, path: Path) -> None:
        self.where = f"image layout {path}"
        self._path = path

    def open(self, name: str) -> IO[bytes]:
        """Always below the folder: its names and links come from strangers."""
        folder_fd = os.open(self._path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fd = openat2(folder_fd, name, os.O_RDONLY | os.O_NONBLOCK, resolve=RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS)
        except OSError as error:
            if error.errno in (errno.EXDEV, errno.ELOOP):
                raise ImageError(f"{self.where}: {name!r} leads out of the directory: copy it with cp -rL") from None
            raise
        finally:
            os.close(folder_fd)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise ImageError(f"{self.where}: {name!r} is not a regular file")
        return open(fd, "rb", buffering=0)


class _Member(NamedTuple):
    name: str
    kind: int
    link: str
    offset: int
    size: int


class _Headers(tarstream.Stream):
    """The headers of an archive in a file: contents are skipped, not read. `at` is where in the file it is."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(lambda: b"")
        self._file = file
        self._end = os.fstat(file.fileno()).st_size
        self.at = 0

    def take(self, size: int) -> bytes:
        data = os.pread(self._file.fileno(), size, self.at)
        self.at += len(data)
        return data

    def skip(self, size: int) -> None:
        self.at += size
        if self.at > self._end:
            raise tarstream.BadLayerError("the archive ends in the middle of a file")


class Archive:
    """Nothing of it is written anywhere: members are read where they are."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self.where = f"image archive {path}"
        self._name = file.name
        self._members: dict[str, _Member] = {}
        headers = _Headers(file)
        try:
            for entry in tarstream.entries(headers):
                name = posixpath.normpath(os.fsdecode(entry.name))
                kind = -1 if entry.parts is not None else entry.kind  # a sparse file is not read as one
                self._members[name] = _Member(name, kind, os.fsdecode(entry.link), headers.at, entry.size)
                if len(self._members) > MAX_MEMBERS:
                    raise ImageError(f"{self.where}: more than {MAX_MEMBERS} members")
                headers.skip(entry.size)
        except tarstream.BadLayerError as error:
            raise ImageError(f"{self.where}: no tar archive: {error}") from error

    def open(self, name: str) -> IO[bytes]:
        """By a descriptor of its own: several layers are read at once."""
        member = self._member(name)
        for _ in range(MAX_LINKS):
            if member.kind not in (tarstream.SYMLINK, tarstream.HARD_LINK):
                break
            base = posixpath.dirname(member.name) if member.kind == tarstream.SYMLINK else ""
            member = self._member(posixpath.join(base, member.link))
        if member.kind != tarstream.REGULAR:
            raise ImageError(f"{self.where}: {name!r} is not a regular file")
        file = open(self._name, "rb", buffering=0)  # noqa: SIM115
        return _Part(file, member.offset, member.size)  # type: ignore[return-value]  # read and close are enough

    def _member(self, name: str) -> _Member:
        found = self._members.get(posixpath.normpath(name))
        if found is None:
            raise FileNotFoundError(name)
        return found


class _Part:
    """Some bytes of a file, read once."""

    def __init__(self, file: IO[bytes], offset: int, size: int) -> None:
        self._file = file
        self._left = size
        file.seek(offset)

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(data)
        return data

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> _Part:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def open_files(path: Path) -> Iterator[Files]:
    """The directory, or the archive, which may be compressed as a whole. Raises ImageError."""
    if path.is_dir():
        yield Folder(path)
        return
    try:
        file = open(path, "rb")  # noqa: SIM115
    except FileNotFoundError:
        raise ImageError(f"image layout {path}: no such directory or archive") from None
    with file:
        expanded = _expanded(file)
        if expanded is None:
            yield Archive(file, path)
            return
        with tempfile.NamedTemporaryFile(prefix="minipod-image-", dir=large_files()) as plain:
            _expand(expanded, plain, max(ALWAYS_ALLOWED_BYTES, MAX_RATIO * path.stat().st_size), path)
            yield Archive(plain, path)


def _expanded(file: IO[bytes]) -> Any:
    """A reader of what is compressed, by its first bytes; None for what is not. The four that docker load takes."""
    head = file.read(6)
    file.seek(0)
    if head[:2] == b"\x1f\x8b":
        return gzip.GzipFile(fileobj=file)
    if head[:4] == b"\x28\xb5\x2f\xfd":
        import zstandard

        return zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
    if head == b"\xfd7zXZ\0":
        import lzma

        return lzma.LZMAFile(file)
    if head[:3] == b"BZh":
        import bz2

        return bz2.BZ2File(file)
    return None


def _expand(source: Any, target: IO[bytes], max_bytes: int, path: Path) -> None:
    size = 0
    while True:
        try:
            chunk = source.read(CHUNK)
        except Exception as error:  # each library has its own
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise ImageError(f"image archive {path} is damaged: {error}") from error
        size += len(chunk)
        if size > max_bytes:
            raise ImageError(f"image archive {path} unpacks to more than {max_bytes} bytes, too much for its size")
        if not chunk:
            break
        target.write(chunk)
    target.seek(0)


class _Blobs:
    """Blobs by their digests, checked as they are read; where one lies is the subclass's."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self.where = files.where

    def fetch(self, descriptor: Descriptor, part: Path, report: Callable[[int], None]) -> None:
        """Copies a blob to the file `part` and checks it on the way. Raises ImageError, OSError."""
        with self._blob(descriptor) as source:
            copy_checked(source, part, descriptor, report, self.where)

    def _read(self, descriptor: Descriptor) -> bytes:
        with self._blob(descriptor) as file:
            return check_data(self.where, descriptor, file.read(descriptor.size + 1))

    def _blob(self, descriptor: Descriptor) -> IO[bytes]:
        """Raises ImageError where it is missing."""
        raise NotImplementedError


class Layout(_Blobs):
    """`oci-layout`, `index.json` and `blobs/`. Everything read by digest is checked."""

    def find_all(self, wanted: Reference | None) -> list[FoundImage]:
        """All images that have names, or the one that is meant. Raises ImageError."""
        with _open(self._files, "index.json", f"{self.where}: no OCI image layout: it has no index.json") as file:
            data = file.read(MAX_JSON_BYTES + 1)
        manifests = decode(data, Index, "index.json", self.where).manifests
        return [read_image(found, self._read, self.where) for found in self._choose(manifests, wanted)]

    def _blob(self, descriptor: Descriptor) -> IO[bytes]:
        missing = f"{self.where}: blob {descriptor.digest} is missing"
        return _open(self._files, f"blobs/sha256/{descriptor.hex}", missing)

    def _choose(self, manifests: list[Descriptor], wanted: Reference | None) -> list[Descriptor]:
        if not manifests:
            raise ImageError(f"{self.where} holds no image")
        if len(manifests) == 1:
            return manifests
        named = [m for m in manifests if wanted is not None and same_name(m.name, wanted)]
        if len(named) == 1:
            return named
        by_platform = [m for m in manifests if fits(m)]
        if len(by_platform) == 1 and all(m.platform is not None for m in manifests):
            return by_platform
        if wanted is None and all(is_full_name(m.name) for m in manifests):
            return manifests
        names = ", ".join(sorted(m.name or m.digest for m in manifests))
        raise ImageError(f"{self.where} holds several images: {names}; say which one with --name")


class SkopeoFolder(_Blobs):
    """What skopeo's `dir:` and `podman save --format docker-dir` write: a manifest, blobs by their digests, no name."""

    def find(self) -> FoundImage:
        """Raises ImageError."""
        with _open(self._files, "manifest.json", f"{self.where}: manifest.json is missing") as file:
            data = file.read(MAX_JSON_BYTES + 1)
        top = Descriptor(f"sha256:{hashlib.sha256(data).hexdigest()}", len(data), "")
        return read_image(top, lambda wanted: data if wanted is top else self._read(wanted), self.where)

    def _blob(self, descriptor: Descriptor) -> IO[bytes]:
        try:
            return self._files.open(descriptor.hex)
        except FileNotFoundError:  # an index's manifests have names of their own
            return _open(
                self._files, f"{descriptor.hex}.manifest.json", f"{self.where}: blob {descriptor.digest} is missing"
            )


class _DockerImage(msgspec.Struct, frozen=True, rename="pascal"):
    """One item of manifest.json."""

    config: str
    layers: list[str]
    repo_tags: list[str] | None = None


class DockerArchive:
    """What `docker save` writes. It has no manifests: one is made, from what the files are."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self.where = files.where
        self._names: dict[str, str] = {}  # digest → file

    def find_all(self, wanted: Reference | None) -> list[tuple[FoundImage, list[str]]]:
        """Each image with its names; only the one called `wanted` where there are several. Raises ImageError."""
        with _open(
            self._files,
            "manifest.json",
            f"{self.where}: neither an OCI image layout nor docker's archive: it has no index.json",
        ) as file:
            images = decode(file.read(MAX_JSON_BYTES + 1), list[_DockerImage], "manifest.json", self.where)
        if wanted is not None and len(images) > 1:
            images = [image for image in images if any(same_name(tag, wanted) for tag in image.repo_tags or ())]
        if not images:
            raise ImageError(f"{self.where} holds no image" + (f" called {wanted}" if wanted else ""))
        return [(self._image(image), image.repo_tags or []) for image in images]

    def fetch(self, descriptor: Descriptor, part: Path, report: Callable[[int], None]) -> None:
        with self._file(self._names[descriptor.digest]) as source:
            copy_checked(source, part, descriptor, report, self.where)

    def _image(self, image: _DockerImage) -> FoundImage:
        with self._file(image.config) as file:
            config = file.read(MAX_JSON_BYTES + 1)
        small = {f"sha256:{hashlib.sha256(config).hexdigest()}": config}
        (config_digest,) = small
        manifest = {
            "schemaVersion": 2,
            "mediaType": DOCKER_MANIFEST,
            "config": {"mediaType": DOCKER_CONFIG, "size": len(config), "digest": config_digest},
            "layers": [self._layer(name) for name in image.layers],
        }
        data = json.dumps(manifest, separators=(",", ":")).encode()
        top = Descriptor(f"sha256:{hashlib.sha256(data).hexdigest()}", len(data), DOCKER_MANIFEST)
        small[top.digest] = data
        return read_image(
            top, lambda descriptor: check_data(self.where, descriptor, small[descriptor.digest]), self.where
        )

    def _layer(self, name: str) -> dict[str, object]:
        digest, size, media_type = hashlib.sha256(), 0, DOCKER_LAYER
        with self._file(name) as file:
            while chunk := file.read(CHUNK):
                if not size:
                    media_type += MAGIC.get(chunk[:2], "")
                size += len(chunk)
                digest.update(chunk)
        found = f"sha256:{digest.hexdigest()}"
        self._names[found] = name
        return {"mediaType": media_type, "size": size, "digest": found}

    def _file(self, name: str) -> IO[bytes]:
        return _open(self._files, name, f"{self.where}: {name!r} is missing")


def copy_checked(
    source: IO[bytes], part: Path, descriptor: Descriptor, report: Callable[[int], None], where: str
) -> None:
    digest = hashlib.sha256()
    size = 0
    with open(part, "wb", buffering=0) as target:
        while chunk := source.read(CHUNK):
            size += len(chunk)
            if size > descriptor.size:
                break
            digest.update(chunk)
            target.write(chunk)
            report(size)
    check(where, descriptor, size, digest.hexdigest())


def same_name(name: str, wanted: Reference) -> bool:
    try:
        return bool(name) and parse_reference(name) == wanted
    except InvalidReference:
        return False


def is_full_name(name: str) -> bool:
    """A repository with its tag; other tools write a bare tag."""
    return "/" in name or ":" in name


def has(files: Files, name: str) -> bool:
    try:
        files.open(name).close()
    except FileNotFoundError:
        return False
    return True


def _open(files: Files, name: str, missing: str) -> IO[bytes]:
    try:
        return files.open(name)
    except FileNotFoundError:
        raise ImageError(missing) from None
