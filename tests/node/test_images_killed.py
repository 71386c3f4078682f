"""kill -9 at random moments of pulls and loads: the store is whole each time, and prune leaves nothing.

`MINIPOD_TEST_KILLS=100` tries more often than CI does; `MINIPOD_TEST_SEED` repeats what a failing run has printed.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from minipod.paths import Paths
from minipod.runtime.images.store import ImageStore
from tests import leaks
from tests import registry as fake
from tests.layouts import archive, entry, make_layout
from tests.node_fixtures import Node
from tests.registry import Registry

KILLS = int(os.environ.get("MINIPOD_TEST_KILLS", "12"))
FILES = 400
LAYERS = 4


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    files = [entry(f"f{number}", os.urandom(2000)) for number in range(FILES)]
    layers = [archive([*files, entry(f"layer-{number}")]) for number in range(LAYERS)]
    return make_layout(tmp_path / "many", *layers, name="localhost/many:latest")


@pytest.fixture
def registry(layout: Path) -> Iterator[Registry]:
    with fake.running() as server:
        server.add(layout, "many")
        yield server


@pytest.mark.parametrize("way", ["pull", "load"])
def test_a_kill_at_any_moment_leaves_a_whole_store(own_store: Node, registry: Registry, layout: Path, way: str) -> None:
    seed = int(os.environ.get("MINIPOD_TEST_SEED", time.time_ns()))
    print(f"MINIPOD_TEST_SEED={seed}")
    chance = random.Random(seed)
    name = f"{registry.host}/many" if way == "pull" else "localhost/many"
    work = ("image", way, name if way == "pull" else str(layout))
    began = time.monotonic()
    own_store(*work)
    whole_s = time.monotonic() - began
    own_store("image", "rm", name)
    store = ImageStore(own_store.paths)
    for _ in range(KILLS):
        with own_store.popen(*work, start_new_session=True) as process:
            time.sleep(chance.uniform(0.02, 1.1 * whole_s))
            # sometimes what it has started goes on, as when the kernel picks one process
            (os.killpg if chance.random() < 0.5 else os.kill)(process.pid, signal.SIGKILL)
        own_store("image", "verify")
        if chance.random() < 0.3:
            own_store("image", "prune", "--all")
        image = store.resolve(name)
        if image is not None:
            assert_whole(image.layers)
            own_store("image", "rm", name)
    own_store(*work)
    image = store.resolve(name)
    assert image is not None
    assert_whole(image.layers)
    own_store("image", "rm", name)
    assert leaks.wait_until_gone(lambda: left_after_prune(own_store)) == []


def assert_whole(layers: tuple[str, ...]) -> None:
    assert [len(os.listdir(layer)) for layer in layers] == [FILES + 1] * LAYERS
    assert all(file.stat().st_size == 2000 for layer in layers for file in Path(layer).glob("f*"))


def left_after_prune(node: Node) -> list[str]:
    """A layer whose unpacking outlived its command is kept until that has ended."""
    node("image", "prune")
    images = Path(Paths(node.paths.root, node.paths.state).state, "images")
    places = (images / "blobs" / "sha256", images / "layers", images / "ingest", images / "tmp")
    return [str(path) for place in places for path in place.iterdir()]
