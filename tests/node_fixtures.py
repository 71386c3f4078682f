"""Fixtures of the tests that need root: `paths`, `node`, and the leak check after every test."""

from __future__ import annotations

import json
import os
import secrets
import select
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import minipod
from minipod.paths import Paths
from minipod.runtime.images.store import ImageStore
from tests import guard, leaks
from tests.conftest import CHECKOUT
from tests.doubled import said_twice
from tests.patience import SLOWNESS

COMMAND_TIMEOUT_S = 60 * SLOWNESS


class Node:
    """One minipod of its own: `node("run", "-d", file)` runs the command line with this root and state."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths
        self.env = {"MINIPOD_RUN_DIR": paths.root, "MINIPOD_DATA_DIR": paths.state, "PYTHONPATH": str(CHECKOUT)}

    def __call__(
        self, *args: object, input: str | None = None, check: bool = True, timeout_s: float = COMMAND_TIMEOUT_S
    ) -> subprocess.CompletedProcess[str]:
        """Runs `minipod ARGS`, waits for its end; `check` fails the test when its exit status is not 0."""
        done = subprocess.run(
            self.command(*args), input=input, capture_output=True, text=True, env=os.environ | self.env,
            timeout=timeout_s, check=False, stdin=None if input is not None else subprocess.DEVNULL,
        )  # fmt: skip
        assert not said_twice(done.stderr), done.stderr
        if check and done.returncode != 0:
            pytest.fail(f"minipod {' '.join(map(str, args))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def configure(self, text: str) -> None:
        """What config.toml says to the agent that starts next, and to this node's commands."""
        file = Path(self.paths.root).parent / "config.toml"
        file.write_text(text)
        self.env["MINIPOD_CONFIG"] = str(file)

    def command(self, *args: object) -> list[str]:
        return [sys.executable, "-m", "minipod", *map(str, args)]

    def popen(self, *args: object, **options: Any) -> subprocess.Popen[str]:
        """Starts `minipod ARGS` with its output in pipes; the caller ends it."""
        settings: dict[str, Any] = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.STDOUT,
            "text": True,
            "env": os.environ | self.env,
        }
        started: subprocess.Popen[str] = subprocess.Popen(self.command(*args), **(settings | options))
        return started

    def pod(self, name: str, namespace: str = "default") -> dict[str, object]:
        """The pod as `get -o json` shows it."""
        answer: dict[str, object] = json.loads(self("get", "pods", name, "-n", namespace, "-o", "json").stdout)
        return answer

    def ask(self, verb: str, **fields: object) -> dict[str, object] | None:
        """One request over the control socket: the last line of the answer; None when no agent listens."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(COMMAND_TIMEOUT_S)
            try:
                connection.connect(self.paths.agent_socket)
            except (FileNotFoundError, ConnectionRefusedError):
                return None
            connection.sendall(json.dumps({"verb": verb, "version": minipod.__version__, **fields}).encode() + b"\n")
            with connection.makefile("rb") as stream:
                for line in stream:
                    answer: dict[str, object] = json.loads(line)
                    if "ok" in answer or "error" in answer:
                        return answer
        return None

    def agent_pid(self) -> int | None:
        status = self.ask("status")
        pid = status.get("pid") if status else None
        return pid if isinstance(pid, int) else None

    def close(self) -> None:
        """Deletes what is left of pods, by a new agent where a test has ended its own, and has the agent leave."""
        if self.agent_pid() is None and not leaks.list_folder(f"{self.paths.root}/sandboxes"):
            return
        listing = self("get", "pods", "-A", "-o", "json", check=False).stdout
        metadata = [pod["metadata"] for pod in json.loads(listing or "{}").get("items", [])]
        for namespace in {meta["namespace"] for meta in metadata}:
            names = [meta["name"] for meta in metadata if meta["namespace"] == namespace]
            self("delete", "pod", *names, "-n", namespace, "--grace-period=0", "--force", check=False)
        pid = self.agent_pid()
        if pid is None:
            return
        pidfd = os.pidfd_open(pid)
        self.ask("shutdown")
        select.select([pidfd], [], [], 10 * SLOWNESS)  # its end; init may take a while to reap it
        os.close(pidfd)


@pytest.fixture(scope="session")
def session() -> leaks.Session:
    """Marks every process that the tests start, so that it is recognised whatever its parent becomes."""
    identity = secrets.token_hex(8)
    os.environ[leaks.SESSION_VARIABLE] = identity
    return leaks.Session(identity)


@pytest.fixture(scope="session")
def image_folder() -> Iterator[str]:
    """An image store with busybox (marked: `tests/guard.py`) in it, made once; each test's state links to it.

    Do not change it.
    """
    with tempfile.TemporaryDirectory(prefix="mpi") as folder:
        layout = guard.write_marked_busybox(Path(folder, "layout"))
        ImageStore(Paths(f"{folder}/root", folder)).load_layout(layout)
        yield f"{folder}/images"


@pytest.fixture(autouse=True)
def leak_check(session: leaks.Session, image_folder: str) -> Iterator[None]:
    """Fails a test after which the host is not as before."""
    before = leaks.take_picture(session)
    yield
    left = leaks.wait_until_gone(lambda: leaks.new_since(before, leaks.take_picture(session)))
    if left:
        leaks.end_processes(session, before)
        hint = "" if session.shared_host else f"\n(others at work on this host? set {leaks.SHARED_HOST_VARIABLE}=1)"
        pytest.fail("left behind:\n  " + "\n  ".join(left) + hint)


@pytest.fixture
def paths(session: leaks.Session, leak_check: None, image_folder: str) -> Iterator[Paths]:
    """Empty root and state of a test's own, short enough for unix sockets; busybox is in the image store."""
    base = tempfile.mkdtemp(prefix="mp", dir="/tmp")
    made = Paths(f"{base}/r", f"{base}/s")
    os.mkdir(made.root)
    os.mkdir(made.state)
    os.symlink(image_folder, f"{made.state}/images")
    session.folders.add(base)
    session.instances.add(made.instance)
    yield made
    left = leaks.wait_until_gone(lambda: leaks.leftover_files(Path(made.root), Path(made.state)))
    shutil.rmtree(base)
    if left:
        pytest.fail("left behind:\n  " + "\n  ".join(left))


@pytest.fixture
def node(paths: Paths) -> Iterator[Node]:
    """The command line on a host of its own; pods that a test leaves are deleted, its agent is sent away."""
    made = Node(paths)
    yield made
    made.close()
    log = Path(paths.root, "agent.log")
    print(log.read_text(errors="replace") if log.exists() else "no agent ran")  # shown with a test that fails
