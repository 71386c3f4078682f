"""OCI image layouts (layer 3): finds an image in a folder and checks every byte it reads. Unpacks and keeps nothing.

The shapes are those of image-spec (image-layout.md, image-index.md, manifest.md, config.md) and Docker's schema 2,
which differ in media types only. Only what a runtime needs is decoded.
"""

from __future__ import annotations

import hashlib
import os
import platform
import stat
from pathlib import Path
from typing import IO, TypeVar

import msgspec

from minipod.api.references import InvalidReference, Reference, is_sha256_digest, parse_reference
from minipod.errors import ImageError
from minipod.plan.configs import ImageConfig

REF_NAME = "org.opencontainers.image.ref.name"
CONTAINERD_NAME = "io.containerd.image.name"
INDEX_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
LAYER_COMPRESSION = {
    "application/vnd.oci.image.layer.v1.tar": "none",
    "application/vnd.oci.image.layer.v1.tar+gzip": "gzip",
    "application/vnd.docker.image.rootfs.diff.tar": "none",
    "application/vnd.docker.image.rootfs.diff.tar.gzip": "gzip",
}
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}
MAX_JSON_BYTES = 4 << 20  # distribution's own limit for manifests
CHUNK = 1 << 20

T = TypeVar("T")


class Platform(msgspec.Struct, frozen=True):
    architecture: str = ""
    os: str = ""


class Descriptor(msgspec.Struct, frozen=True, rename="camel"):
    digest: str
    size: int
    media_type: str = ""
    annotations: dict[str, str] | None = None
    platform: Platform | None = None

    def __post_init__(self) -> None:
        if not is_sha256_digest(self.digest):
            raise ValueError(f"{self.digest!r} is no sha256 digest")

    @property
    def hex(self) -> str:
        return self.digest.removeprefix("sha256:")

    @property
    def name(self) -> str:
        """The image's name as the tool that wrote the layout knew it; may be a bare tag, may be empty."""
        annotations = self.annotations or {}
        return annotations.get(CONTAINERD_NAME) or annotations.get(REF_NAME, "")


class Index(msgspec.Struct, frozen=True):
    manifests: list[Descriptor] = []


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    config: Descriptor
    layers: list[Descriptor]


class _RootFS(msgspec.Struct, frozen=True):
    diff_ids: list[str] = []


class _Execution(msgspec.Struct, frozen=True, rename="pascal"):
    entrypoint: list[str] | None = None
    cmd: list[str] | None = None
    env: list[str] | None = None
    working_dir: str | None = None
    user: str | None = None
    stop_signal: str | None = None
    volumes: dict[str, object] | None = None


class _ConfigFile(msgspec.Struct, frozen=True):
    rootfs: _RootFS
    config: _Execution | None = None
    architecture: str = ""


class FoundImage(msgspec.Struct, frozen=True, kw_only=True):
    """One image of a layout: what to read, in which order, and what must come out of it."""

    manifest: Descriptor
    config: Descriptor
    layers: list[Descriptor]
    diff_ids: list[str]  # one for each layer, lowest first
    image_config: ImageConfig
    name: str

    @property
    def size_bytes(self) -> int:
        return self.manifest.size + self.config.size + sum(layer.size for layer in self.layers)


class Layout:
    """A folder with `oci-layout`, `index.json` and `blobs/`. Everything read by digest is checked."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def find(self, wanted: Reference | None) -> FoundImage:
        """The one image, or the one called `wanted` where there are several. Raises ImageError."""
        if self.path.is_file():
            raise ImageError(f"{self.path} is an archive; unpack it first: tar -xf {self.path} -C DIRECTORY")
        if not self.path.is_dir():
            raise ImageError(f"image layout {self.path}: no such folder")
        try:
            data = (self.path / "index.json").read_bytes()
        except FileNotFoundError:
            raise ImageError(f"{self.path} is no OCI image layout: it has no index.json") from None
        manifests = self._decode(data, Index, "index.json").manifests
        chosen = self._choose(manifests, wanted)
        return self._read_image(chosen)

    def open_blob(self, descriptor: Descriptor) -> IO[bytes]:
        """The blob's file, not yet checked: `copy_verified` does that. Raises ImageError."""
        path = self.path / "blobs" / "sha256" / descriptor.hex
        try:
            file = open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb", buffering=0)  # noqa: SIM115
        except FileNotFoundError:
            raise ImageError(f"image layout {self.path}: blob {descriptor.digest} is missing") from None
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.close()
            raise ImageError(f"image layout {self.path}: blob {descriptor.digest} is not a regular file")
        return file

    def read_blob(self, descriptor: Descriptor) -> bytes:
        """A small blob, checked. Raises ImageError."""
        if descriptor.size > MAX_JSON_BYTES:
            raise ImageError(f"image layout {self.path}: {descriptor.digest} is too large: {descriptor.size} bytes")
        with self.open_blob(descriptor) as file:
            data = file.read(descriptor.size + 1)
        check(self.path, descriptor, len(data), hashlib.sha256(data).hexdigest())
        return data

    def _choose(self, manifests: list[Descriptor], wanted: Reference | None) -> Descriptor:
        if not manifests:
            raise ImageError(f"image layout {self.path} holds no image")
        if len(manifests) == 1:
            return manifests[0]
        named = [m for m in manifests if wanted is not None and _same_name(m.name, wanted)]
        if len(named) == 1:
            return named[0]
        by_platform = [m for m in manifests if _fits(m)]
        if len(by_platform) == 1 and all(m.platform is not None for m in manifests):
            return by_platform[0]
        names = ", ".join(sorted(m.name or m.digest for m in manifests))
        raise ImageError(f"image layout {self.path} holds several images: {names}; say which one with --name")

    def _read_image(self, chosen: Descriptor) -> FoundImage:
        top = chosen
        data = self.read_blob(top)
        for _ in range(3):  # an index may point to an index; a chain longer than this is nonsense
            if top.media_type not in INDEX_TYPES:
                break
            candidates = [m for m in self._decode(data, Index, top.digest).manifests if _fits(m)]
            if not candidates:
                raise ImageError(f"image layout {self.path}: no image for linux/{architecture()}")
            top = candidates[0]
            data = self.read_blob(top)
        manifest = self._decode(data, Manifest, top.digest)
        config = self._decode(self.read_blob(manifest.config), _ConfigFile, manifest.config.digest)
        self._check_layers(manifest, config)
        return FoundImage(
            manifest=top,
            config=manifest.config,
            layers=manifest.layers,
            diff_ids=config.rootfs.diff_ids,
            image_config=_image_config(config.config or _Execution()),
            name=chosen.name,
        )

    def _check_layers(self, manifest: Manifest, config: _ConfigFile) -> None:
        diff_ids = config.rootfs.diff_ids
        if len(diff_ids) != len(manifest.layers) or not all(map(is_sha256_digest, diff_ids)):
            raise ImageError(
                f"image layout {self.path}: {len(manifest.layers)} layers, but {len(diff_ids)} valid diff ids in "
                f"{manifest.config.digest}"
            )
        for layer in manifest.layers:
            if layer.media_type not in LAYER_COMPRESSION:
                raise ImageError(
                    f"image layout {self.path}: layer {layer.digest} has media type {layer.media_type!r}; "
                    "use gzip or uncompressed layers"
                )
        if config.architecture and config.architecture != architecture():
            raise ImageError(
                f"image layout {self.path}: the image is for {config.architecture}, this host is {architecture()}"
            )

    def _decode(self, data: bytes, kind: type[T], what: str) -> T:
        try:
            return msgspec.json.decode(data, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ImageError(f"image layout {self.path}: {what} is damaged: {error}") from error


def copy_verified(source: IO[bytes], target: IO[bytes], descriptor: Descriptor, where: object) -> None:
    """Copies a blob and checks size and digest on the way; what came out wrong is the caller's to remove."""
    digest = hashlib.sha256()
    size = 0
    while chunk := source.read(CHUNK):
        size += len(chunk)
        if size > descriptor.size:
            break
        digest.update(chunk)
        target.write(chunk)
    check(where, descriptor, size, digest.hexdigest())


def check(where: object, descriptor: Descriptor, size: int, hexdigest: str) -> None:
    if size != descriptor.size:
        relation = "more than" if size > descriptor.size else f"{size} of"
        raise ImageError(f"image layout {where}: blob {descriptor.digest} has {relation} {descriptor.size} bytes")
    if hexdigest != descriptor.hex:
        raise ImageError(f"image layout {where}: blob {descriptor.digest} is damaged: it has sha256:{hexdigest}")


def architecture() -> str:
    """This host's, in Go's words."""
    machine = platform.machine()
    return ARCHITECTURES.get(machine, machine)


def _fits(descriptor: Descriptor) -> bool:
    found = descriptor.platform
    return found is not None and found.architecture == architecture() and found.os in ("", "linux")


def _same_name(name: str, wanted: Reference) -> bool:
    try:
        return bool(name) and parse_reference(name) == wanted
    except InvalidReference:
        return False


def _image_config(config: _Execution) -> ImageConfig:
    return ImageConfig(
        entrypoint=tuple(config.entrypoint or ()),
        cmd=tuple(config.cmd or ()),
        env=tuple(config.env or ()),
        working_dir=config.working_dir or "",
        user=config.user or "",
        stop_signal=config.stop_signal or "",
        volumes=tuple(sorted(config.volumes or ())),
    )
