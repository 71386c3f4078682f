"""Commands and agents of different versions on one state: who replaces whom, and when nobody does (node).

Another version is a copy of this source with another number.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import minipod
from minipod.agent.registry.schema import SCHEMA_VERSION
from tests import builders
from tests.builders import container
from tests.conftest import CHECKOUT
from tests.node_fixtures import COMMAND_TIMEOUT_S, Node

POD = builders.manifest(
    builders.pod("p", container("a", "echo begun; exec sleep 1000", livenessProbe={"exec": {"command": ["true"]}}))
)


class Version:
    """The command line of another version with the folders of `node`."""

    def __init__(self, node: Node, place: Path, number: str, schema: int) -> None:
        self._node, self._number = node, number
        package = place / number / "minipod"
        shutil.copytree(CHECKOUT / "minipod", package, ignore=shutil.ignore_patterns("__pycache__"))
        for file, name, value in (
            ("__init__.py", "__version__", repr(number)),
            ("agent/registry/schema.py", "SCHEMA_VERSION", str(schema)),
        ):
            text = (package / file).read_text()
            changed = re.sub(rf"^{name} = .*$", f"{name} = {value}", text, flags=re.MULTILINE)
            assert changed != text or str(schema) == value
            (package / file).write_text(changed)
        self._env = os.environ | node.env | {"PYTHONPATH": str(package.parent), "PYTHONDONTWRITEBYTECODE": "1"}

    def __call__(self, *words: str, input: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "minipod", *words], input=input, capture_output=True, text=True, check=False,
            env=self._env, timeout=COMMAND_TIMEOUT_S, cwd="/",
        )  # fmt: skip

    def end(self) -> None:
        """Its pods and its agent."""
        self("delete", "pods", "--all", "--grace-period=0", "--force")
        version, pid = agent_of(self._node)
        if version != self._number:
            return
        process = psutil.Process(pid)
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(self._node.paths.agent_socket)
            connection.sendall(json.dumps({"verb": "shutdown", "version": self._number}).encode() + b"\n")
        psutil.wait_procs([process], timeout=10)


@pytest.fixture
def newer(node: Node, tmp_path: Path) -> Iterator[Version]:
    """It can read this version's state, and this version its."""
    made = Version(node, tmp_path, "9.9.9", SCHEMA_VERSION)
    yield made
    made.end()


@pytest.fixture
def changed(node: Node, tmp_path: Path) -> Iterator[Version]:
    """This version cannot read its state."""
    made = Version(node, tmp_path, "9.9.9", SCHEMA_VERSION + 1)
    yield made
    made.end()


def agent_of(node: Node) -> tuple[str, int]:
    status = node.ask("status")
    assert status is not None
    return str(status["version"]), int(str(status["pid"]))


def restarts(node: Node) -> int:
    count: int = json.loads(node("get", "pod", "p", "-o", "json").stdout)["status"]["containerStatuses"][0][
        "restartCount"
    ]
    return count


def test_an_agent_is_replaced_by_a_newer_and_by_an_older_version_that_reads_its_state(
    node: Node, newer: Version
) -> None:
    node("run", "-d", "--until", "running", "-", input=POD)
    begun = json.loads(node("get", "pod", "p", "-o", "json").stdout)["status"]["startTime"]
    for name, command in (("9.9.9", newer), (minipod.__version__, node)):
        done = command("get", "pod", "p", "-o", "jsonpath={.status.phase} {.status.startTime}")
        assert (done.returncode, done.stdout) == (0, f"Running {begun}"), done.stderr
        assert agent_of(node)[0] == name
        assert command("exec", "p", "--", "echo", "hi").stdout == "hi\n"
        assert command("logs", "p").stdout == "begun\n"
    assert restarts(node) == 0


def test_an_older_command_leaves_an_agent_alone_whose_state_it_cannot_read(node: Node, changed: Version) -> None:
    assert changed("run", "-d", "--until", "running", "-", input=POD).returncode == 0
    before = agent_of(node)
    assert before[0] == "9.9.9"
    for words in (("get", "pods"), ("delete", "pod", "p"), ("exec", "p", "--", "true")):
        done = node(*words, check=False)
        assert done.returncode == 3
        assert done.stderr == (
            f"error: the agent is minipod 9.9.9 and keeps running; minipod {minipod.__version__} cannot take over: "
            f"state database {node.paths.state}/minipod.db: written by a newer minipod (schema {SCHEMA_VERSION + 1}, "
            f"this one knows {SCHEMA_VERSION}): use that version, or another --data-dir\n"
        )
    assert agent_of(node) == before


def test_an_agent_refuses_to_exit_for_a_command_of_0_1(node: Node) -> None:
    """That could not read its leases."""
    node("run", "-d", "--until", "running", "-", input=POD)
    before = agent_of(node)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(node.paths.agent_socket)
        connection.sendall(b'{"verb": "shutdown", "version": "0.0.1"}\n')
        answer = json.loads(connection.makefile("rb").readline())["error"]
    assert answer["message"].startswith("the agent keeps running: minipod 0.0.1 cannot read what it leaves (schema ")
    assert agent_of(node) == before


def test_an_agent_refuses_to_exit_for_a_command_that_does_not_look_before(node: Node, changed: Version) -> None:
    """As those of 0.1 do not."""
    assert changed("run", "-d", "--until", "running", "-", input=POD).returncode == 0
    before = agent_of(node)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(node.paths.agent_socket)
        connection.sendall(b'{"verb": "shutdown", "version": "0.1.0"}\n')
        answer = json.loads(connection.makefile("rb").readline())["error"]
    assert answer["kind"] == "Conflict"
    assert answer["message"] == (
        f"the agent keeps running: minipod 0.1.0 cannot read what it leaves (schema {SCHEMA_VERSION + 1}, that version "
        "knows 1): use minipod 9.9.9"
    )
    assert agent_of(node) == before


@pytest.mark.parametrize("fault", ["configuration", "database"])
def test_an_agent_is_not_replaced_by_one_that_could_not_start(
    node: Node, newer: Version, tmp_path: Path, fault: str
) -> None:
    assert newer("run", "-d", "--until", "running", "-", input=POD).returncode == 0
    before = agent_of(node)
    broken = tmp_path / "broken.toml"
    broken.write_text("no_such_key = 1\n")
    words = ("--config", str(broken)) if fault == "configuration" else ("--data-dir", str(broken))
    done = node(*words, "get", "pods", check=False)
    assert done.returncode != 0
    assert (
        f"the agent is minipod 9.9.9 and keeps running; minipod {minipod.__version__} cannot take over: " in done.stderr
    )
    assert str(broken) in done.stderr
    assert agent_of(node) == before
