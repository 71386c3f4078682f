"""The state's disk is full, out of inodes, read-only or locked: pods end, are deleted, and no exit code is lost."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import select
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from minipod.kernel.mount import mount, umount
from minipod.paths import Paths
from tests import builders
from tests.node.test_clock import wait_for
from tests.node_fixtures import Node
from tests.patience import SLOWNESS

LIMIT_S = 1.0 * SLOWNESS  # until a command has ended or said why it has not
TRAPPING = "trap 'exit 5' TERM; touch /tmp/ready; while :; do sleep 0.05; done"
Trouble = Callable[[str], contextlib.AbstractContextManager[None]]


@pytest.fixture
def paths(paths: Paths) -> Iterator[Paths]:
    """Root and state are small file systems of their own."""
    images = os.readlink(f"{paths.state}/images")
    with small(paths.root, "size=16m"), small(paths.state, "size=8m,nr_inodes=400"):
        os.symlink(images, f"{paths.state}/images")
        yield paths


@contextlib.contextmanager
def small(place: str, options: str) -> Iterator[None]:
    mount("tmpfs", place, "tmpfs", 0, f"{options},mode=711")
    try:
        yield
    finally:
        umount(place, 2)


@contextlib.contextmanager
def full(folder: str) -> Iterator[None]:
    with open(f"{folder}/fill", "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"\0" * 4096)
    try:
        yield
    finally:
        os.unlink(f"{folder}/fill")


@contextlib.contextmanager
def out_of_inodes(folder: str) -> Iterator[None]:
    """No file can be made; and no page is left for those that are there."""
    files = Path(folder, "many")
    files.mkdir()
    with contextlib.suppress(OSError):
        for number in range(10_000):
            (files / str(number)).touch()
    try:
        with full(str(files / "0")) if (files / "0").is_dir() else full_file(files / "0"):
            yield
    finally:
        for file in files.iterdir():
            file.unlink()
        files.rmdir()


@contextlib.contextmanager
def full_file(file: Path) -> Iterator[None]:
    with open(file, "wb", buffering=0) as opened, contextlib.suppress(OSError):
        while True:
            opened.write(b"\0" * 4096)
    yield


@contextlib.contextmanager
def locked(folder: str) -> Iterator[None]:
    with contextlib.closing(sqlite3.connect(f"{folder}/minipod.db", isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        yield
        db.execute("ROLLBACK")


def end_agent(pid: int, number: signal.Signals) -> None:
    pidfd = os.pidfd_open(pid)
    try:
        os.kill(pid, number)
        assert select.select([pidfd], [], [], 10 * SLOWNESS)[0]
    finally:
        os.close(pidfd)


def timed(node: Node, *words: object) -> tuple[float, Any]:
    begun = time.monotonic()
    done = node(*words, check=False)
    return time.monotonic() - begun, done


def terminated(node: Node, name: str) -> Any:
    pod: Any = node.pod(name)
    (container,) = pod["status"]["containerStatuses"]
    return container["state"].get("terminated") or {}


def stored(node: Node) -> dict[str, Any]:
    with contextlib.closing(sqlite3.connect(f"file:{node.paths.state}/minipod.db?mode=ro", uri=True)) as db:
        rows = db.execute("SELECT name, data FROM objects WHERE kind = 'Pod'").fetchall()
    return {name: json.loads(data) for name, data in rows}


def is_ready(node: Node, name: str) -> bool:
    return node("exec", name, "--", "test", "-e", "/tmp/ready", check=False).returncode == 0


def start(node: Node, folder: Path) -> int:
    """Pods that end with 7 at `/tmp/end`, run on, and are trapped; the agent's pid."""
    ends = "trap 'exit 7' USR1; touch /tmp/ready; while :; do sleep 0.05; done"
    pods = [
        builders.pod("ends", builders.container("c", ends)),
        builders.pod("again", builders.container("c", ends), restartPolicy="OnFailure"),
        builders.pod("stays", builders.container("c", TRAPPING), terminationGracePeriodSeconds=10),
    ]
    file = folder / "pods.yaml"
    file.write_text(builders.manifest(*pods))
    node("run", "--detach", file)
    for pod in pods:
        name = pod["metadata"]["name"]
        wait_for(functools.partial(is_ready, node, name))
    pid = node.agent_pid()
    assert pid is not None
    return pid


@pytest.mark.parametrize("trouble", [full, out_of_inodes, locked], ids=lambda trouble: str(trouble.__name__))
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "ended"])
def test_nothing_is_lost_while_the_store_takes_nothing(
    node: Node, tmp_path: Path, trouble: Trouble, end: signal.Signals
) -> None:
    agent = start(node, tmp_path)
    with trouble(node.paths.state):
        for name in ("ends", "again"):
            node("exec", name, "--", "sh", "-c", "kill -USR1 1")
        wait_for(lambda: terminated(node, "ends").get("exitCode") == 7)
        wait_for(lambda: node.pod("again")["status"]["containerStatuses"][0]["restartCount"] == 1)  # type: ignore[index]
        for words in (("label", "pod", "stays", "a=b"), ("apply", "-f", tmp_path / "pods.yaml", "-n", "other")):
            took, done = timed(node, *words)
            assert done.returncode == 3, done
            assert "state database" in done.stderr
            assert took < LIMIT_S
        end_agent(agent, end)
        if trouble is not locked:  # it cannot be opened while another process writes
            assert terminated(node, "ends")["exitCode"] == 7
            took, done = timed(node, "delete", "pod", "stays")
            assert (done.returncode, done.stdout) == (0, 'pod "stays" deleted from default namespace\n')
            assert took < LIMIT_S
            assert "stays" not in node("get", "pods").stdout
    ended = terminated(node, "ends")
    assert (ended["exitCode"], ended["reason"]) == (7, "Error")
    again: Any = node.pod("again")["status"]
    assert again["containerStatuses"][0]["restartCount"] == 1
    assert again["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] == 7
    names = {"ends", "again"} | ({"stays"} if trouble is locked else set())
    wait_for(lambda: set(stored(node)) == names)
    wait_for(lambda: not list(Path(node.paths.root, "unsaved").glob("*-*")))
    assert stored(node)["ends"]["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 7


@contextlib.contextmanager
def nothing_is_kept(root: str) -> Iterator[None]:
    """Not even where the root has some bytes left."""
    Path(root, "unsaved").touch()
    try:
        yield
    finally:
        Path(root, "unsaved").unlink()


def test_while_nothing_can_be_kept_at_all_a_pod_is_stopped_and_delete_says_why_it_is_not_gone(
    node: Node, tmp_path: Path
) -> None:
    agent = start(node, tmp_path)
    with full(node.paths.state), nothing_is_kept(node.paths.root), full(node.paths.root):
        node("exec", "ends", "--", "sh", "-c", "kill -USR1 1")
        wait_for(lambda: terminated(node, "ends").get("exitCode") == 7)
        with node.popen("delete", "pod", "stays") as deletion:
            assert deletion.stdout is not None
            begun = time.monotonic()
            line = deletion.stdout.readline()
            assert time.monotonic() - begun < 2 * LIMIT_S
            assert line.startswith('warning: pod "stays": its end is delayed: state database')
            assert f"{node.paths.root}/unsaved: file exists" in line
            assert not processes(node, "touch /tmp/ready; while")
            end_agent(agent, signal.SIGKILL)
            deletion.wait(10 * SLOWNESS)
    assert terminated(node, "ends")["exitCode"] == 7  # by the records of the runtime
    node("delete", "pod", "--all", timeout_s=30 * SLOWNESS)


def processes(node: Node, words: str) -> list[str]:
    """The command lines of processes of the pod that runs on."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            line = Path("/proc", name, "cmdline").read_bytes().decode().replace("\0", " ")
            group = Path("/proc", name, "cgroup").read_text()
            if words in line and "exit 5" in line and node.paths.instance in group:
                found.append(line)
    return found
