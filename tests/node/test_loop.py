"""The agent's loop stands still for nothing that is slow, hung or locked on the host."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.node_fixtures import Node

POD = """
apiVersion: v1
kind: Pod
metadata: {name: web}
spec: {containers: [{name: main, image: busybox, command: [sleep, inf]}]}
"""
LOCK = """
import fcntl, sys
file = open(sys.argv[1])
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def test_a_stranger_who_locks_the_network_namespace_delays_no_pod(node: Node, tmp_path: Path) -> None:
    """Any process can open that file, and lock it for as long as it likes."""
    file = tmp_path / "pod.yaml"
    file.write_text(POD)
    with subprocess.Popen(
        [sys.executable, "-c", LOCK, "/proc/self/ns/net"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, user=65534, group=65534,
    ) as stranger:  # fmt: skip
        assert stranger.stdout is not None
        assert stranger.stdout.readline() == "held\n"
        node("run", "-d", file)
        stranger.communicate("")
