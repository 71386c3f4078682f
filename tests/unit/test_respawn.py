"""A start in which the spawner dies: once more where nothing of the container has run, else its failure."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from minipod.runtime import respawn
from minipod.runtime.spawner import PROCESS_NAME
from minipod.runtime.spawner.client import Spawned, SpawnerGoneError, SpawnError

SPAWNED = Spawned(7, 1, {}, {})


class Spawners:
    """Each dies while it is asked, until one answers."""

    def __init__(self, deaths: int, left: str = PROCESS_NAME) -> None:
        self.asked = 0
        self.killed = False
        self._deaths = deaths
        self._left = left

    async def ask(self) -> Spawned:
        self.asked += 1
        self.killed = False
        if self.asked <= self._deaths:
            raise SpawnerGoneError
        return SPAWNED

    def pids(self, path: str, facts: Any) -> list[int]:
        return [4242]

    def kill_each(self, path: str, facts: Any) -> None:
        self.killed = True

    def populated(self, path: str, facts: Any) -> bool:
        return not self.killed

    def read_text(self, path: Path) -> str:
        assert str(path) == "/proc/4242/comm"
        return f"{self._left}\n"


def start(spawners: Spawners, monkeypatch: pytest.MonkeyPatch) -> Spawned:
    monkeypatch.setattr(respawn, "cgroup", spawners)
    monkeypatch.setattr(Path, "read_text", lambda path: spawners.read_text(path))
    facts: Any = None
    return asyncio.run(respawn.spawned(spawners.ask, "/group", facts))


def test_it_is_made_by_the_next_spawner_once_what_the_dead_one_forked_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    spawners = Spawners(deaths=2)
    assert start(spawners, monkeypatch) is SPAWNED
    assert spawners.asked == 3


def test_what_may_have_begun_is_not_begun_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    spawners = Spawners(deaths=1, left="sh")
    with pytest.raises(SpawnerGoneError):
        start(spawners, monkeypatch)
    assert (spawners.asked, spawners.killed) == (1, False)


def test_what_has_begun_is_continued_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """A real process, with its pipes and what is known of it; the children that it has by now do not count."""
    out, error = os.pipe(), os.pipe()
    script = "echo one; sleep 1000 & wait"
    shell = subprocess.Popen(["sh", "-c", script], stdout=out[1], stderr=error[1], env={"HOME": "/h"})
    child = psutil.Process(shell.pid)
    while not child.children():
        time.sleep(0.001)
    asked: list[int] = []

    class Groups:
        def pids(self, path: str, facts: Any) -> list[int]:
            return [shell.pid, *(found.pid for found in child.children())]

    async def ask() -> Spawned:
        asked.append(1)
        raise SpawnerGoneError

    monkeypatch.setattr(respawn, "cgroup", Groups())
    facts: Any = None
    fds = [*out, *error]
    try:
        found = asyncio.run(respawn.spawned(ask, "/group", facts))
        fds += found.fds.values()
        assert (found.pid, len(asked)) == (shell.pid, 1)
        root = os.stat("/")
        assert found.facts == {
            "uid": os.geteuid(), "gid": os.getegid(), "groups": sorted(os.getgroups()), "home": "/h",
            "root": [root.st_dev, root.st_ino],
        }  # fmt: skip
        assert sorted(found.fds) == ["pidfd", "stderr", "stdout"]
        assert os.read(found.fds["stdout"], 100) == b"one\n"
        with pytest.raises(SpawnerGoneError):
            asyncio.run(respawn.spawned(ask, "/group", facts, has_terminal=True))
    finally:
        for process in (*child.children(), child):
            process.kill()
        shell.wait()
        for fd in fds:
            os.close(fd)


def test_it_does_not_go_on_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    spawners = Spawners(deaths=100)
    with pytest.raises(SpawnerGoneError):
        start(spawners, monkeypatch)
    assert spawners.asked == 5


def test_a_spawner_that_refuses_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    spawners = Spawners(deaths=0)

    async def refuse() -> Spawned:
        spawners.asked += 1
        raise SpawnError("no such file", 2, "Exec")

    monkeypatch.setattr(spawners, "ask", refuse)
    with pytest.raises(SpawnError, match="no such file"):
        start(spawners, monkeypatch)
    assert spawners.asked == 1
