"""How much longer than usual tests wait: MINIPOD_TEST_SLOWNESS, which scripts/vm-test sets for an emulated machine."""

from __future__ import annotations

import os

SLOWNESS = int(os.environ.get("MINIPOD_TEST_SLOWNESS", "1"))
