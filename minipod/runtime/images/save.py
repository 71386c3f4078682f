"""Writes images out of the store (layer 3): OCI layouts and docker's archives, as a directory or as a tar stream."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Protocol

import msgspec

from minipod.errors import ImageError
from minipod.paths import large_files
from minipod.runtime.images.manifests import CONTAINERD_NAME, OCI_INDEX, OCI_MANIFEST, REF_NAME, Manifest
from minipod.runtime.images.unpack import compression_of

CHUNK = 1 << 20


class SavedImage(msgspec.Struct, frozen=True):
    """What the store knows of an image that is to be written. `reference` may be empty."""

    reference: str
    manifest_digest: str
    diff_ids: tuple[str, ...]


class Output(Protocol):
    def add(self, name: str, source: IO[bytes], size: int) -> None: ...


class FolderOutput:
    """Written in place; a directory that holds something is refused."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._path.mkdir(parents=True, exist_ok=True)
        if any(self._path.iterdir()):
            raise ImageError(f"cannot save to {path}: the directory is not empty")

    def add(self, name: str, source: IO[bytes], size: int) -> None:
        target = self._path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(target, "wb") as file:
            shutil.copyfileobj(source, file, CHUNK)


class TarOutput:
    """A tar stream; the same images give the same bytes."""

    def __init__(self, file: IO[bytes]) -> None:
        self._tar = tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT, bufsize=CHUNK)  # noqa: SIM115

    def add(self, name: str, source: IO[bytes], size: int) -> None:
        member = tarfile.TarInfo(name)
        member.size = size
        self._tar.addfile(member, source)

    def close(self) -> None:
        self._tar.close()


def save_oci(blobs: Path, images: Sequence[SavedImage], output: Output) -> None:
    """An OCI image layout: the blobs as they came, so the digests are those of the registry."""
    seen: set[str] = set()
    listed: list[dict[str, object]] = []
    for image in images:
        data = _blob(blobs, image.manifest_digest).read_bytes()
        manifest = msgspec.json.decode(data, type=Manifest)
        for digest in (image.manifest_digest, manifest.config.digest, *(layer.digest for layer in manifest.layers)):
            if digest not in seen:
                seen.add(digest)
                _add_file(output, f"blobs/sha256/{digest.removeprefix('sha256:')}", _blob(blobs, digest))
        media_type = json.loads(data).get("mediaType") or OCI_MANIFEST
        descriptor: dict[str, object] = {"mediaType": media_type, "digest": image.manifest_digest, "size": len(data)}
        if image.reference:
            descriptor["annotations"] = {REF_NAME: image.reference, CONTAINERD_NAME: image.reference}
        listed.append(descriptor)
    _add(output, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
    _add(output, "index.json", _json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed}))


def save_docker(blobs: Path, images: Sequence[SavedImage], output: Output) -> None:
    """What `docker load` and `podman load` of any age read: layers uncompressed, manifest.json last."""
    seen: set[str] = set()
    listed: dict[str, dict[str, object]] = {}
    for image in images:
        manifest = msgspec.json.decode(_blob(blobs, image.manifest_digest).read_bytes(), type=Manifest)
        config = f"{manifest.config.hex}.json"
        item = listed.setdefault(
            config, {"Config": config, "RepoTags": [], "Layers": [f"{_hex(diff)}.tar" for diff in image.diff_ids]}
        )
        if image.reference and "@" not in image.reference:
            tags = item["RepoTags"]
            assert isinstance(tags, list)
            tags.append(image.reference)
        if config in seen:
            continue
        seen.add(config)
        _add_file(output, config, _blob(blobs, manifest.config.digest))
        for layer, diff_id in zip(manifest.layers, image.diff_ids, strict=True):
            if diff_id not in seen:
                seen.add(diff_id)
                _add_layer(output, f"{_hex(diff_id)}.tar", _blob(blobs, layer.digest), diff_id)
    _add(output, "manifest.json", _json(list(listed.values())))


def _add_layer(output: Output, name: str, blob: Path, diff_id: str) -> None:
    with open(blob, "rb") as file:
        compression = compression_of(file.read(4))
    if compression == "none":
        _add_file(output, name, blob)
        return
    digest = hashlib.sha256()
    with tempfile.TemporaryFile(dir=large_files()) as plain, open(blob, "rb") as packed:
        source: IO[bytes]
        if compression == "gzip":
            source = gzip.GzipFile(fileobj=packed)  # type: ignore[assignment]  # it reads, which is enough
        else:
            import zstandard

            source = zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True)
        while chunk := source.read(CHUNK):
            digest.update(chunk)
            plain.write(chunk)
        if f"sha256:{digest.hexdigest()}" != diff_id:
            raise ImageError(f"cannot save: blob sha256:{blob.name} of the image store is damaged; pull it again")
        size = plain.tell()
        plain.seek(0)
        output.add(name, plain, size)


def _add_file(output: Output, name: str, path: Path) -> None:
    with open(path, "rb") as file:
        output.add(name, file, os.fstat(file.fileno()).st_size)


def _add(output: Output, name: str, data: bytes) -> None:
    output.add(name, io.BytesIO(data), len(data))


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _blob(blobs: Path, digest: str) -> Path:
    return blobs / _hex(digest)


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")


def write_archive(path: str, write: Callable[[Output], None]) -> None:
    """A tar archive at `path`, whole or not at all; `-` is standard output."""
    if path == "-":
        output = TarOutput(sys.stdout.buffer)
        write(output)
        output.close()
        sys.stdout.flush()
        return
    folder = os.path.dirname(os.path.abspath(path))
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".minipod-", delete=False) as file:
        try:
            output = TarOutput(file)
            write(output)
            output.close()
            os.fchmod(file.fileno(), 0o644)
            os.rename(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise
