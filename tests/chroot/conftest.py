"""The fixtures of the tests that need root, for those that may run in a chroot: they destroy nothing."""

from __future__ import annotations

from tests.node_fixtures import image_folder, leak_check, node, paths, session

__all__ = ["image_folder", "leak_check", "node", "paths", "session"]
