"""Registries that refuse, lie, stall and break off, full disks, kills: a clear error each, and nothing half-made."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from minipod.errors import ImageError
from minipod.paths import Paths
from minipod.runtime.images.errors import Stopped
from minipod.runtime.images.manifests import OCI_INDEX, architecture
from minipod.runtime.images.registry.pull import Pulled
from minipod.runtime.images.store import ImageStore
from minipod.runtime.images.upkeep import prune, verify
from tests import registry as fake
from tests.layouts import archive, entry, make_layout
from tests.pulling import LARGE, QUICK, get, left_over
from tests.registry import Registry, Request


@pytest.fixture
def large(tmp_path: Path) -> Iterator[Registry]:
    """Its layer takes several reads."""
    with fake.running() as server:
        server.add(make_layout(tmp_path / "large", LARGE, compress=False))
        yield server


# ---- what goes wrong


@pytest.mark.parametrize("status", [403, 404, 418])
def test_a_refusal_is_reported_at_once_in_the_registry_s_words(
    store: ImageStore, registry: Registry, status: int
) -> None:
    registry.rules.append(fake.on("manifests", lambda r: r.fail(status, "NO_SUCH", "the registry's own words")))
    with pytest.raises(ImageError, match=f"{status} .*: no such: the registry's own words") as caught:
        get(store, registry)
    assert caught.value.reason == "ErrImagePull"
    assert len(registry.requests("manifests")) == 1


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
@pytest.mark.parametrize("kind", ["manifests", "blobs"])
def test_what_may_pass_is_tried_again(store: ImageStore, registry: Registry, status: int, kind: str) -> None:
    registry.rules.append(fake.times(2, fake.on(kind, lambda r: r.fail(status, "LATER", "not now"))))
    assert get(store, registry).changed


def test_what_does_not_pass_is_reported(store: ImageStore, registry: Registry) -> None:
    registry.rules.append(
        fake.on("manifests", lambda r: r.fail(503, "UNAVAILABLE", "on holiday", {"Retry-After": "9"}))
    )
    with pytest.raises(ImageError, match="503 service unavailable: unavailable: on holiday"):
        get(store, registry)
    assert len(registry.requests("manifests")) == QUICK["attempts"]


def test_a_download_that_is_cut_goes_on_where_it_was(store: ImageStore, large: Registry) -> None:
    large.rules.append(fake.times(2, fake.largest(fake.cut(1 << 20))))
    assert get(store, large).changed
    ranges = [request.headers.get("Range") for request in large.seen if request.kind == "blobs"]
    assert [r for r in ranges if r] == [f"bytes={1 << 20}-", f"bytes={2 << 20}-"]


def test_a_registry_without_ranges_begins_again(store: ImageStore, large: Registry) -> None:
    large.ranges = False
    large.rules.append(fake.times(1, fake.largest(fake.cut(1 << 20))))
    assert get(store, large).changed


def test_a_registry_that_refuses_ranges_begins_again(store: ImageStore, large: Registry) -> None:
    def refuse(request: Request) -> bool:
        if "Range" in request.headers:
            request.fail(416, "RANGE", "not satisfiable")
        return "Range" in request.headers

    large.rules += [refuse, fake.times(1, fake.largest(fake.cut(1 << 20)))]
    assert get(store, large).changed


def test_a_failed_pull_is_taken_up_by_the_next(store: ImageStore, large: Registry) -> None:
    large.rules.append(fake.largest(fake.cut(1000)))
    with pytest.raises(ImageError, match="the connection ended too early"):
        get(store, large)
    assert store.list() == []
    large.rules.clear()
    large.seen.clear()
    assert get(store, large).changed
    assert [r.headers["Range"] for r in large.seen if r.headers.get("Range")] == ["bytes=3000-"]
    assert left_over(store) == []


@pytest.mark.attack(row=34)
@pytest.mark.parametrize("kind", ["manifests", "blobs"])
def test_a_stalling_registry_is_given_up(store: ImageStore, registry: Registry, kind: str) -> None:
    waits = threading.Event()
    registry.rules.append(fake.on(kind, lambda request: fake.held(waits, 10)))
    began = time.monotonic()
    with pytest.raises(ImageError, match="timed out"):
        get(store, registry, stall_timeout_s=0.2)
    assert time.monotonic() - began < 5
    waits.set()


@pytest.mark.attack(row=34)
def test_a_dripping_registry_is_given_up(store: ImageStore, large: Registry) -> None:
    large.rules.append(fake.largest(fake.drip(10)))
    with pytest.raises(ImageError, match=r"too slow: \d+ bytes in"):
        get(store, large, stall_timeout_s=0.3, attempts=1)


def _flipped(request: Request, data: bytes) -> None:
    request.answer(200, data[:2000] + bytes([data[2000] ^ 1]) + data[2001:])


@pytest.mark.attack(row=33)
@pytest.mark.parametrize(
    ("act", "words"),
    [
        (_flipped, "is damaged: it has sha256:"),
        (lambda r, d: r.answer(200, d + b"x"), "has more than"),
        (lambda r, d: r.answer(200, d[:-1]), "of 31"),
        (lambda r, d: r.answer(200, b""), "0 of"),
        (lambda r, d: r.answer(200, os.urandom(len(d))), "is damaged: it has sha256:"),
    ],
    ids=["flipped bit", "longer", "shorter", "empty", "other"],
)
def test_a_blob_that_is_not_what_was_promised_is_not_used(
    store: ImageStore, large: Registry, act: object, words: str
) -> None:
    large.ranges = False
    large.rules.append(fake.largest(act))  # type: ignore[arg-type]
    with pytest.raises(ImageError, match=words):
        get(store, large)
    assert (store.list(), os.listdir(store.path / "layers"), os.listdir(store.path / "blobs/sha256")) == ([], [], [])
    large.rules.clear()
    assert get(store, large).changed


def test_a_blob_that_a_power_loss_has_torn_is_fetched_again(store: ImageStore, large: Registry) -> None:
    """It has its name, so it was checked once; what is on the disk is something else."""
    found = max(large.content, key=lambda digest: len(large.content[digest][1]))
    hexdigest = found.removeprefix("sha256:")
    folder = store.path / "ingest" / f"{hexdigest}.{hexdigest}"  # not compressed, so the diff id is the digest
    folder.mkdir(parents=True)
    (folder / "blob").write_bytes(bytes(1 << 20))
    with pytest.raises(ImageError, match="unpacks to"):
        get(store, large)
    assert get(store, large).changed
    assert left_over(store) == []


@pytest.mark.attack(row=33)
def test_a_manifest_that_is_not_its_digest_is_refused(store: ImageStore, registry: Registry) -> None:
    digest = registry.tags["test", "latest"]
    kind, data = registry.content[digest]
    registry.content[digest] = (kind, data + b" ")
    with pytest.raises(ImageError, match="is damaged: it has"):
        get(store, registry, f"test@{digest}")


@pytest.mark.attack(row=33)
@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"<html>", "is damaged"),
        (b"[]", "is damaged"),
        (b'{"schemaVersion": 1, "fsLayers": []}', "old schema 1"),
        (b'{"manifests": [], "config": {}, "layers": []}', "an index and a manifest at once"),
        (b'{"config": {"digest": "sha256:../../etc", "size": 1}, "layers": []}', "is no sha256 digest"),
        (b'{"manifests": []}', "there is none at all"),
        (b"[" * 100000, "is damaged"),
    ],
)
def test_nonsense_for_a_manifest_is_refused(store: ImageStore, registry: Registry, body: bytes, words: str) -> None:
    registry.rules.append(fake.on("manifests", lambda request: request.answer(200, body)))
    with pytest.raises(ImageError, match=words):
        get(store, registry)


@pytest.mark.attack(row=34)
def test_an_endless_manifest_is_refused(store: ImageStore, registry: Registry) -> None:
    registry.rules.append(fake.on("manifests", lambda request: request.answer(200, bytes(5 << 20))))
    with pytest.raises(ImageError, match="longer than"):
        get(store, registry)


@pytest.mark.attack(row=34)
def test_indexes_in_a_circle_end(store: ImageStore, registry: Registry) -> None:
    digest = registry.tags["test", "latest"]
    kind = OCI_INDEX
    for _ in range(6):
        size = len(registry.content[digest][1])
        entry_ = {"mediaType": kind, "digest": digest, "size": size}
        platform = {"os": "linux", "architecture": architecture()}
        digest = registry.put({"schemaVersion": 2, "manifests": [{**entry_, "platform": platform}]}, OCI_INDEX, "deep")
    with pytest.raises(ImageError, match="without end"):
        get(store, registry, "deep")


def test_what_is_stopped_stops_soon(store: ImageStore, large: Registry) -> None:
    stop = threading.Event()

    def act(request: Request, data: bytes) -> None:
        stop.set()
        fake.cut(1 << 20)(request, data)

    large.rules.append(fake.largest(act))
    with pytest.raises(Stopped):
        get(store, large, stop=stop)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    state = tmp_path / "state"
    state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", state], check=True)
    yield state
    subprocess.run(["umount", state], check=True)


def test_a_full_disk_leaves_room(store: ImageStore, large: Registry, small_disk: Path) -> None:
    with pytest.raises(ImageError, match="no space left on device; free some space"):
        get(store, large)
    assert left_over(store) == []
    subprocess.run(["mount", "-o", "remount,size=20m", small_disk], check=True)
    assert get(store, large).changed


def test_a_pull_loses_nothing_to_prunes(store: ImageStore, registry: Registry, tmp_path: Path) -> None:
    layers = [archive([entry(f"f{number}", b"x" * 2000) for number in range(200)] + [entry(str(i))]) for i in range(3)]
    registry.add(make_layout(tmp_path / "many", *layers), "many")
    other = ImageStore(Paths(str(tmp_path / "root"), str(tmp_path / "state")))
    found: list[Pulled] = []
    thread = threading.Thread(target=lambda: found.append(get(other, registry, "many")))
    thread.start()
    while thread.is_alive():
        prune(store)
    assert [len(os.listdir(layer)) for layer in found[0].image.layers] == [201] * 3
    assert verify(store) == []


def test_two_pulls_at_once_fetch_a_layer_once(store: ImageStore, large: Registry) -> None:
    found: list[Pulled] = []
    threads = [threading.Thread(target=lambda: found.append(get(store, large))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({pulled.image.id for pulled in found}) == 1
    biggest = max(large.content, key=lambda digest: len(large.content[digest][1]))
    assert large.requests("blobs").count(biggest) == 1
    assert left_over(store) == []
