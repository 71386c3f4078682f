"""The registry and its verbs with input that is wrong, rare or hostile (unit, virtual clock)."""

from __future__ import annotations

import asyncio
import json
import socket
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from minipod.agent.pods.recovery import recover
from minipod.agent.registry import names, stored
from minipod.api.kinds import CONFIG_MAP, EVENT, NAMESPACE, PERSISTENT_VOLUME_CLAIM, POD
from minipod.api.types import ConfigMap, ObjectMeta
from minipod.control.verbs import listing
from minipod.control.verbs.requests import or_gone
from minipod.control.wire import Connection
from minipod.errors import ConflictError, HostError, NotFoundError
from tests.unit.agent_client import Agent, with_agent


def config_map(**metadata: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"a": "1"}}


def claim(name: str) -> dict[str, Any]:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": "none"}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}


def namespace(name: str, **labels: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


async def apply(agent: Agent, *things: dict[str, Any], mode: str = "apply") -> list[dict[str, Any]]:
    files = [{"name": f"f{number}", "text": json.dumps(thing)} for number, thing in enumerate(things)]
    return await agent.ask(verb="apply", files=files, mode=mode)


# -- generateName ------------------------------------------------------------------------------------------------------


def test_every_kind_gets_generated_names_and_the_client_is_sent_them(tmp_path: Path) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "p-"}}
    pod["spec"] = {"containers": [{"name": "a", "image": "busybox"}]}

    async def test(agent: Agent) -> None:
        for kind, thing in ((CONFIG_MAP, config_map(generateName="c-")), (POD, pod)):
            for _ in range(2):
                applied, _ = await apply(agent, thing, mode="create")
                assert agent.node.registry.get(kind, "default", applied["name"]).metadata.name == applied["name"]
            assert len(agent.node.registry.objects(kind)) == 2

    with_agent(tmp_path, test)


def test_another_name_is_made_where_one_is_taken() -> None:
    thing = ConfigMap(metadata=ObjectMeta(generate_name="x" * 80))
    tried: list[str] = []

    def is_taken(name: str) -> bool:
        tried.append(name)
        return len(tried) < 3

    assert names.named(thing, is_taken).metadata.name == tried[-1]
    assert (len(tried), {len(name) for name in tried}) == (3, {63})


# -- the namespace default --------------------------------------------------------------------------------------------


def test_the_default_namespace_is_an_object_like_others_that_stays(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        watcher = agent.client()
        await watcher.send(verb="get", kind="namespaces", watch=True, output="object")
        listed = await watcher.until_event(lambda message: message["event"] == "object")
        assert listed["object"]["metadata"].keys() >= {"uid", "resourceVersion", "creationTimestamp"}
        target = {"kind": "namespaces", "name": "default"}
        *_, answer = await agent.ask(verb="label", target=target, field="labels", set={"a": "1"})
        assert "ok" in answer
        changed = await watcher.until_event(lambda message: message["event"] == "object")
        assert (changed["type"], changed["object"]["metadata"]["labels"]["a"]) == ("MODIFIED", "1")
        applied, _ = await apply(agent, namespace("default", b="2"))
        assert applied["result"] == "configured"
        *_, refused = await agent.ask(verb="delete", kind="namespaces", names=["default"])
        words = 'namespaces "default" is forbidden: this namespace may not be deleted'
        assert refused["error"]["message"] == words
        with pytest.raises(ConflictError, match="may not be deleted"):
            agent.node.registry.delete(NAMESPACE, "", "default")

    with_agent(tmp_path, test)


def test_the_next_agent_finds_the_same_default_namespace(tmp_path: Path) -> None:
    uids = set()

    async def test(agent: Agent) -> None:
        uids.add(agent.node.registry.get(NAMESPACE, "", "default").metadata.uid)

    with_agent(tmp_path, test)
    with_agent(tmp_path, test)
    assert len(uids) == 1


# -- preconditions of patches ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("subresource", ["", "status", "ephemeralcontainers", "resize"])
@pytest.mark.parametrize("type", ["strategic", "merge", "json"])
def test_a_patch_that_names_another_version_or_uid_is_a_conflict(tmp_path: Path, type: str, subresource: str) -> None:
    async def test(agent: Agent) -> None:
        await agent.run_detached()
        before = agent.node.registry.get(POD, "default", "web")
        for field, words in (("resourceVersion", "the object has been modified"), ("uid", "Precondition failed: UID")):
            patch: Any = {"metadata": {field: "1"}}
            if type == "json":
                patch = [{"op": "replace", "path": f"/metadata/{field}", "value": "1"}]
            request = {"verb": "patch", "target": {"kind": "pods", "name": "web"}, "type": type, "patch": patch}
            *_, answer = await agent.ask(**request, subresource=subresource)
            assert answer["error"]["kind"] == "Conflict", answer
            assert answer["error"]["message"].startswith(f'Operation cannot be fulfilled on pods "web": {words}')
        assert agent.node.registry.get(POD, "default", "web") is before

    with_agent(tmp_path, test)


# -- deletions -----------------------------------------------------------------------------------------------------


def test_all_objects_of_a_deletion_begin_to_go_whatever_becomes_of_the_others(tmp_path: Path) -> None:
    """A claim that is in use and a namespace that is not empty hold up nothing else."""
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "user"}}
    source = {"persistentVolumeClaim": {"claimName": "used"}}
    pod["spec"] = {"containers": [{"name": "a", "image": "busybox"}], "volumes": [{"name": "v", **source}]}

    async def test(agent: Agent) -> None:
        await apply(agent, claim("used"), claim("free"), namespace("full"), namespace("empty"), pod)
        await apply(agent, config_map(name="inside", namespace="full"))
        client = agent.client()
        await client.send(verb="delete", kind="persistentvolumeclaims", names=["used", "free", "missing"])
        warning = await client.until_event(lambda message: message["event"] == "warning")
        assert '"used" is in use by pod "user"' in warning["message"]
        assert [thing.metadata.name for thing in agent.node.registry.objects(PERSISTENT_VOLUME_CLAIM)] == ["used"]
        client.close()
        *events, last = await agent.ask(verb="delete", kind="namespaces", names=["full", "no", "empty"])
        assert [event["name"] for event in events] == ["empty"]
        assert last["error"]["kind"] == "Conflict"
        assert last["error"]["message"].endswith('delete first configmap/inside; namespaces "no" not found')

    with_agent(tmp_path, test)


def test_nothing_is_left_running_of_a_request_that_is_cancelled(tmp_path: Path) -> None:
    """An agent that leaves ends its requests, and with them what they wait for."""

    async def test(agent: Agent) -> None:
        here, there = socket.socketpair()
        connection = Connection(here, asyncio.get_running_loop())
        waits: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        request = asyncio.ensure_future(or_gone(connection, waits))
        await asyncio.sleep(0)
        request.cancel()
        await asyncio.wait([request])
        assert waits.cancelled()
        connection.close()
        there.close()

    with_agent(tmp_path, test)


# -- lists and watches that are many or long --------------------------------------------------------------------------


@pytest.mark.parametrize("output", ["table", "object"])
def test_a_long_list_leaves_turns_of_the_loop_to_others(
    tmp_path: Path, output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "AT_ONCE", 2)

    async def test(agent: Agent) -> None:
        for number in range(200):
            agent.node.registry.create(ConfigMap(metadata=ObjectMeta(name=f"c{number}")))
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counter = asyncio.ensure_future(count())
        *events, _ = await agent.ask(verb="get", kind="configmaps", output=output)
        counter.cancel()
        assert sum(len(event.get("rows", [event])) for event in events) == 200
        assert turns >= 100

    with_agent(tmp_path, test)


def test_a_waiting_watch_is_one_task(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        before = len(asyncio.all_tasks())
        for _ in range(10):
            client = agent.client()
            await client.send(verb="get", kind="pods", watch=True)
            await client.until_event(lambda message: message["event"] == "bookmark")
        await asyncio.sleep(1)
        assert len(asyncio.all_tasks()) == before + 10

    with_agent(tmp_path, test)


def test_what_is_kept_decoded_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "MAX_DECODED_BYTES", 10_000)

    async def test(agent: Agent) -> None:
        registry = agent.node.registry
        for number in range(50):
            registry.create(ConfigMap(metadata=ObjectMeta(name=f"c{number}"), data={"a": "x" * 1_000}))
        objects = registry.objects(CONFIG_MAP)
        assert len(objects) == 50
        kept = [thing for thing in objects if registry.find(ConfigMap, "default", thing.metadata.name) is thing]
        assert not kept, "only the last few are kept, and each of these was read after all others"
        first = registry.get(CONFIG_MAP, "default", "c0")
        assert registry.get(CONFIG_MAP, "default", "c0") is first
        huge = registry.create(ConfigMap(metadata=ObjectMeta(name="huge"), data={"a": "x" * 20_000}))
        assert registry.get(CONFIG_MAP, "default", "huge") == huge

    with_agent(tmp_path, test)


@pytest.mark.parametrize("garbage", [b"{", b"[]", b'{"metadata":{"name":7}}', b'"\xff"'])
def test_a_damaged_object_stops_neither_the_agent_nor_the_other_objects(tmp_path: Path, garbage: bytes) -> None:
    async def before(agent: Agent) -> None:
        await agent.run_detached()
        await apply(agent, config_map(name="good"), config_map(name="bad"))

    with_agent(tmp_path, before)
    with sqlite3.connect(tmp_path / "state" / "minipod.db") as db:
        db.execute("UPDATE objects SET data=? WHERE name IN ('bad', 'web')", (garbage,))
        db.execute("UPDATE events SET data=? WHERE uid=(SELECT max(uid) FROM events)", (garbage,))
        (events,) = db.execute("SELECT count(*) FROM events").fetchone()
    db.close()

    async def after(agent: Agent) -> None:
        await recover(agent.node, agent.pods)
        assert [thing.metadata.name for thing in agent.node.registry.objects(CONFIG_MAP)] == ["good"]
        with pytest.raises(HostError, match="ConfigMap default/bad is damaged"):
            agent.node.registry.get(CONFIG_MAP, "default", "bad")
        assert len(agent.node.registry.objects(EVENT)) >= events - 1
        gone, last = await agent.ask(verb="delete", kind="configmaps", names=["bad"])
        assert (gone["event"], gone["name"]) == ("deleted", "bad")
        assert "ok" in last
        with pytest.raises(NotFoundError):
            agent.node.registry.get(CONFIG_MAP, "default", "bad")
        await apply(agent, config_map(name="bad"))
        await asyncio.sleep(10)
        record = agent.node.store.get("Pod", "default", "web")
        assert record is not None
        assert json.loads(record.data)["metadata"]["name"] == "web", "made anew of its state"

    with_agent(tmp_path, after)
