"""These tests install minipod on the host and reboot it: they are collected in the virtual machine alone."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.systemd import host

collect_ignore_glob = [] if host.VARIABLE in os.environ else ["test_*.py"]


@pytest.fixture(autouse=True)
def units() -> Iterator[None]:
    """Each test begins with both units active, and leaves no pod."""
    host.systemctl("start", "minipod", "minipod-pods")
    yield
    host.systemctl("start", "minipod", "minipod-pods")
    host.delete_pods()
