"""OCI image layouts (layer 3): finds an image in a folder and checks every byte it reads. Unpacks and keeps nothing.

The shape is that of image-spec's image-layout.md.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import IO

from minipod.api.references import InvalidReference, Reference, parse_reference
from minipod.errors import ImageError
from minipod.runtime.manifests import Descriptor, FoundImage, Index, check, check_data, decode, fits, read_image

CHUNK = 1 << 20


class Layout:
    """A folder with `oci-layout`, `index.json` and `blobs/`. Everything read by digest is checked."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._where = f"image layout {self.path}"

    def find(self, wanted: Reference | None) -> FoundImage:
        """The one image, or the one called `wanted` where there are several. Raises ImageError."""
        return read_image(self._choose(self.manifests(), wanted), self._read, self._where)

    def manifests(self) -> list[Descriptor]:
        """What index.json lists. Raises ImageError."""
        if self.path.is_file():
            raise ImageError(f"{self.path} is an archive; unpack it first: tar -xf {self.path} -C DIRECTORY")
        if not self.path.is_dir():
            raise ImageError(f"{self._where}: no such folder")
        try:
            data = (self.path / "index.json").read_bytes()
        except FileNotFoundError:
            raise ImageError(f"{self.path} is no OCI image layout: it has no index.json") from None
        return decode(data, Index, "index.json", self._where).manifests

    def fetch(self, descriptor: Descriptor, part: Path, told: Callable[[int], None]) -> None:
        """Copies a blob to the file `part` and checks it on the way. Raises ImageError, OSError."""
        digest = hashlib.sha256()
        size = 0
        with self._open(descriptor) as source, open(part, "wb", buffering=0) as target:
            while chunk := source.read(CHUNK):
                size += len(chunk)
                if size > descriptor.size:
                    break
                digest.update(chunk)
                target.write(chunk)
                told(size)
        check(self._where, descriptor, size, digest.hexdigest())

    def _read(self, descriptor: Descriptor) -> bytes:
        with self._open(descriptor) as file:
            return check_data(self._where, descriptor, file.read(descriptor.size + 1))

    def _open(self, descriptor: Descriptor) -> IO[bytes]:
        path = self.path / "blobs" / "sha256" / descriptor.hex
        try:
            file = open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb", buffering=0)  # noqa: SIM115
        except FileNotFoundError:
            raise ImageError(f"{self._where}: blob {descriptor.digest} is missing") from None
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.close()
            raise ImageError(f"{self._where}: blob {descriptor.digest} is not a regular file")
        return file

    def _choose(self, manifests: list[Descriptor], wanted: Reference | None) -> Descriptor:
        if not manifests:
            raise ImageError(f"{self._where} holds no image")
        if len(manifests) == 1:
            return manifests[0]
        named = [m for m in manifests if wanted is not None and _same_name(m.name, wanted)]
        if len(named) == 1:
            return named[0]
        by_platform = [m for m in manifests if fits(m)]
        if len(by_platform) == 1 and all(m.platform is not None for m in manifests):
            return by_platform[0]
        names = ", ".join(sorted(m.name or m.digest for m in manifests))
        raise ImageError(f"{self._where} holds several images: {names}; say which one with --name")


def _same_name(name: str, wanted: Reference) -> bool:
    try:
        return bool(name) and parse_reference(name) == wanted
    except InvalidReference:
        return False
