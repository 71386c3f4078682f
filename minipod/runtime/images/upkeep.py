"""Maintains the image store (layer 3): its size, what is not needed any more, whether it is whole. Pulls nothing."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from minipod.kernel.usage import usage_bytes
from minipod.plan.configs import Image
from minipod.runtime.images import ingest
from minipod.runtime.images.directory import StoreDirectory
from minipod.runtime.images.errors import store_errors
from minipod.runtime.images.index import DEFAULT_REFERENCE, Entry, Index, hex_of

CHUNK = 1 << 20
MIN_AGE_S = 120.0  # the kubelet's imageMinimumGCAge


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes on disk. `unused_bytes`: blobs and layers that only images without a container need."""

    images: int
    blob_bytes: int
    layer_bytes: int
    unfinished_bytes: int
    unused_images: int
    unused_bytes: int


class Pruned(msgspec.Struct, frozen=True):
    images: tuple[Image, ...]
    freed_bytes: int


def disk_usage(store: StoreDirectory) -> Usage:
    """The store's size on disk. Counts the blocks of every file, so it takes a moment for large images."""
    entries = store.read_index().images
    blobs = {path.name: blocks(path) for path in folder(store.path / "blobs" / "sha256")}
    layers = {path.name: blocks(path) for path in folder(store.path / "layers")}
    used = [entry for entry in entries if store.user_of(entry)]
    unused = [entry for entry in entries if entry not in used]
    needed = {hex_of(name) for entry in used for name in (*entry.diff_ids, *entry.blobs)}
    return Usage(
        images=len(entries),
        blob_bytes=sum(blobs.values()),
        layer_bytes=sum(layers.values()),
        unfinished_bytes=sum(blocks(path) for path in folder(store.path / "ingest")),
        unused_images=len(unused),
        unused_bytes=sum(size for sizes in (blobs, layers) for name, size in sizes.items() if name not in needed),
    )


def prune(store: StoreDirectory, *, every: bool = False) -> Pruned:
    """Removes nameless images that no container uses, or `every` unused one, and what killed pulls left.

    The default image stays. A pull that is under way loses nothing.
    """
    with store.locked(), store_errors("prune the image store"):
        before = free_bytes(store.path)
        gone = [
            entry for entry in store.read_index().images if (every or not entry.reference) and not is_kept(store, entry)
        ]
        _remove(store, gone)
        ingest.sweep(store.path / "ingest", everything=True)
    return Pruned(tuple(store.image(entry) for entry in gone), max(0, free_bytes(store.path) - before))


def collect(store: StoreDirectory, high_percent: int, low_percent: int) -> Pruned:
    """The kubelet's image garbage collection (images/image_gc_manager.go): above the high mark of disk use, unused
    images go, those that came first before others, until the low mark is reached."""
    gone: list[Entry] = []
    if not store.path.is_dir() or used_percent(store.path) < high_percent:
        return Pruned((), 0)
    before = free_bytes(store.path)
    with store.locked(), store_errors("free space in the image store"):
        ingest.sweep(store.path / "ingest", everything=True)
        for entry in store.read_index().images:  # in the order in which they came
            if used_percent(store.path) <= low_percent:
                break
            if not is_kept(store, entry) and ingest.is_older(store.blob_path(entry.digest), MIN_AGE_S):
                _remove(store, [entry])
                gone.append(entry)
    return Pruned(tuple(store.image(entry) for entry in gone), max(0, free_bytes(store.path) - before))


def verify(store: StoreDirectory) -> list[str]:
    """What is wrong, a line each: blobs that are not their digest, layers and blobs that are missing."""
    found = []
    with store.locked():
        for entry in store.read_index().images:
            name = entry.reference or entry.id
            for digest in entry.blobs:
                path = store.blob_path(digest)
                if not path.exists():
                    found.append(f"image {name}: blob {digest} is missing")
                elif digest_of(path) != digest:
                    found.append(f"image {name}: blob {digest} is damaged")
            for diff_id in dict.fromkeys(entry.diff_ids):
                if not store.layer_path(diff_id).is_dir():
                    found.append(f"image {name}: layer {diff_id} is missing")
    return list(dict.fromkeys(found))


def is_kept(store: StoreDirectory, entry: Entry) -> bool:
    return entry.reference == DEFAULT_REFERENCE or bool(store.user_of(entry))


def _remove(store: StoreDirectory, gone: Sequence[Entry]) -> None:
    if gone:
        store.write_index(Index(images=tuple(entry for entry in store.read_index().images if entry not in gone)))
        store.sweep()


def folder(path: Path) -> Iterator[Path]:
    with suppress(FileNotFoundError):
        yield from sorted(path.iterdir())


def blocks(path: Path) -> int:
    """Bytes that a file, or a directory with all in it, takes; 0 for what has gone."""
    with suppress(FileNotFoundError):
        return usage_bytes(os.fspath(path)) if path.is_dir() else path.lstat().st_blocks * 512
    return 0


def digest_of(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return f"sha256:{digest.hexdigest()}"


def free_bytes(path: Path) -> int:
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def used_percent(path: Path) -> float:
    """As `df` counts: of what is not reserved for root."""
    found = os.statvfs(path)
    used = found.f_blocks - found.f_bfree
    return 100.0 * used / max(1, used + found.f_bavail)
