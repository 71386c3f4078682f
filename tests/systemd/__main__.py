"""What the virtual machine runs at each boot: installs, tests the units, reboots, tests what is there then.

The arguments are pytest's, for the part before the reboot; where one fails there is no second part.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.systemd import host

REBOOT = 75  # as tests/vm/systemd-guest has it
NONE_CHOSEN = 5
MARK = Path("/var/lib/minipod-rebooted")
FOLDER = "tests/systemd"


def main(arguments: list[str]) -> int:
    os.environ[host.VARIABLE] = "1"
    if MARK.exists():
        return tests("test_after_the_boot.py")
    host.install()
    status = tests("test_units.py", "test_files.py", *arguments)
    if status not in (0, NONE_CHOSEN):
        return status
    before_the_reboot()
    return REBOOT


def tests(*arguments: str) -> int:
    """Runs pytest; the names of the folder's files, and other arguments."""
    words = [f"{FOLDER}/{word}" if word.startswith("test_") and word.endswith(".py") else word for word in arguments]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *words]
    return subprocess.run(command, check=False).returncode


def before_the_reboot() -> None:
    """Pods for test_after_the_boot.py."""
    host.systemctl("start", "minipod", "minipod-pods")
    host.start_pod("always")
    host.start_pod("never", "Never", "trap 'exit 7' TERM; while true; do sleep 1; done")
    host.static_pod("static")
    host.unit_pod("app")
    host.systemctl("enable", "--now", "minipod@app")
    MARK.touch()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
