"""Image indexes, manifests and configurations (layer 3): from a descriptor to what has to be fetched. Fetches nothing.

The shapes are those of image-spec (image-index.md, manifest.md, config.md) and Docker's schema 2, which differ in media
types only. Only what a runtime needs is decoded. The source of the bytes (a directory, an archive, a registry) supplies
a `read` that returns a blob already checked.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

import msgspec

from minipod.api.references import is_sha256_digest
from minipod.errors import ImageError
from minipod.plan.configs import ImageConfig
from minipod.runtime.images.digest import sha256_hex

REF_NAME = "org.opencontainers.image.ref.name"
CONTAINERD_NAME = "io.containerd.image.name"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
MANIFEST_TYPES = (OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST)
LAYER_TYPES = (
    *(f"application/vnd.oci.image.layer.v1.tar{kind}" for kind in ("", "+gzip", "+zstd")),
    *(f"application/vnd.oci.image.layer.nondistributable.v1.tar{kind}" for kind in ("", "+gzip", "+zstd")),
    *(f"application/vnd.docker.image.rootfs.diff.tar{kind}" for kind in ("", ".gzip", ".zstd")),
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
)
#: as the kernel calls them, where Go has other words
ARCHITECTURES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "i686": "386",
    "i386": "386",
    "loongarch64": "loong64",
    "armv6l": "arm",
    "armv7l": "arm",
    "armv8l": "arm",
}
#: what a host runs, best first (containerd's platforms/compare.go); amd64/v2 and up need more than every amd64 has
VARIANTS = {"x86_64": ("", "v1"), "aarch64": ("", "v8"), "armv6l": ("v6", "v5"), "armv7l": ("", "v7", "v6", "v5")}
MAX_LAYERS = 500  # OVL_MAX_STACK of the kernel's fs/overlayfs
MAX_JSON_BYTES = 4 << 20  # distribution's own limit for manifests

T = TypeVar("T")


class Platform(msgspec.Struct, frozen=True):
    architecture: str = ""
    os: str = ""
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))


class Descriptor(msgspec.Struct, frozen=True, rename="camel"):
    digest: str
    size: int
    media_type: str = ""
    annotations: dict[str, str] | None = None
    platform: Platform | None = None

    def __post_init__(self) -> None:
        if not is_sha256_digest(self.digest):
            raise ValueError(f"{self.digest!r} is no sha256 digest")
        if self.size < 0:
            raise ValueError(f"{self.digest} has {self.size} bytes")

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
    listed: list[Descriptor] | None = msgspec.field(name="layers")  # Go writes null where there is none

    @property
    def layers(self) -> list[Descriptor]:
        return self.listed or []


class _Kind(msgspec.Struct, frozen=True, rename="camel"):
    """An index or a manifest, whatever its media type says: registries have been fooled with media types."""

    schema_version: int = 2
    manifests: object = None
    config: object = None
    layers: object = None


class _RootFS(msgspec.Struct, frozen=True):
    listed: list[str] | None = msgspec.field(name="diff_ids", default=None)

    @property
    def diff_ids(self) -> list[str]:
        return self.listed or []


class _Execution(msgspec.Struct, frozen=True, rename="pascal"):
    entrypoint: list[str] | None = None
    cmd: list[str] | None = None
    env: list[str] | None = None
    working_dir: str | None = None
    user: str | None = None
    stop_signal: str | None = None
    volumes: dict[str, object] | None = None
    exposed_ports: dict[str, object] | None = None


class _ConfigFile(msgspec.Struct, frozen=True):
    rootfs: _RootFS
    config: _Execution | None = None
    architecture: str = ""
    os: str = ""


class FoundImage(msgspec.Struct, frozen=True, kw_only=True):
    """One image: what to fetch, in which order, and what must come out of it."""

    target: Descriptor  # what the name stands for: the manifest, or the index that led to it
    manifest: Descriptor
    config: Descriptor
    layers: list[Descriptor]
    diff_ids: list[str]  # one for each layer, lowest first
    image_config: ImageConfig
    name: str = ""
    small: dict[str, bytes]  # the blobs that were read on the way, by digest

    @property
    def size_bytes(self) -> int:
        return self.manifest.size + self.config.size + sum(layer.size for layer in self.layers)


def read_image(target: Descriptor, read: Callable[[Descriptor], bytes], where: str) -> FoundImage:
    """Follows indexes to this host's platform, reads manifest and configuration. Raises ImageError.

    `read` returns a blob of at most MAX_JSON_BYTES, checked; `where` begins errors.
    """
    small: dict[str, bytes] = {}

    def kept(descriptor: Descriptor) -> bytes:
        if descriptor.size > MAX_JSON_BYTES:
            raise ImageError(f"{where}: {descriptor.digest} is too large: {descriptor.size} bytes")
        small[descriptor.digest] = read(descriptor)
        return small[descriptor.digest]

    top = target
    for _ in range(4):  # an index may point to an index; a chain longer than this is nonsense
        data = kept(top)
        if not _is_index(data, top, where):
            break
        top = choose_platform(decode(data, Index, top.digest, where).manifests, where)
    else:
        raise ImageError(f"{where}: indexes that point to indexes without end")
    manifest = decode(data, Manifest, top.digest, where)
    config = decode(kept(manifest.config), _ConfigFile, manifest.config.digest, where)
    _check(manifest, config, where)
    return FoundImage(
        target=target,
        manifest=top,
        config=manifest.config,
        layers=manifest.layers,
        diff_ids=config.rootfs.diff_ids,
        image_config=_image_config(config.config or _Execution()),
        name=target.name,
        small=small,
    )


def decode(data: bytes, kind: type[T], what: str, where: str) -> T:
    """Raises ImageError."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ImageError(f"{where}: {what} is damaged: {error}") from error


def check(where: str, descriptor: Descriptor, size: int, hexdigest: str) -> None:
    """Raises ImageError unless `size` bytes with this SHA-256 are what the descriptor promised."""
    if size != descriptor.size:
        relation = "more than" if size > descriptor.size else f"{size} of"
        raise ImageError(f"{where}: blob {descriptor.digest} has {relation} {descriptor.size} bytes")
    if hexdigest != descriptor.hex:
        raise ImageError(f"{where}: blob {descriptor.digest} is damaged: it has sha256:{hexdigest}")


def check_data(where: str, descriptor: Descriptor, data: bytes) -> bytes:
    check(where, descriptor, len(data), sha256_hex(data))
    return data


def choose_platform(manifests: list[Descriptor], where: str) -> Descriptor:
    """The entry that suits this host best, the first of equals. Raises ImageError, with what there is."""
    fitting = [descriptor for descriptor in manifests if fits(descriptor)]
    if fitting:
        return min(fitting, key=_rank)
    there = sorted({str(m.platform) for m in manifests if m.platform is not None} - {"unknown/unknown"})
    raise ImageError(f"{where}: no image for linux/{architecture()}; there is {', '.join(there) or 'none at all'}")


def fits(descriptor: Descriptor) -> bool:
    found = descriptor.platform
    return (
        found is not None
        and found.architecture == architecture()
        and found.os in ("", "linux")
        and found.variant in _variants(found.variant)
    )


def _rank(descriptor: Descriptor) -> int:
    variant = descriptor.platform.variant if descriptor.platform is not None else ""
    return _variants(variant).index(variant)


def _variants(wanted: str) -> tuple[str, ...]:
    """Of a machine about which nothing is known: whatever is `wanted`."""
    return VARIANTS.get(os.uname().machine, (wanted,))


def architecture() -> str:
    """This host's, in Go's words."""
    machine = os.uname().machine
    return ARCHITECTURES.get(machine, machine)


def _is_index(data: bytes, descriptor: Descriptor, where: str) -> bool:
    kind = decode(data, _Kind, descriptor.digest, where)
    if kind.schema_version == 1:
        raise ImageError(f"{where}: {descriptor.digest} has Docker's old schema 1, which is not supported any more")
    if kind.manifests is not None and (kind.config is not None or kind.layers is not None):
        raise ImageError(f"{where}: {descriptor.digest} is damaged: an index and a manifest at once")
    return kind.manifests is not None


def _check(manifest: Manifest, config: _ConfigFile, where: str) -> None:
    diff_ids = config.rootfs.diff_ids
    if len(diff_ids) != len(manifest.layers) or not all(map(is_sha256_digest, diff_ids)):
        raise ImageError(
            f"{where}: {len(manifest.layers)} layers, but {len(diff_ids)} valid diff ids in {manifest.config.digest}"
        )
    if len(set(diff_ids)) > MAX_LAYERS:
        raise ImageError(f"{where}: {len(set(diff_ids))} layers; the kernel stacks no more than {MAX_LAYERS}")
    for layer in manifest.layers:
        if layer.media_type not in LAYER_TYPES:
            raise ImageError(
                f"{where}: layer {layer.digest} has media type {layer.media_type!r}; "
                "use gzip, zstd or uncompressed layers"
            )
    if config.architecture and config.architecture != architecture():
        raise ImageError(f"{where}: the image is for {config.architecture}, this host is {architecture()}")
    if config.os not in ("", "linux"):
        raise ImageError(f"{where}: the image is for {config.os}, this host is linux")


def _image_config(config: _Execution) -> ImageConfig:
    return ImageConfig(
        entrypoint=tuple(config.entrypoint or ()),
        cmd=tuple(config.cmd or ()),
        env=tuple(config.env or ()),
        working_dir=config.working_dir or "",
        user=config.user or "",
        stop_signal=config.stop_signal or "",
        volumes=tuple(sorted(config.volumes or ())),
        exposed_ports=tuple(sorted(config.exposed_ports or ())),
    )
