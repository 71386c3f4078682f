"""`minipod cp` both ways, and the attacks that `kubectl cp` fell for, on the real kernel."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.guard import guarded, prove_copies
from tests.node_fixtures import Node


@pytest.fixture
def pod(node: Node) -> Node:
    """A node with the pod `p` running, which has a volume at /v."""
    given: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p"},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "volumes": [{"name": "v", "emptyDir": {}}],
            "containers": [
                {
                    "name": "c",
                    "image": "busybox",
                    "command": ["sleep", "1000"],
                    "volumeMounts": [{"name": "v", "mountPath": "/v"}],
                }
            ],
        },
    }
    node("run", "-d", "--timeout", "20s", "-", input=json.dumps(given))
    return node


def sh(node: Node, command: str) -> str:
    return node("exec", "p", "--", "sh", "-c", command).stdout


def test_a_folder_goes_there_and_back(pod: Node, tmp_path: Path) -> None:
    source = tmp_path / "src"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "script").write_text("#!/bin/sh\n")
    (source / "deep" / "script").chmod(0o750)
    (source / "binary").write_bytes(bytes(range(256)) * 5000)
    os.symlink("binary", source / "link")
    pod("cp", source, "p:/v")  # into the folder that is there
    pod("cp", source, "default/p:/v/other")  # under a new name
    assert sh(pod, "cd /v; ls; readlink src/link; stat -c %a other/deep/script") == "other\nsrc\nbinary\n750\n"
    back = pod("cp", "p:/v/src", tmp_path / "back")
    assert (tmp_path / "back" / "binary").read_bytes() == (source / "binary").read_bytes()
    assert stat.S_IMODE((tmp_path / "back" / "deep" / "script").stat().st_mode) == 0o750
    assert not (tmp_path / "back" / "link").exists()
    assert "skipping symlink" in back.stderr


def test_a_file_goes_into_a_folder_or_under_a_new_name(pod: Node, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("1")
    pod("cp", tmp_path / "file", "p:/v")
    pod("cp", tmp_path / "file", "p:/v/new")
    pod("cp", tmp_path / "file", "p:v/relative")
    assert sh(pod, "cat /v/file /v/new /v/relative") == "111"
    (tmp_path / "folder").mkdir()
    pod("cp", "p:/v/file", tmp_path / "folder")
    pod("cp", "p:/v/new", tmp_path / "copy", "-c", "c")
    assert (tmp_path / "folder" / "file").read_text() == (tmp_path / "copy").read_text() == "1"


@pytest.mark.attack(row=4)
def test_no_program_of_the_image_is_run(pod: Node, tmp_path: Path) -> None:
    """CVE-2019-14271, CVE-2018-1002100: neither a tar nor a library of the image has a say in what is copied."""
    sh(pod, guarded("for f in tar cat cp sh; do rm -f /bin/$f; ln -s /bin/none /bin/$f; done; true"))
    (tmp_path / "file").write_text("1")
    pod("cp", tmp_path / "file", "p:/v/file")
    pod("cp", "p:/v/file", tmp_path / "back")
    assert (tmp_path / "back").read_text() == "1"


@pytest.mark.attack(row=30)
def test_a_file_replaces_a_link_and_not_what_it_leads_to(pod: Node, tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "target").mkdir()
    os.symlink(tmp_path / "victim", tmp_path / "target" / "file")
    sh(pod, "echo new > /v/file")
    pod("cp", "p:/v/file", tmp_path / "target")
    assert (tmp_path / "victim").read_text() == "mine"
    assert (tmp_path / "target" / "file").read_text() == "new\n"


def test_a_read_only_place_stays_so_and_mistakes_are_reported(pod: Node, tmp_path: Path) -> None:
    prove_copies(pod, "p", tmp_path)
    (tmp_path / "file").write_text("1")
    assert pod("cp", tmp_path / "none", "p:/v", check=False).returncode == 1
    assert "no such file" in pod("cp", "p:/none", tmp_path / "x", check=False).stderr
    assert "must be a remote" in pod("cp", "a", "b", check=False).stderr
    assert "must be a local" in pod("cp", "p:a", "p:b", check=False).stderr
    assert 'pods "q" not found' in pod("cp", tmp_path / "file", "q:/v", check=False).stderr
    assert pod("cp", tmp_path / "file", "p:/proc/sys/kernel/hostname", check=False).returncode != 0
    pod("cp", tmp_path / "file", "p:/etc/hosts")  # a mount point is written to, not replaced
    assert sh(pod, "cat /etc/hosts") == "1"
