"""Static pods, `minipod agent`, socket activation and what a foreground run reports, on the real kernel (node)."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import builders
from tests.builders import container
from tests.node_fixtures import COMMAND_TIMEOUT_S, Node


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + COMMAND_TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def text(script: str = "exec sleep 1000") -> str:
    return builders.manifest(builders.pod("web", container("main", script), terminationGracePeriodSeconds=1))


@pytest.fixture
def folder(node: Node, tmp_path: Path) -> Iterator[Path]:
    """The directory of static pods; empty at the end, so that none comes back."""
    place = tmp_path / "pods"
    place.mkdir()
    node.configure(f'static_pod_path = "{place}"\nnode_name = "here"\n')
    yield place
    for file in place.iterdir():
        file.unlink()
    if node.agent_pid() is not None:
        until(lambda: not node("get", "pods", "-o", "name").stdout, "static pods end with their files")


def uid_and_container(node: Node) -> tuple[str, str]:
    """Of the static pod, once it runs."""
    found: list[tuple[str, str]] = []

    def runs() -> bool:
        shown = "jsonpath={.metadata.uid} {.status.containerStatuses[0].containerID} {.status.phase}"
        words = node("get", "pod", "web-here", "-o", shown, check=False).stdout.split()
        if len(words) == 3 and words[2] == "Running":
            found.append((words[0], words[1]))
        return bool(found)

    until(runs, "the static pod runs")
    return found[0]


def test_static_pods_outlive_agents_and_follow_their_files(node: Node, folder: Path) -> None:
    (folder / "web.yaml").write_text(text())
    node("agent", "restart")
    first = uid_and_container(node)
    os.kill(node.agent_pid() or 0, signal.SIGKILL)
    node("agent", "restart")
    assert uid_and_container(node) == first
    assert "0 pods" not in node("agent", "stop").stdout
    (folder / "web.yaml").write_text(text("exec sleep 2000"))
    node("agent", "restart")
    until(lambda: uid_and_container(node)[0] != first[0], "its successor, of a file that changed without an agent")
    (folder / "web.yaml").rename(folder / "web.yaml~")
    until(lambda: not node("get", "pods", "-o", "name").stdout, "it has ended with its file")


def test_a_run_reports_to_its_service_manager_and_ends_well_when_that_stops_it(node: Node, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(COMMAND_TIMEOUT_S)
        (tmp_path / "web.yaml").write_text(text())
        environment = os.environ | node.env | {"NOTIFY_SOCKET": str(tmp_path / "notify")}
        run = node.popen("run", tmp_path / "web.yaml", env=environment)
        assert manager.recv(4096) == b"READY=1\nSTATUS=1 of 1 pods ready"
        run.send_signal(signal.SIGTERM)
        while not (message := manager.recv(4096)).startswith(b"STOPPING=1"):
            pass
        assert b"EXTEND_TIMEOUT_USEC=61000000" in message
        run.communicate(timeout=COMMAND_TIMEOUT_S)
        assert run.returncode == 0
    with open(f"/proc/{node.agent_pid()}/environ", "rb") as file:
        assert b"NOTIFY_SOCKET" not in file.read(), "the agent that it started is none of that service"


def test_an_agent_takes_the_socket_that_a_service_manager_listens_on(node: Node, tmp_path: Path) -> None:
    (tmp_path / "web.yaml").write_text(text())
    node("run", "-d", tmp_path / "web.yaml")
    by_command = node.agent_pid()
    os.unlink(node.paths.agent_socket)  # as systemd does before it binds
    with socket.socket(socket.AF_UNIX) as manager:
        manager.bind(node.paths.agent_socket)
        manager.listen()
        shell = 'exec 3<&"$1"; export LISTEN_FDS=1 LISTEN_PID=$$; shift; exec "$@"'
        command = [sys.executable, "-m", "minipod", "agent"]
        agent = subprocess.Popen(
            ["/bin/bash", "-c", shell, "bash", str(manager.fileno()), *command],
            env=os.environ | node.env, pass_fds=(manager.fileno(),), stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            assert "web" in node("get", "pods").stdout
            assert node.agent_pid() == agent.pid != by_command
            assert "in the foreground" in node("agent", "status").stdout
            assert "1 pod keeps running" in node("agent", "stop").stdout
            assert agent.wait(COMMAND_TIMEOUT_S) == 0
            assert os.path.exists(node.paths.agent_socket), "it is the manager's"
        finally:
            agent.kill()
            agent.wait()
    assert "web" in node("get", "pods").stdout
