"""The tests of a mutation see a read-only root file system, whatever the root of this process is (node, root)."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from tests.attacks.mutations.__main__ import HOST_READ_ONLY

TRIES = "pwd; touch /new 2>/dev/null && echo root is writable; touch /tmp/new /run/new /var/new && echo the rest is"
#: a root of links and of what is bound below it: the folder itself is no mount point
CHROOT = """
for place in usr dev proc etc; do mount --rbind "/$place" "$1/$place"; done
exec chroot "$@"
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("usr", "dev", "proc", "etc", "run", "tmp/copy", "var"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        (tmp_path / name).symlink_to(f"usr/{name}")
    return tmp_path


def test_in_a_chroot_that_is_no_mount_point_the_root_is_read_only(root: Path) -> None:
    inside = f"cd /tmp/copy; exec sh -ec {shlex.quote(HOST_READ_ONLY)} sh sh -c {shlex.quote(TRIES)}"
    command = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-ec",
        CHROOT,
        "sh",
        str(root),
        "sh",
        "-c",
        inside,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("/tmp/copy\nthe rest is\n", "")
    assert (root / "tmp" / "new").exists()
    assert not (root / "new").exists()


def test_where_the_root_is_a_mount_point_it_is_read_only(tmp_path: Path) -> None:
    word = tmp_path.name
    tries = f"pwd; touch /{word} 2>/dev/null && echo root is writable; touch {tmp_path}/new && echo the rest is"
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", HOST_READ_ONLY, "sh", "sh", "-c", tries]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (f"{tmp_path}\nthe rest is\n", "")
