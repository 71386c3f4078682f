"""An agent that was started in a chroot: what joins its containers comes out on their root, never on the host's.

Everything here runs in a mount namespace of its own, and the pod's commands only read: nothing is harmed where the
defence is missing.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from minipod.paths import Paths
from tests import guard
from tests.builders import container, manifest, pod
from tests.node_fixtures import Node

#: $1: the chroot, $2: how it is made, then the command; what is not a folder in / is a link
IN_CHROOT = """
root=$1 kind=$2; shift 2
if [ "$kind" = bind ]; then
    mount --rbind / "$root"
else
    for path in /*; do
        if [ -L "$path" ]; then [ -L "$root$path" ] || cp -P "$path" "$root$path"
        elif [ -d "$path" ]; then mkdir -p "$root$path"; mount --rbind "$path" "$root$path"; fi
    done
fi
exec chroot "$root" sh -c 'cd "$0" && exec "$@"' "$PWD" "$@"
"""
HOST = "test -d /var/lib/dpkg || test -d /var/lib/rpm || test -e /lib/systemd"  # busybox's image has none


class ChrootNode(Node):
    """Each command is run in a chroot; the first one starts the agent there."""

    def __init__(self, paths: Paths, root: Path, kind: str) -> None:
        super().__init__(paths)
        self._prefix = [sys.executable, "-m", "tests.own_mounts", "sh", "-ec", IN_CHROOT, "sh", str(root), kind]

    def command(self, *args: object) -> list[str]:
        return [*self._prefix, *super().command(*args)]


@pytest.mark.attack(row=1)
@pytest.mark.parametrize("kind", ["bind", "folder"])
def test_whatever_enters_a_container_of_an_agent_in_a_chroot_has_the_containers_root(
    paths: Paths, tmp_path: Path, kind: str
) -> None:
    """`bind`: the chroot is a mount point; `folder`: it is none, only what is in it."""
    root = tmp_path / "root"
    root.mkdir()
    node = ChrootNode(paths, root, kind)
    where = f"test -f {guard.MARKER} && echo inside; ls /; cut -d' ' -f5 /proc/self/mountinfo"
    hook = {"exec": {"command": ["sh", "-c", f"{{ {where}; }} > /hook"]}}
    probe = {"exec": {"command": ["sh", "-c", f"test -f {guard.MARKER} && ! {{ {HOST}; }}"]}, "periodSeconds": 1}
    made = container(
        "c", f"{where}; read line; {where}", stdin=True, lifecycle={"postStart": hook},
        readinessProbe=probe,
    )  # fmt: skip
    try:
        node("run", "-d", "--until", "ready", "--timeout", "20s", "-", input=manifest(pod("p", made)))
        seen = [
            node("exec", "p", "--", "sh", "-c", where).stdout,
            node("exec", "-t", "p", "--", "sh", "-c", where).stdout,
            node("exec", "p", "--", "cat", "/hook").stdout,
            node("logs", "p").stdout,
            node("debug", "p", "--image", "busybox", "--attach=true", "--", "sh", "-c", where).stdout,
        ]
        for text in seen:
            assert text.startswith("inside"), text
            assert str(paths.root) not in text
            assert str(root) not in text
        seen_root = os.readlink(f"/proc/{node.agent_pid()}/root")  # from the root of the mount namespace on
        assert seen_root.endswith(str(root)), "the agent is in no chroot"
        guard.prove_copies(node, "p", tmp_path)
        (tmp_path / "file").write_text("copied")
        node("cp", tmp_path / "file", "p:/tmp/file")
        assert node("exec", "p", "--", "cat", "/tmp/file").stdout == "copied"
        assert "inside" in node("attach", "-i", "p", input="a line\n", timeout_s=20).stdout
    finally:
        node.close()
