"""Optimistic concurrency: no change of one client is lost to another's, by the control socket (unit, virtual clock)."""

from __future__ import annotations

import asyncio
import functools
import json
import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import pytest

from minipod.agent.registry.registry import MODIFIED, Preconditions
from minipod.api.kinds import CONFIG_MAP, EVENT, NAMESPACE, POD, Kind
from minipod.control.verbs.changes import as_data
from minipod.errors import ConflictError, HostError, NotFoundError, UsageError
from tests.unit.agent_client import Agent, with_agent

CONFIG = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web"}, "data": {"a": "1"}}
KINDS = pytest.mark.parametrize("kind", [POD, CONFIG_MAP], ids=lambda kind: kind.name)


async def apply(agent: Agent, thing: dict[str, Any], mode: str = "apply") -> dict[str, Any]:
    *_, last = await agent.ask(verb="apply", files=[{"name": "f", "text": json.dumps(thing)}], mode=mode)
    return last


async def filled(agent: Agent) -> None:
    await agent.run_detached()
    assert "ok" in await apply(agent, CONFIG)


def target(kind: Kind, version: str = "") -> dict[str, str]:
    return {"kind": kind.plural, "name": "web", "resource_version": version}


async def label(agent: Agent, kind: Kind, version: str = "", **labels: str) -> dict[str, Any]:
    *_, last = await agent.ask(verb="label", target=target(kind, version), field="labels", set=labels)
    return last


def stored(agent: Agent, kind: Kind) -> Any:
    return agent.node.registry.get(kind, "default", "web")


@KINDS
def test_labels_of_many_clients_at_once_are_all_there(tmp_path: Path, kind: Kind) -> None:
    async def test(agent: Agent) -> None:
        await filled(agent)
        answers = await asyncio.gather(*(label(agent, kind, **{f"k{number}": "1"}) for number in range(64)))
        assert all("ok" in answer for answer in answers)
        assert {f"k{number}" for number in range(64)} <= stored(agent, kind).metadata.labels.keys()

    with_agent(tmp_path, test)


@KINDS
def test_who_names_an_old_version_is_refused_and_nothing_is_lost(tmp_path: Path, kind: Kind) -> None:
    async def test(agent: Agent) -> None:
        await filled(agent)
        old = stored(agent, kind)
        await label(agent, kind, later="1")
        words = f'Operation cannot be fulfilled on {kind.plural} "web": {MODIFIED}'
        data = {key: value for key, value in as_data(old).items() if key != "status"}
        patch = {"metadata": {"resourceVersion": old.metadata.resource_version, "labels": {"mine": "1"}}}
        answers = [
            await label(agent, kind, old.metadata.resource_version, mine="1"),
            await apply(agent, data, "replace"),
            await apply(agent, data, "apply"),
            (await agent.ask(verb="patch", target=target(kind), patch=patch))[-1],
            (await agent.ask(verb="patch", target=target(kind), patch=patch, type="merge"))[-1],
        ]
        for answer in answers:
            assert answer["error"]["message"] == words
            assert answer["error"]["kind"] == "Conflict"
        assert stored(agent, kind).metadata.labels["later"] == "1"
        assert "mine" not in stored(agent, kind).metadata.labels

    with_agent(tmp_path, test)


@KINDS
def test_who_names_the_newest_version_succeeds(tmp_path: Path, kind: Kind) -> None:
    async def test(agent: Agent) -> None:
        await filled(agent)
        assert "ok" in await label(agent, kind, stored(agent, kind).metadata.resource_version, mine="1")
        data = {key: value for key, value in as_data(stored(agent, kind)).items() if key != "status"}
        data["metadata"]["labels"] = {"only": "this"}
        assert "ok" in await apply(agent, data, "replace")
        assert stored(agent, kind).metadata.labels == {"only": "this"}

    with_agent(tmp_path, test)


@KINDS
def test_another_object_of_the_same_name_is_not_changed(tmp_path: Path, kind: Kind) -> None:
    async def test(agent: Agent) -> None:
        await filled(agent)
        data = as_data(stored(agent, kind))
        data["metadata"] = {"name": "web", "uid": "0ther"}
        error = (await apply(agent, data, "replace"))["error"]
        uid = stored(agent, kind).metadata.uid
        assert error["message"].endswith(f"Precondition failed: UID in precondition: 0ther, UID in object meta: {uid}")

    with_agent(tmp_path, test)


def test_an_editor_changes_only_what_it_changed(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        await filled(agent)
        original = as_data(stored(agent, CONFIG_MAP))
        await label(agent, CONFIG_MAP, later="1")
        await agent.ask(verb="patch", target=target(CONFIG_MAP), patch={"data": {"b": "2"}})
        edited = {**original, "data": {"a": "mine"}}
        (answer,) = await agent.ask(verb="edit", target=target(CONFIG_MAP), original=original, edited=edited)
        assert answer["changed"]
        found = stored(agent, CONFIG_MAP)
        assert (found.data, found.metadata.labels) == ({"a": "mine", "b": "2"}, {"later": "1"})

    with_agent(tmp_path, test)


def test_two_updates_in_one_turn_of_the_loop_are_both_there(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        await agent.run_detached()
        registry = agent.node.registry
        for number in (1, 2):
            registry.update(POD, "default", "web", functools.partial(with_label, name=f"k{number}"))
        assert {"k1", "k2"} <= stored(agent, POD).metadata.labels.keys()
        agent.pods.find("default", "web").catch_up()
        assert {"k1", "k2"} <= stored(agent, POD).metadata.labels.keys()

    with_agent(tmp_path, test)


def with_label(thing: Any, name: str) -> Any:
    metadata = msgspec.structs.replace(thing.metadata, labels={**thing.metadata.labels, name: "1"})
    return msgspec.structs.replace(thing, metadata=metadata)


def test_an_update_answers_with_what_is_stored(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        await filled(agent)
        for kind in (POD, CONFIG_MAP):
            done = agent.node.registry.update(kind, "default", "web", lambda thing: with_label(thing, "a"))
            assert done.changed
            assert done.object == stored(agent, kind)
            assert agent.node.history.version == int(done.object.metadata.resource_version)
            again = agent.node.registry.update(kind, "default", "web", lambda thing: with_label(thing, "a"))
            assert not again.changed
            assert again.object is stored(agent, kind), "no new version of what is the same"

    with_agent(tmp_path, test)


class _FullDisk:
    """The store's connection, on which every write fails while `full`."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self.full = True

    def execute(self, sql: str, *values: Any) -> Any:
        if self.full and sql.startswith(("INSERT", "DELETE")):
            raise sqlite3.OperationalError("database or disk is full")
        return self._db.execute(sql, *values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)


@KINDS
def test_what_cannot_be_stored_has_not_happened(tmp_path: Path, kind: Kind) -> None:
    async def test(agent: Agent) -> None:
        await filled(agent)
        before = stored(agent, kind)
        store: Any = agent.node.store
        store._db = disk = _FullDisk(store._db)
        with pytest.raises(HostError, match="no space left"):
            agent.node.registry.update(kind, "default", "web", lambda thing: with_label(thing, "a"))
        assert stored(agent, kind) == before
        disk.full = False
        agent.node.registry.update(kind, "default", "web", lambda thing: with_label(thing, "b"))
        assert "a" not in stored(agent, kind).metadata.labels

    with_agent(tmp_path, test)


def test_what_was_read_can_be_created_again_with_a_version_of_its_own(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        for mode in ("apply", "create"):
            thing = {**CONFIG, "metadata": {"name": mode, "resourceVersion": "7000", "uid": "u"}}
            assert (await apply(agent, thing, mode))["ok"]
            made = agent.node.registry.get(CONFIG_MAP, "default", mode).metadata
            assert made.resource_version not in ("", "7000")
            assert made.uid != "u"

    with_agent(tmp_path, test)


def test_deletions_have_preconditions_too(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        await filled(agent)
        registry = agent.node.registry
        for kind in (POD, CONFIG_MAP):
            old = stored(agent, kind).metadata.resource_version
            await label(agent, kind, a="1")
            for wrong in (Preconditions(uid="0ther"), Preconditions(resource_version=old)):
                with pytest.raises(ConflictError, match="Operation cannot be fulfilled"):
                    registry.delete(kind, "default", "web", wrong)
            registry.delete(kind, "default", "web", Preconditions(uid=stored(agent, kind).metadata.uid))
        assert stored(agent, POD).metadata.deletion_timestamp is not None
        with pytest.raises(NotFoundError, match='configmaps "web" not found'):
            stored(agent, CONFIG_MAP)

    with_agent(tmp_path, test)


def test_a_controllers_view_may_be_old_as_well(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        await filled(agent)
        old = stored(agent, CONFIG_MAP)
        await label(agent, CONFIG_MAP, later="1")
        with pytest.raises(ConflictError, match="has been modified"):
            agent.node.registry.replace(with_label(old, "mine"), old)

    with_agent(tmp_path, test)


def test_a_namespace_that_holds_objects_stays(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        await apply(agent, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "full"}})
        await apply(agent, {**CONFIG, "metadata": {"name": "web", "namespace": "full"}})
        with pytest.raises(ConflictError, match="not empty: delete first configmap/web"):
            agent.node.registry.delete(NAMESPACE, "", "full")

    with_agent(tmp_path, test)


def test_what_minipod_writes_itself_nobody_else_does(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        with pytest.raises(UsageError, match="events are written by minipod itself"):
            agent.node.registry.delete(EVENT, "default", "e")
        with pytest.raises(UsageError, match="events are written by minipod itself"):
            agent.node.registry.update(EVENT, "default", "e", lambda thing: thing)

    with_agent(tmp_path, test)


@pytest.mark.parametrize(
    ("patch", "type", "words"),
    [
        ({"spec": {"containers": [{"name": "main", "image": "other"}]}}, "strategic", ""),
        (
            {"spec": {"containers": [{"name": "main", "command": ["x"]}]}},
            "strategic",
            "cannot be changed in a pod that exists; only image",
        ),
        ([{"op": "replace", "path": "/spec/containers/0/image", "value": "other"}], "json", ""),
        ([{"op": "test", "path": "/metadata/name", "value": "b"}], "json", "failed"),
        ({"spec": {"containers": "x"}}, "merge", "Expected `array`|containers"),
        ({"metadata": {"labels": {"a b": "1"}}}, "merge", "metadata.labels"),
    ],
)
def test_a_patch_is_validated_as_an_update(tmp_path: Path, patch: Any, type: str, words: str) -> None:
    async def test(agent: Agent) -> None:
        await agent.run_detached()
        agent.runtime.images.known.add("other")
        (answer,) = await agent.ask(verb="patch", target=target(POD), patch=patch, type=type)
        if words:
            assert any(word in answer["error"]["message"] for word in words.split("|")), answer
            assert stored(agent, POD).spec.containers[0].image == "busybox"
        else:
            assert answer["changed"]
            assert stored(agent, POD).spec.containers[0].image == "other"

    with_agent(tmp_path, test)


def test_a_dry_run_changes_nothing(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        await filled(agent)
        before = stored(agent, CONFIG_MAP)
        patch = {"data": {"b": "2"}}
        (answer,) = await agent.ask(verb="patch", target=target(CONFIG_MAP), patch=patch, dry_run=True)
        assert answer["changed"]
        assert stored(agent, CONFIG_MAP) is before

    with_agent(tmp_path, test)
