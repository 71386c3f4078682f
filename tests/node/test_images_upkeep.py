"""Pruning, garbage collection, counting and checking of the image store."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from minipod.runtime.images import ingest, upkeep
from minipod.runtime.images.store import ImageStore
from tests import layouts
from tests.layouts import archive, entry, make_layout


def load(store: ImageStore, tmp_path: Path, name: str, size: int = 1000) -> str:
    layer = archive([entry(name, os.urandom(size))])
    return store.load_layout(make_layout(tmp_path / f"layout-{name}-{time.monotonic_ns()}", layer), name).id


def use(tmp_path: Path, image_id: str) -> None:
    container = tmp_path / "root" / "containers" / image_id[7:19]
    container.mkdir(parents=True)
    (container / "container.json").write_text(json.dumps({"image_id": image_id}))


def names(store: ImageStore) -> list[str]:
    return [image.reference.removeprefix("docker.io/library/") for image in store.list()]


def test_prune_takes_nameless_images_that_nobody_uses(store: ImageStore, tmp_path: Path) -> None:
    used = load(store, tmp_path, "used")
    load(store, tmp_path, "moved")
    load(store, tmp_path, "used")
    load(store, tmp_path, "moved")
    use(tmp_path, used)
    assert len(upkeep.prune(store).images) == 1
    assert len(names(store)) == 3
    assert store.resolve(used) is not None


def test_prune_all_takes_every_unused_image_but_busybox(store: ImageStore, tmp_path: Path) -> None:
    use(tmp_path, load(store, tmp_path, "used"))
    load(store, tmp_path, "unused")
    store.ensure_default()
    upkeep.prune(store, every=True)
    assert names(store) == ["busybox:latest", "used:latest"]


def test_prune_removes_what_killed_pulls_left_and_nothing_that_is_made(store: ImageStore, tmp_path: Path) -> None:
    load(store, tmp_path, "any")
    left, busy = store.path / "ingest" / "left", store.path / "ingest" / "busy"
    for path in (left, busy):
        (path / "tree").mkdir(parents=True)
        (path / "blob.part").write_bytes(b"x" * 1000)
    fd = os.open(busy, os.O_RDONLY)
    try:
        assert ingest._flock(fd, 2)
        assert upkeep.disk_usage(store).unfinished_bytes > 0
        upkeep.prune(store)
        assert [path.name for path in (store.path / "ingest").iterdir()] == ["busy"]
    finally:
        os.close(fd)


def test_usage_counts_what_nobody_needs(store: ImageStore, tmp_path: Path) -> None:
    use(tmp_path, load(store, tmp_path, "used", 100_000))
    load(store, tmp_path, "unused", 300_000)
    found = upkeep.disk_usage(store)
    assert (found.images, found.unused_images) == (2, 1)
    assert 600_000 < found.unused_bytes < 700_000
    assert 800_000 < found.blob_bytes + found.layer_bytes < 900_000


def test_verify_names_what_is_damaged_or_missing(store: ImageStore, tmp_path: Path) -> None:
    load(store, tmp_path, "one")
    assert upkeep.verify(store) == []
    blobs = sorted((store.path / "blobs/sha256").iterdir(), key=lambda blob: blob.stat().st_size)
    layouts.damage(blobs[-1])
    blobs[0].unlink()
    next((store.path / "layers").iterdir()).rename(tmp_path / "gone")
    found = "\n".join(upkeep.verify(store))
    assert "is damaged" in found
    assert found.count("is missing") == 2


def test_a_tag_is_one_more_name(store: ImageStore, tmp_path: Path) -> None:
    identity = load(store, tmp_path, "one")
    assert store.tag("one", "quay.io/a/two:3").id == identity
    store.remove("one")
    assert [image.reference for image in store.list()] == ["quay.io/a/two:3"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[None]:
    state = tmp_path / "state"
    state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", state], check=True)
    yield
    subprocess.run(["umount", state], check=True)


@pytest.mark.usefixtures("small_disk")
def test_between_the_marks_the_oldest_unused_images_go(
    store: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        identity = load(store, tmp_path, f"image{number}", 900_000)
        if number == 0:
            use(tmp_path, identity)
    assert upkeep.collect(store, 99, 50).images == ()
    assert upkeep.collect(store, 80, 70).images == ()  # too young
    monkeypatch.setattr(upkeep, "MIN_AGE_S", -1.0)
    upkeep.collect(store, 80, 70)
    assert names(store) == ["image0:latest", "image2:latest", "image3:latest"]
