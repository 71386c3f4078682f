"""minipod's command line as a user without rights; checkout and environment may be out of that user's reach (/root)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

from tests.conftest import CHECKOUT

#: in a mount namespace of its own. $1: the checkout, $2: the environment, then minipod's arguments
_SCRIPT = """
mount -t tmpfs -o mode=755 tmpfs /mnt
mkdir /mnt/checkout /mnt/venv
mount --bind "$1" /mnt/checkout
mount --bind "$2" /mnt/venv
shift 2
cd /
export PYTHONPATH=/mnt/checkout
exec setpriv --reuid 65534 --regid 65534 --clear-groups /mnt/venv/bin/python3 -m minipod "$@"
"""


def minipod_as_nobody(
    *args: object, environment: Mapping[str, str] | None = None, text: str | None = None
) -> subprocess.CompletedProcess[str]:
    """`minipod ARGS` as uid 65534. Needs root."""
    command = [sys.executable, "-m", "tests.own_mounts", "sh", "-ec", _SCRIPT, "sh", CHECKOUT, sys.prefix, *args]
    return subprocess.run(
        list(map(str, command)), input=text, capture_output=True, text=True, cwd=CHECKOUT, check=False,
        env=os.environ | (environment or {}),
    )  # fmt: skip
