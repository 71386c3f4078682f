"""Whatever is started in a pod is below the pod's root: only looks, so that it can be run where that is not sure."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any

import psutil

from tests import guard
from tests.builders import container, manifest, pod
from tests.node_fixtures import Node
from tests.terminals import Terminal

PROOF = f"[ -f {guard.MARKER} ]"
ROOT = ["stat", "-c", "%d %i", "/"]


def test_whatever_is_started_in_a_pod_is_in_the_pod_s_root(node: Node, tmp_path: Path) -> None:
    """A hook that fails ends its container, a probe that fails lets it never be ready."""
    word = secrets.token_hex(8)
    looks = {"exec": {"command": ["sh", "-c", PROOF]}}
    probe: dict[str, Any] = {**looks, "periodSeconds": 1, "failureThreshold": 1}
    idle = f": {word}; {PROOF} || exit 1; trap 'exit 0' TERM; sleep 1000 & wait"
    probes: dict[str, Any] = {"startupProbe": probe, "readinessProbe": probe, "livenessProbe": probe}
    text = manifest(pod("p", container("c", idle, lifecycle={"postStart": looks}, **probes)))
    node("run", "-d", "--until", "ready", "-", input=text)
    root = root_of(word)
    assert root != identity("/")
    assert node("exec", "p", "--", *ROOT).stdout.strip() == root
    with Terminal(node.command("exec", "-it", "p", "--", *ROOT), node.env) as terminal:
        assert (terminal.wait(), terminal.output.strip()) == (0, root)
    guard.prove_copies(node, "p", tmp_path)


def root_of(word: str) -> str:
    """That of the container whose command line has the word."""
    pids = [process.pid for process in psutil.process_iter() if word in command_line(process.pid)]
    assert pids, "the container has ended: its root has no marker, or a hook or probe was not below it"
    return identity(f"/proc/{pids[0]}/root/")


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:  # ended
        return ""


def identity(path: str) -> str:
    found = os.stat(path)
    return f"{found.st_dev} {found.st_ino}"
