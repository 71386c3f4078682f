"""Each test has instances of its own, and the host is searched for leftovers afterwards."""

from __future__ import annotations

from tests.node_fixtures import image_folder, leak_check, node, paths, session

__all__ = ["image_folder", "leak_check", "node", "paths", "session"]
