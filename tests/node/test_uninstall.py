"""`minipod uninstall`: what it says, what it refuses, what is there afterwards."""

from __future__ import annotations

import os
from pathlib import Path

from tests.builders import container, manifest, pod
from tests.node_fixtures import Node


def started(node: Node, tmp_path: Path) -> None:
    sleeping = container("c", "trap 'exit 0' TERM; sleep 1000 & wait")
    file = tmp_path / "pod.yaml"
    file.write_text(manifest(pod("web", sleeping, restartPolicy="Always")))
    node("run", "-d", file, "--until", "running")


def test_it_names_what_it_would_remove_and_refuses_while_containers_run(node: Node, tmp_path: Path) -> None:
    started(node, tmp_path)
    shown = node("uninstall", "--purge", "--dry-run").stdout.splitlines()
    assert shown[0] == "delete pod default/web (running)"
    assert f"remove {node.paths.root}" in shown
    refused = node("uninstall", "--purge", "--yes", check=False)
    assert (refused.returncode, refused.stderr) == (
        1,
        "error: default/web: still running: delete them first, or end them with --force\n",
    )
    assert node("uninstall", "--force", check=False).returncode == 2  # nobody is there to be asked
    assert node("get", "pods", "-o", "name").stdout == "pod/web\n"


def test_without_purge_the_pods_come_back(node: Node, tmp_path: Path) -> None:
    started(node, tmp_path)
    node("uninstall", "--force", "--yes")
    assert not os.path.exists(node.paths.root)
    node("agent", "start-pods")
    node("wait", "--for=condition=Ready", "pod/web")
    assert "SandboxChanged" in node("events", "--for", "pod/web").stdout


def test_purged_nothing_is_there_and_images_of_others_are(node: Node, tmp_path: Path) -> None:
    started(node, tmp_path)
    images = os.path.realpath(f"{node.paths.state}/images")  # a link: what it leads to is not minipod's own
    node("uninstall", "--purge", "--force", "--yes")
    assert not os.path.exists(node.paths.root)
    assert not os.path.exists(node.paths.state)
    assert os.listdir(images)
    assert node("uninstall", "--purge").stdout == "nothing of minipod is here\n"
