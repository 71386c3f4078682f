"""Attacks on the real kernel: each test has a node and a canary of its own, and the host must be as before."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from minipod.paths import Paths
from tests.attacks.canary import Canary, new_canary, picture_of_host, restore_devices
from tests.attacks.evil import EvilImages
from tests.image_fixtures import registry, store
from tests.leaks import Session, list_folder
from tests.node_fixtures import Node, image_folder, leak_check, paths, session

__all__ = ["image_folder", "leak_check", "paths", "registry", "session", "store"]


class AttackedNode(Node):
    """A node whose every output, log and event is looked through for the canary's secret."""

    def __init__(self, paths: Paths, canary: Canary) -> None:
        super().__init__(paths)
        self.canary = canary

    def __call__(self, *args: object, **options: Any) -> subprocess.CompletedProcess[str]:
        done = super().__call__(*args, **options)
        self.canary.hear(done.stdout + done.stderr, f"minipod {' '.join(map(str, args))[:80]}")
        return done

    def close(self) -> None:
        # a foreground run may have deleted its pod and let the agent leave; pods without an agent are its death
        died = bool(list_folder(f"{self.paths.root}/sandboxes")) and self.agent_pid() is None
        for file in (*Path(self.paths.pod_logs).rglob("*.log"), Path(self.paths.root, "agent.log")):
            if file.is_file() and not file.is_symlink():
                self.canary.hear(file.read_bytes(), str(file))
        super().close()
        assert not died, "the attack has ended the agent"


@pytest.fixture(autouse=True)
def host_unchanged(leak_check: None) -> Iterator[None]:
    """More than nothing left behind: what is the host's own is as before."""
    before = picture_of_host()
    yield
    now = picture_of_host()
    restore_devices(before)
    changed = [f"{key}: was {before.get(key)}, is {now.get(key)}" for key in before if before[key] != now.get(key)]
    assert not changed, "the host is changed:\n  " + "\n  ".join(changed)


@pytest.fixture
def canary(session: Session, leak_check: None) -> Iterator[Canary]:
    """Outside of every root; the test fails where it was changed or its secret came out."""
    with new_canary() as made:
        session.folders.add(str(made.folder))
        yield made
        harm = made.harm()
    assert not harm, "the canary is harmed:\n  " + "\n  ".join(harm)


@pytest.fixture
def node(paths: Paths, canary: Canary) -> Iterator[AttackedNode]:
    """The command line on a host of its own, with an ear for the secret."""
    made = AttackedNode(paths, canary)
    yield made
    made.close()
    log = Path(paths.root, "agent.log")
    print(log.read_text(errors="replace") if log.exists() else "no agent ran")  # shown with a test that fails


@pytest.fixture
def evil(node: AttackedNode, image_folder: str) -> Iterator[EvilImages]:
    """Makes images byte by byte into an image store of the test's own."""
    images = f"{node.paths.state}/images"
    os.unlink(images)
    subprocess.run(["cp", "-a", image_folder, images], check=True)
    with tempfile.TemporaryDirectory(prefix="evil") as folder:
        yield EvilImages(node.paths, Path(folder))
