"""These tests install minipod on the host and reboot it: they are collected in the virtual machine alone."""

from __future__ import annotations

import os

from tests.systemd import host

collect_ignore_glob = [] if host.VARIABLE in os.environ else ["test_*.py"]
