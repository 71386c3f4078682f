"""Every example runs and shows what its first line says."""

from __future__ import annotations

import json
import signal
import socket
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import leaks
from tests.conftest import CHECKOUT
from tests.node_fixtures import Node

EXAMPLES = CHECKOUT / "examples"

#: those that end by themselves: exit status of `run`, what it must have shown
ENDING: dict[str, tuple[int, list[str]]] = {
    "hello": (0, ["Hello from a pod"]),
    "init-order": (0, ["first second main"]),
    "oom": (137, ["filling memory", "OOMKilled"]),
    "shared-volume": (0, ["read: on disk in memory", "and may not write"]),
    "configuration": (0, ["good morning, everybody", "port = 8080", "configuration\n15"]),
    "claim": (0, ["run number 1"]),
    "host-network": (0, ["host name: ", "interfaces: ", "lo"]),
    "share-pid": (0, ["waiting", "told to stop", "the worker has been told"]),
    "resources": (0, ["memory: 67108864", "cpu: 50000 100000"]),
    "security": (
        0,
        [
            "uid=1000 gid=3000",
            "CapEff:\t0000000000000000",
            "NoNewPrivs:\t1",
            "Seccomp:\t2",
            "the root file system is read-only",
            "/tmp is not",
        ],
    ),
}
GOING_ON = ("localhost", "crash-loop")
#: test_package_images.py
OF_PACKAGES = ("nginx", "redis", "postgres", "python")


def test_every_example_is_tested() -> None:
    assert sorted(path.stem for path in EXAMPLES.glob("*.yaml")) == sorted([*ENDING, *GOING_ON, *OF_PACKAGES])


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_an_example_says_what_it_shows(path: Path) -> None:
    assert path.read_text().startswith("# ")
    pods = [one for one in yaml.safe_load_all(path.read_text()) if one["kind"] == "Pod"]
    assert [pod["metadata"]["name"] for pod in pods] == [path.stem]


@pytest.mark.parametrize("name", ENDING)
def test_example_shows_what_it_says(node: Node, name: str) -> None:
    status, shown = ENDING[name]
    done = node("run", EXAMPLES / f"{name}.yaml", check=False)
    output = done.stdout + done.stderr
    assert [text for text in shown if text not in output] == [], output
    assert done.returncode == status, output


def test_localhost_talks_until_it_is_interrupted(node: Node) -> None:
    with node.popen("run", EXAMPLES / "localhost.yaml") as run:
        assert run.stdout is not None
        shown = []
        for line in run.stdout:
            shown.append(line)
            if "Hello from localhost" in line:
                break
        run.send_signal(signal.SIGINT)
        rest = run.stdout.read()
    output = "".join(shown) + rest
    assert "prepared index.html" in output
    assert "serving on port 8080" in output
    assert "Hello from localhost" in output
    assert json.loads(node("get", "pods", "-o", "json").stdout)["items"] == []


def test_localhost_is_a_pod_of_two_containers_with_one_address(node: Node) -> None:
    node("run", "-d", "--until", "ready", EXAMPLES / "localhost.yaml")
    answer = node("exec", "localhost", "-c", "client", "--", "wget", "-q", "-O", "-", "http://localhost:8080")
    assert answer.stdout == "Hello from localhost\n"
    assert node("exec", "localhost", "-c", "web", "--", "cat", "/site/index.html").stdout == "Hello from localhost\n"
    assert get(status_of(node, "localhost")["podIP"], 8080).endswith(b"Hello from localhost\n")
    node("delete", "pod", "localhost")


def test_crash_loop_is_started_again_at_once_and_then_backs_off(node: Node) -> None:
    node("run", "-d", "--until", "created", EXAMPLES / "crash-loop.yaml")

    def waiting_reason() -> list[str]:
        state = status_of(node, "crash-loop")["containerStatuses"][0]
        return [] if state["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff" else [str(state)]

    assert leaks.wait_until_gone(waiting_reason) == []
    status = status_of(node, "crash-loop")
    container = status["containerStatuses"][0]
    assert (status["phase"], container["restartCount"]) == ("Running", 1)
    assert container["lastState"]["terminated"]["exitCode"] == 3
    assert "CrashLoopBackOff" in node("get", "pods").stdout
    node("delete", "pod", "crash-loop")


def status_of(node: Node, name: str) -> Any:
    return node.pod(name)["status"]


def get(host: str, port: int) -> bytes:
    with socket.create_connection((host, port), timeout=5) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        with connection.makefile("rb") as stream:
            return stream.read()
