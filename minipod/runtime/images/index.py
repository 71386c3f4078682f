"""What the image store's index.json holds (layer 3): names, ids, layers. Values and rules; reads and writes nothing."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from minipod.api.references import Reference
from minipod.plan.configs import ImageConfig
from minipod.runtime.images.manifests import FoundImage

#: `busybox` itself is loaded only where the image is built
DEFAULT_REFERENCE = "docker.io/library/busybox:latest"


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of index.json. An image whose name went to a newer one stays, nameless, until it is removed."""

    reference: str = ""  # docker.io/library/busybox:latest
    name: str  # docker.io/library/busybox: the repository, also of a nameless one
    id: str
    digest: str  # of the manifest
    target: str = ""  # of the index that led to the manifest; empty where none did
    pulled: bool = False  # it came from a registry, which may have a newer one
    diff_ids: tuple[str, ...]
    blobs: tuple[str, ...]
    config: ImageConfig
    size_bytes: int


class Index(msgspec.Struct, frozen=True):
    images: tuple[Entry, ...] = ()


def matches(entry: Entry, wanted: Reference) -> bool:
    if wanted.digest:
        return wanted.digest in (entry.digest, entry.target) and entry.name == wanted.name
    return entry.reference == str(wanted)


def each_once(diff_ids: Sequence[str]) -> list[str]:
    """overlayfs takes no directory twice; of a layer that comes again the upper one hides the lower."""
    return list(reversed(dict.fromkeys(reversed(diff_ids))))


def entry_of(name: Reference, found: FoundImage, pulled: bool) -> Entry:
    return Entry(
        reference="" if name.digest else str(name),
        name=name.name,
        id=found.config.digest,
        digest=found.manifest.digest,
        diff_ids=tuple(found.diff_ids),
        target="" if found.target.digest == found.manifest.digest else found.target.digest,
        pulled=pulled,
        blobs=tuple(dict.fromkeys((*found.small, *(layer.digest for layer in found.layers)))),
        config=found.image_config,
        size_bytes=found.size_bytes,
    )


def with_entry(index: Index, new: Entry) -> Index:
    """The name goes to `new`; the image that had it stays without a name, as containers may still use it."""
    rest = []
    for entry in index.images:
        if entry.reference and entry.reference == new.reference:
            entry = msgspec.structs.replace(entry, reference="")
        same = (entry.id, entry.digest, entry.name) == (new.id, new.digest, new.name)
        if same and entry.reference in ("", new.reference):
            continue
        rest.append(entry)
    return Index(images=(*rest, new))


def hex_of(digest: str) -> str:
    return digest.removeprefix("sha256:")
