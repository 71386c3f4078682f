"""What the package leaves on the host is looked for as after every test that needs root."""

from __future__ import annotations

from tests.node_fixtures import image_folder, leak_check, session

__all__ = ["image_folder", "leak_check", "session"]
