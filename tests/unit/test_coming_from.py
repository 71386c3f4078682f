"""docs/coming-from.md, line by line, against an agent on a fake runtime: it works, or the error says what to type."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from minipod.cli.main import guarded
from minipod.cli.verbs import top
from minipod.control.verbs.table import Verbs
from minipod.control.wire import Connection, Message
from minipod.paths import Paths
from minipod.runtime.cgroup import CgroupStats
from minipod.runtime.images.registry import login
from minipod.runtime.images.registry.pull import Pulled
from minipod.runtime.images.store import ImageStore
from minipod.runtime.inspection import ContainerInspection, Group, SandboxInspection
from minipod.runtime.status import ContainerState
from tests.conftest import CHECKOUT
from tests.layouts import archive, entry, make_layout
from tests.unit.agent_client import Agent
from tests.unit.agent_fakes import close_stores

PAGE = CHECKOUT / "docs" / "coming-from.md"
ROW = re.compile(r"\| `([^`]+)` \| (works|instead) \| (.*) ?\|")
CHANGING = {"apply", "create", "replace", "delete", "debug", "image", "rmi", "tag", "kube", "play", "run"}
FOLLOWS_S = 0.3  # a command that follows something is interrupted after this time
POD = """\
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{{name: app, image: busybox, command: [sleep, "1000"]}}]
"""
SETTINGS = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {a: b}\n"


def rows() -> list[tuple[str, str, str]]:
    """(command line, works or instead, what minipod does) of every line of the page's tables."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    found = [ROW.fullmatch(line) for line in lines]
    assert [line for line, match in zip(lines, found, strict=True) if match is None] == []
    return [(match[1].replace("\\|", "|"), match[2], match[3].replace("\\|", "|")) for match in found if match]


def is_following(words: list[str]) -> bool:
    return (words[0] == "logs" and "-f" in words) or "-w" in words or (words[0] == "container" and "-f" in words)


class Player:
    """Plays command lines one after the other, each on a host that is as the first one found it."""

    def __init__(self, paths: Paths, capfd: pytest.CaptureFixture[str]) -> None:
        self._places = ["--run-dir", paths.root, "--data-dir", paths.state]
        self._paths = paths
        self._is_changed = True
        self._capfd = capfd

    def run(self, words: list[str], seconds: float = 20.0) -> tuple[int, str]:
        """Exit status and stderr; 130 where it was interrupted after `seconds`."""

        def interrupt(_number: int, _frame: FrameType | None) -> None:
            raise KeyboardInterrupt

        before = signal.signal(signal.SIGALRM, interrupt)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            status = guarded([*words[:1], *self._places, *words[1:]])
        except SystemExit as error:
            status = int(error.code or 0)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        return status, self._capfd.readouterr().err

    def prepare(self) -> None:
        assert self.run(["apply", "-f", "pod.yaml"])[0] == 0
        assert self.run(["wait", "--for=condition=Ready", "pod/web", "--timeout=10s"])[0] == 0
        for words in (["delete", "pod", "new"], ["delete", "cm,secret,ns", "new"]):
            self.run([*words, "--ignore-not-found"])
        store = ImageStore(self._paths)
        if store.resolve("busybox") is None:
            store.load("layout")

    def play(self, line: str, kind: str, words: str) -> str:
        """What is wrong; empty where the page is right."""
        typed = line.split()[1:]
        if self._is_changed:
            self.prepare()
        self._is_changed = kind == "works" and typed[0] in CHANGING
        follows = is_following(typed)
        status, errors = self.run(typed, FOLLOWS_S if follows else 20.0)
        if kind == "instead":
            missing = [text for text in re.findall(r"`([^`]+)`", words) if text not in errors]
            return f"{line}: {status} {errors}" if status != 2 or missing else ""
        return "" if status == (130 if follows else 0) else f"{line}: {status} {errors}"


async def execute(_self: Verbs, connection: Connection, request: Message) -> dict[str, Any]:
    connection.send({"event": "started"})
    request.close_fds()
    return {"exit_code": 0}


async def attach(_self: Verbs, connection: Connection, request: Message) -> dict[str, Any]:
    null = os.open(os.devnull, os.O_RDONLY)
    connection.send({"event": "started", "fds": ["stdout", "stderr"]}, (null, null))
    await connection.drain()
    os.close(null)
    return {"exit_code": 0}


async def root(self: Verbs, connection: Connection, _request: Message) -> dict[str, Any]:
    fd = os.open(f"{self._node.paths.state}/container", os.O_PATH | os.O_DIRECTORY)
    connection.send({"event": "root", "fds": ["root"], "cwd": "/", "uid": 0, "gid": 0}, (fd,))
    await connection.drain()
    os.close(fd)
    return {}


def use(agent: Agent) -> None:
    """What the fake runtime has no kernel for."""
    group = Group("/g", (), {}, CgroupStats(), 0)

    async def sandbox(_id: str) -> SandboxInspection:
        return SandboxInspection(group=group, namespaces={}, pins={}, host_namespaces={})

    async def container(_id: str) -> ContainerInspection:
        return ContainerInspection(group=group, namespaces={}, processes=(), process_count=0, mounts=())

    agent.runtime.inspect_pod_sandbox = sandbox  # type: ignore[attr-defined]
    agent.runtime.inspect_container = container  # type: ignore[attr-defined]
    agent.runtime.container_stats = lambda _id: CgroupStats()  # type: ignore[attr-defined]


@contextmanager
def serving(folder: Path) -> Iterator[Paths]:
    """An agent in a thread of its own."""
    ready, leave = threading.Event(), threading.Event()
    found: list[Paths] = []

    async def main() -> None:
        agent = Agent(folder)
        use(agent)
        found.append(agent.node.paths)
        ready.set()
        await asyncio.to_thread(leave.wait)
        for status in agent.runtime.containers.values():
            if status.state == ContainerState.RUNNING:
                agent.runtime.end(status.id, 0)
        await agent.close()
        close_stores()

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    try:
        assert ready.wait(20)
        yield found[0]
    finally:
        leave.set()
        thread.join(20)


@pytest.fixture
def player(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Player]:
    monkeypatch.setattr(top, "INTERVAL_S", 0.01)
    for name, fake in (("execute", execute), ("attach", attach), ("root", root)):
        monkeypatch.setattr(Verbs, name, fake)
    monkeypatch.setenv("EDITOR", "true")
    monkeypatch.setenv("REGISTRY_AUTH_FILE", f"{tmp_path}/auth.json")
    monkeypatch.setattr(login, "check", lambda *_: None)
    with serving(tmp_path) as paths:
        work = tmp_path / "work"
        work.mkdir()
        monkeypatch.chdir(work)
        container = Path(paths.state, "container")
        for place in (container / "tmp", container / "etc"):
            place.mkdir(parents=True)
        (container / "etc" / "hostname").write_text("web\n")
        Path("pod.yaml").write_text(POD.format(name="web") + SETTINGS)
        Path("new.yaml").write_text(POD.format(name="new"))
        Path("file").write_text("x")
        make_layout(work / "layout", archive([entry("file", b"x")]), name="docker.io/library/busybox:latest")
        ImageStore(paths).load("layout")
        assert guarded(["image", "save", "--data-dir", paths.state, "busybox", "-o", "image.tar"]) == 0
        pulled = lambda self, name, **_: Pulled(self.find("busybox"), False, 0.0)  # noqa: E731
        monkeypatch.setattr(ImageStore, "fetch", pulled)
        yield Player(paths, capfd)


def test_every_line_of_the_page_is_as_it_says(player: Player) -> None:
    faults = [fault for row in rows() if (fault := player.play(*row))]
    assert not faults, "\n".join(faults)


def test_the_page_has_150_lines_and_none_twice() -> None:
    lines = [line for line, _, _ in rows()]
    assert len(lines) >= 150
    assert len(set(lines)) == len(lines)
