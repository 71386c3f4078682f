"""The lock that only root can open: bounded, named after its holder, removed with it."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from minipod.errors import HostError
from minipod.kernel import host_lock
from minipod.kernel.host_lock import root_lock


def test_the_file_is_roots_alone_and_goes_with_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with root_lock(str(path)):
        assert path.stat().st_mode & 0o777 == 0o600
    assert not path.exists()


def test_a_holder_that_does_not_let_go_is_named_and_not_waited_for(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    text = (
        "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, 2); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", text, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        name = Path(f"/proc/{other.pid}/comm").read_text().strip()
        with pytest.raises(HostError) as failure, root_lock(path, patience_s=0):
            pass
        other.communicate("")
    assert f"{path}: not free within 0 s: process {other.pid} ({name}) holds this lock" in str(failure.value)
    with root_lock(path, patience_s=0):
        pass


def test_whoever_waits_for_a_file_that_was_removed_takes_the_new_one(tmp_path: Path) -> None:
    path, inside, order = str(tmp_path / "lock"), [0], []

    def work(number: int) -> None:
        for _ in range(50):
            with root_lock(path):
                inside[0] += 1
                order.append(inside[0])
                inside[0] -= 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert order == [1] * 150
    assert not os.path.exists(path)


def test_a_thread_may_take_the_hosts_lock_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_lock, "FOLDER", str(tmp_path))
    with host_lock.host_lock(0) as outer, host_lock.host_lock(0) as inner:
        assert outer == inner == os.stat("/proc/self/ns/net").st_ino
        assert [entry.name for entry in tmp_path.iterdir()] == [f"minipod-network-{inner}.lock"]
    assert list(tmp_path.iterdir()) == []


def test_the_namespaces_own_file_locks_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any process of the host, and any in a hostNetwork container, can open and lock that one."""
    monkeypatch.setattr(host_lock, "FOLDER", str(tmp_path))
    with open("/proc/self/ns/net", "rb") as namespace:
        fcntl.flock(namespace, fcntl.LOCK_EX)
        with host_lock.host_lock(0):
            pass
