"""Tests on the real kernel: each has an instance of minipod of its own, and is searched for leftovers afterwards."""

from __future__ import annotations

import os

from tests.image_fixtures import own_store, registry, store
from tests.node_fixtures import image_folder, leak_check, node, paths, session

#: these change what the whole machine has
collect_ignore = [] if "MINIPOD_TEST_VM" in os.environ else ["test_clock_set.py"]

__all__ = ["image_folder", "leak_check", "node", "own_store", "paths", "registry", "session", "store"]
