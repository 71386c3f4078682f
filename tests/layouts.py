"""Builds small OCI image layouts for tests, also wrong ones."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from minipod.runtime.images.layout_writer import encode, write_blob
from minipod.runtime.images.manifests import architecture

MEDIA = "application/vnd.oci.image"

Entry = tuple[tarfile.TarInfo, bytes]


def entry(name: str, content: bytes = b"", *, kind: bytes = tarfile.REGTYPE, mode: int = 0o644, **fields: Any) -> Entry:
    """A member as it stands in the archive, whatever its name says."""
    member = tarfile.TarInfo(name)
    member.type, member.mode, member.size = kind, mode, len(content)
    for field, value in fields.items():
        setattr(member, field, value)
    return member, content


def folder(name: str, **fields: Any) -> Entry:
    return entry(name, kind=tarfile.DIRTYPE, **{"mode": 0o755, **fields})


def symlink(name: str, target: str) -> Entry:
    return entry(name, kind=tarfile.SYMTYPE, linkname=target)


def hard_link(name: str, target: str) -> Entry:
    return entry(name, kind=tarfile.LNKTYPE, linkname=target)


def archive(entries: Sequence[Entry]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for member, content in entries:
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def make_layout(
    path: Path,
    *layers: bytes,
    name: str = "docker.io/library/test:latest",
    config: dict[str, Any] | None = None,
    compress: bool = True,
    **wrong: Any,
) -> Path:
    """A layout of one image. `wrong`: `diff_ids`, `architecture`, `layer_type` instead of the right ones."""
    digests = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
    written = {
        "architecture": wrong.get("architecture", architecture()),
        "os": "linux",
        "config": config or {},
        "rootfs": {"type": "layers", "diff_ids": wrong.get("diff_ids", digests)},
    }
    layer_type = wrong.get("layer_type", f"{MEDIA}.layer.v1.tar{'+gzip' if compress else ''}")
    manifest = {
        "schemaVersion": 2,
        "config": write_blob(path, f"{MEDIA}.config.v1+json", encode(written)),
        "layers": [
            write_blob(path, layer_type, gzip.compress(layer, mtime=0) if compress else layer) for layer in layers
        ],
    }
    descriptor = write_blob(path, f"{MEDIA}.manifest.v1+json", encode(manifest))
    descriptor["annotations"] = {"org.opencontainers.image.ref.name": name}
    (path / "oci-layout").write_bytes(encode({"imageLayoutVersion": "1.0.0"}))
    (path / "index.json").write_bytes(encode({"schemaVersion": 2, "manifests": [descriptor]}))
    return path


def blobs_of(path: Path) -> list[Path]:
    """The layout's blobs, the largest last."""
    return sorted((path / "blobs" / "sha256").iterdir(), key=lambda blob: blob.stat().st_size)


def damage(blob: Path) -> None:
    """Flips one bit in the middle."""
    data = bytearray(blob.read_bytes())
    data[len(data) // 2] ^= 1
    blob.write_bytes(data)
