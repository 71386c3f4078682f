"""Whatever write of the store fails: then the lists, the database and the watchers agree (unit, virtual clock)."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest

from minipod.agent.pods.recovery import recover
from minipod.agent.registry.store import Store
from minipod.api.kinds import ALL_KINDS, NODE
from tests.unit import agent_fakes
from tests.unit.agent_client import MANIFEST, Agent, with_agent

KINDS = [kind.plural for kind in ALL_KINDS if kind is not NODE]
WRITES = 90  # of the scenario
Content = dict[tuple[str, str, str], Any]


class Disk:
    """The store's connection. Writes `first` to before `last` fail, counted from when this was put in."""

    def __init__(self, db: sqlite3.Connection, first: int, last: int) -> None:
        self._db = db
        self.failing = range(first, last)
        self.writes = 0

    def execute(self, sql: str, *values: Any) -> Any:
        self._count(sql)
        return self._db.execute(sql, *values)

    def executemany(self, sql: str, values: Any) -> Any:
        self._count(sql)
        return self._db.executemany(sql, values)

    def _count(self, sql: str) -> None:
        if sql.startswith(("INSERT", "DELETE", "COMMIT")):
            self.writes += 1
            if self.writes - 1 in self.failing:
                raise sqlite3.OperationalError("database or disk is full")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)


class Watcher:
    """What a client knows that listed once and then believed its watch."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self.content: Content = {}

    async def follow(self, kind: str) -> None:
        client = self._agent.client()
        await client.send(verb="get", kind=kind, watch=True, output="object")
        while (event := await client.line()) is not None:
            if event["event"] != "object":
                continue
            thing = event["object"]
            if event["type"] == "DELETED":
                del self.content[key(thing)]
            else:
                assert (key(thing) in self.content) == (event["type"] == "MODIFIED"), event
                self.content[key(thing)] = thing


def key(thing: dict[str, Any]) -> tuple[str, str, str]:
    return thing["kind"], thing["metadata"].get("namespace", ""), thing["metadata"]["name"]


async def listed(agent: Agent) -> Content:
    found: Content = {}
    for kind in KINDS:
        *events, _ = await agent.ask(verb="get", kind=kind, output="object")
        found |= {key(event["object"]): event["object"] for event in events}
    return found


def in_database(agent: Agent) -> Content:
    with sqlite3.connect(agent.node.store.path) as db:
        rows = [*db.execute("SELECT data FROM objects WHERE kind NOT LIKE 'applied/%' AND kind != 'logs'")]
        rows += [*db.execute("SELECT data FROM events")]
    return {key(thing): thing for (data,) in rows for thing in [json.loads(data)]}


async def answered(request: Awaitable[list[dict[str, Any]]]) -> str:
    """The kind of the error, empty for a success."""
    *_, last = await request
    return str(last["error"]["kind"]) if "error" in last else ""


async def scenario(agent: Agent) -> None:
    """Every verb that changes something; each answers, and says that the store failed if anything."""

    async def ask(**request: Any) -> None:
        error = await asyncio.wait_for(answered(agent.ask(**request)), 300)
        assert error in ("", "Host", "Runtime", "NotFound", "Conflict"), error

    agent.runtime.images.known.add("other")

    def target(kind: str, name: str) -> dict[str, str]:
        return {"kind": kind, "name": name}

    settings = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {}})
    await ask(verb="apply", files=[{"name": "f", "text": settings}])
    await ask(verb="run", files=[{"name": "f", "text": MANIFEST}], detach=True, until="running")
    await ask(verb="label", target=target("pods", "web"), field="labels", set={"a": "1"})
    await ask(verb="label", target=target("configmaps", "settings"), field="labels", set={"a": "1"})
    image = {"spec": {"containers": [{"name": "main", "image": "other"}]}}
    await ask(verb="patch", target=target("pods", "web"), patch=image)
    await ask(verb="delete", kind="configmaps", names=["settings"])
    await ask(verb="delete", kind="pods", names=["web"])
    await ask(verb="run", files=[{"name": "f", "text": MANIFEST}], detach=True, until="created")
    await ask(verb="apply", files=[{"name": "f", "text": settings}])


def writes_of_scenario(folder: Path, first: int, last: int) -> int:
    counted = 0

    async def test(agent: Agent) -> None:
        nonlocal counted
        watcher = Watcher(agent)
        tasks = [asyncio.ensure_future(watcher.follow(kind)) for kind in KINDS]
        await asyncio.sleep(0.1)
        store: Any = agent.node.store
        store._db = disk = Disk(store._db, first, last)
        try:
            await scenario(agent)
            disk.failing = range(0)
            await asyncio.sleep(30)
            there = await listed(agent)
            assert in_database(agent) == there
            assert watcher.content == there
            counted = disk.writes
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    with_agent(folder, test)
    return counted


def test_what_happens_to_a_pod_is_shown_while_nothing_can_be_stored(tmp_path: Path) -> None:
    """Also after a change of a client was refused: the versions that are reserved suffice."""

    async def test(agent: Agent) -> None:
        await agent.run_detached()
        client = agent.client()
        await client.send(verb="get", kind="pods", watch=True, output="object")
        store: Any = agent.node.store
        store._db = Disk(store._db, 0, 1_000_000)
        target = {"kind": "pods", "name": "web"}
        assert await answered(agent.ask(verb="label", target=target, field="labels", set={"a": "1"})) == "Host"
        agent.runtime.end(agent.runtime.find("main").id, 1)
        ended = client.until_event(lambda event: event.get("object", {}).get("status", {}).get("phase") == "Failed")
        await asyncio.wait_for(ended, 60)
        assert (await listed(agent))["Pod", "default", "web"]["status"]["phase"] == "Failed"
        store._db.failing = range(0)

    with_agent(tmp_path, test)


def test_an_agent_starts_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With old events, which it cannot remove, and without the built-in objects, which it cannot make."""

    async def before(agent: Agent) -> None:
        await recover(agent.node, agent.pods)
        await agent.run_detached()
        with agent.node.store.transaction():
            agent.node.store.delete("Namespace", "", "default")

    with_agent(tmp_path, before)
    monkeypatch.setattr(agent_fakes, "START_S", agent_fakes.START_S + 7200)
    prepare = Store._prepare

    def on_full_disk(store: Any) -> None:
        prepare(store)
        store._db = Disk(store._db, 0, sys.maxsize)

    monkeypatch.setattr(Store, "_prepare", on_full_disk)

    async def after(agent: Agent) -> None:
        await recover(agent.node, agent.pods)
        assert await answered(agent.ask(verb="get", kind="events")) == ""
        assert [key for key in await listed(agent) if key[0] == "Pod"] == [("Pod", "default", "web")]
        store: Any = agent.node.store
        store._db.failing = range(0)

    with_agent(tmp_path, after)


def test_without_a_failure_all_agree(tmp_path: Path) -> None:
    assert writes_of_scenario(tmp_path, 0, 0) >= WRITES


@pytest.mark.parametrize("length", [1, 3, 30])
def test_whatever_write_fails_all_agree_afterwards(tmp_path: Path, length: int) -> None:
    for first in range(0, WRITES, 1 if length < 3 else 4):
        folder = tmp_path / str(first)
        folder.mkdir()
        writes_of_scenario(folder, first, first + length)
