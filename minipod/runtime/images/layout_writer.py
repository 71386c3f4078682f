"""Writes an OCI image layout of one image (layer 3). Needs no root.

Standard library only, as `rootfs/build` runs before anything is installed. The shapes are image-spec's:
image-layout.md, manifest.md, config.md.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

MEDIA = "application/vnd.oci.image"


class NewLayer(NamedTuple):
    """A layer whose blob is in the layout already."""

    descriptor: dict[str, object]
    diff_id: str


def write_layout(
    output: Path,
    name: str,
    architecture: str,
    settings: dict[str, object],
    layers: Sequence[NewLayer],
    created: str,
    created_by: str,
) -> str:
    """Writes all but the layers to the directory `output`; returns the manifest's digest. Raises OSError.

    `settings`: the `config` of the image's configuration, in its own words; `created`: RFC 3339.
    """
    config = {
        "created": created,
        "architecture": architecture,
        "os": "linux",
        "config": settings,
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        "history": [{"created": created, "created_by": created_by}],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{MEDIA}.manifest.v1+json",
        "config": write_blob(output, f"{MEDIA}.config.v1+json", encode(config)),
        "layers": [layer.descriptor for layer in layers],
    }
    descriptor = write_blob(output, f"{MEDIA}.manifest.v1+json", encode(manifest))
    descriptor["platform"] = {"architecture": architecture, "os": "linux"}
    descriptor["annotations"] = {"org.opencontainers.image.ref.name": name}
    index = {"schemaVersion": 2, "mediaType": f"{MEDIA}.index.v1+json", "manifests": [descriptor]}
    (output / "oci-layout").write_bytes(encode({"imageLayoutVersion": "1.0.0"}))
    (output / "index.json").write_bytes(encode(index))  # last: without it there is no layout
    return str(descriptor["digest"])


def write_blob(output: Path, media_type: str, data: bytes) -> dict[str, object]:
    """Writes the blob, returns its descriptor."""
    digest = hashlib.sha256(data).hexdigest()
    path = blob_path(output, digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}


def blob_path(output: Path, hexdigest: str) -> Path:
    return output / "blobs" / "sha256" / hexdigest


def encode(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
