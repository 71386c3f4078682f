"""Tests on the real kernel: each has an instance of minipod of its own, and is searched for leftovers afterwards."""

from __future__ import annotations

from tests.image_fixtures import own_store, registry, store
from tests.node_fixtures import image_folder, leak_check, node, paths, session

__all__ = ["image_folder", "leak_check", "node", "own_store", "paths", "registry", "session", "store"]
