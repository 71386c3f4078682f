"""The leak check itself: what it must see, and what it must not mistake for ours."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from minipod.paths import Paths
from tests import leaks


@pytest.fixture
def before(session: leaks.Session) -> leaks.Picture:
    return leaks.take_picture(session)


def test_nothing_done_leaves_nothing(session: leaks.Session, before: leaks.Picture) -> None:
    assert leaks.new_since(before, leaks.take_picture(session)) == []


def test_an_orphan_is_found_by_its_environment(session: leaks.Session, before: leaks.Picture) -> None:
    orphan = int(subprocess.check_output(["sh", "-c", "sleep 60 >/dev/null 2>&1 & echo $!"]))
    try:
        assert leaks.new_since(before, leaks.take_picture(session)) == [f"process {orphan} (sleep 60)"]
    finally:
        os.kill(orphan, 9)


def test_an_open_descriptor_is_found(session: leaks.Session, before: leaks.Picture) -> None:
    read_end, write_end = os.pipe()
    found = leaks.new_since(before, leaks.take_picture(session))
    os.close(read_end)
    os.close(write_end)
    assert len(found) == 2


def test_a_cgroup_of_an_instance_is_found(session: leaks.Session, before: leaks.Picture, paths: Paths) -> None:
    hierarchy = leaks.CGROUP if (leaks.CGROUP / "cgroup.controllers").exists() else leaks.CGROUP / "pids"
    group = hierarchy / paths.instance
    group.mkdir()
    found = leaks.new_since(before, leaks.take_picture(session))
    group.rmdir()
    assert found == [f"cgroup {group}"]


def test_files_of_a_forgotten_pod_are_found(paths: Paths) -> None:
    os.makedirs(f"{paths.root}/leases")
    lease = f"{paths.root}/leases/10.1.0.2"
    with open(lease, "w"):
        pass
    found = leaks.leftover_files(*map(Path, (paths.root, paths.state)))
    os.unlink(lease)
    assert found == [f"file {lease}"]


def test_what_was_left_running_is_ended(session: leaks.Session, before: leaks.Picture) -> None:
    loop = "while :; do sleep 0.1; done >/dev/null 2>&1 & echo $!"
    orphan = int(subprocess.check_output(["sh", "-c", loop]))
    leaks.end_processes(session, before)
    assert leaks.wait_until_gone(lambda: [orphan] if leaks.is_alive(orphan) else []) == []
