"""Fixtures of the tests of images: an empty store, a registry with one image, a node with an empty store of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from minipod.paths import Paths
from minipod.runtime.images.store import ImageStore
from tests import registry as fake
from tests.layouts import make_layout
from tests.node_fixtures import Node
from tests.pulling import HELLO
from tests.registry import Registry


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(Paths(str(tmp_path / "root"), str(tmp_path / "state")))


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    """It has `test:latest`, which is HELLO."""
    with fake.running() as server:
        server.add(make_layout(tmp_path / "hello", HELLO, config={"Cmd": ["cat", "/etc/motd"]}))
        yield server


@pytest.fixture
def own_store(node: Node) -> Node:
    """The node has an image store of its own, with nothing in it."""
    os.unlink(f"{node.paths.state}/images")
    return node
