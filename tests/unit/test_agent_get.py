"""The verb `get` on the control socket: lists and watches of every kind (unit)."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from minipod.control.verbs import listing
from minipod.errors import HostError
from tests.unit.agent_client import MANIFEST, Agent, Client, with_agent
from tests.unit.agent_fakes import until

CONFIG_MAP = "\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s, labels: {app: %s}}\ndata: {key: '%s'}\n"


async def apply(agent: Agent, text: str) -> None:
    answer = await agent.ask(verb="apply", files=[{"name": "f.yaml", "text": text}], namespace="default")
    assert answer[-1].get("ok"), answer


async def watch(agent: Agent, **request: Any) -> Client:
    client = agent.client()
    await client.send(verb="get", watch=True, **{"namespace": "default", "output": "object", **request})
    return client


async def listed(client: Client) -> str:
    """The version at the end of the list."""
    return str((await client.until_event(lambda event: event.get("event") == "bookmark"))["resource_version"])


def shown(event: dict[str, Any]) -> tuple[str, str, str]:
    item = event["object"]
    return event["type"], item["metadata"]["name"], item["data"]["key"]


def test_a_watch_sends_every_change_until_the_client_goes(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        client = await watch(agent)
        await listed(client)
        client.events.clear()
        await agent.run_detached(until="ready")
        await client.until_event(lambda message: message["object"]["status"]["phase"] == "Running")
        await agent.ask(verb="delete", namespace="default", names=["web"])
        await client.until_event(lambda message: message["type"] == "DELETED")
        kinds = [event["type"] for event in client.events]
        assert kinds == ["ADDED", *["MODIFIED"] * (len(kinds) - 2), "DELETED"]
        versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in client.events]
        assert versions == sorted(set(versions))
        client.close()
        await until(lambda: agent.server.connections == 0)

    with_agent(tmp_path, test)


def test_what_leaves_the_selection_is_deleted_for_the_watch_in_tables_and_objects(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        await apply(agent, CONFIG_MAP % ("c", "web", "first"))
        objects = await watch(agent, kind="configmaps", selector="app=web")
        table = await watch(agent, kind="configmaps", selector="app=web", output="table", show_labels=True)
        await listed(objects)
        await listed(table)
        await apply(agent, CONFIG_MAP % ("c", "db", "second"))
        gone, row = await objects.line(), await table.line()
        assert gone is not None
        assert row is not None
        assert shown(gone) == ("DELETED", "c", "first"), "the content that was selected"
        assert (row["type"], row["rows"][0][0], row["rows"][0][-1]) == ("DELETED", "c", "app=web")
        await apply(agent, CONFIG_MAP % ("c", "web", "third"))
        back = await objects.line()
        assert back is not None
        assert shown(back) == ("ADDED", "c", "third")
        assert int(gone["object"]["metadata"]["resourceVersion"]) < int(back["object"]["metadata"]["resourceVersion"])

    with_agent(tmp_path, test)


def test_a_list_says_its_version_and_a_watch_from_there_misses_nothing(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        await apply(agent, CONFIG_MAP % ("a", "x", "1"))
        *_, last = await agent.ask(verb="get", kind="configmaps", namespace="default", output="object")
        await apply(agent, CONFIG_MAP % ("a", "x", "2") + CONFIG_MAP % ("b", "x", "1"))
        client = await watch(agent, kind="configmaps", resource_version=last["resource_version"])
        events = [await client.line(), await client.line()]
        assert [shown(event) for event in events if event] == [("MODIFIED", "a", "2"), ("ADDED", "b", "1")]

    with_agent(tmp_path, test)


@pytest.mark.parametrize(
    ("version", "kind", "words"),
    [
        ("0", "Expired", "too old resource version: 0 ("),
        ("99999999", "Expired", "Too large resource version: 99999999, current: "),
        ("-1", "Usage", "resource_version: Invalid value"),
        ("x" * 1000, "Usage", "resource_version: Invalid value"),
    ],
)
def test_a_version_out_of_reach_is_refused(tmp_path: Path, version: str, kind: str, words: str) -> None:
    async def test(agent: Agent) -> None:
        agent.node.history.oldest_version = 5
        client = await watch(agent, resource_version=version)
        error = (await client.last())["error"]
        assert (error["kind"], error["message"][: len(words)]) == (kind, words)

    with_agent(tmp_path, test)


def test_a_watch_that_is_not_read_is_ended_and_the_agent_keeps_nothing_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "EXPIRY_CHECK_S", 0.5)

    async def test(agent: Agent) -> None:
        agent.node.history._max_changes = 10
        client = await watch(agent, kind="configmaps")
        await listed(client)
        await until(lambda: agent.server.connections == 1)
        (held,) = agent.server._tasks
        text = "x" * 200_000
        for number in range(20):
            await apply(agent, CONFIG_MAP % ("big", "web", f"{number}{text}"))
        assert not held.done()
        assert agent.server._held.count < 2 * len(text), "at most the change that is being sent"
        await asyncio.sleep(2)
        last = await client.last()
        assert last["error"]["kind"] == "Expired"
        assert last["error"]["message"].startswith("too old resource version: ")
        sent = [shown(event)[2].rstrip("x") for event in client.events if event.get("event") == "object"]
        assert sent == [str(number) for number in range(len(sent))], "nothing is skipped before the end"
        await until(held.done)

    with_agent(tmp_path, test)


def test_bookmarks_come_once_a_minute_where_they_are_asked_for(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        with_bookmarks = await watch(agent, kind="configmaps", selector="app=web", bookmarks=True)
        without = await watch(agent, kind="configmaps", selector="app=web")
        first = await listed(with_bookmarks)
        await listed(without)
        await apply(agent, CONFIG_MAP % ("other", "db", "1"))
        begun = asyncio.get_running_loop().time()
        assert int(await listed(with_bookmarks)) > int(first), "a watch may continue after what it did not select"
        assert 59 <= asyncio.get_running_loop().time() - begun <= 61
        await asyncio.sleep(200)
        await apply(agent, CONFIG_MAP % ("mine", "web", "1"))
        event = await without.line()
        assert event is not None
        assert shown(event) == ("ADDED", "mine", "1")

    with_agent(tmp_path, test)


def test_an_agent_that_leaves_says_so_to_its_watches(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        client = await watch(agent)
        await listed(client)
        for task in agent.server._tasks:
            task.cancel()
        assert await client.line() == {"event": "leaving"}
        assert await client.line() is None

    with_agent(tmp_path, test)


def test_events_are_listed_selected_and_watched_like_other_kinds(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        watched = await watch(agent, kind="events", field_selector="involvedObject.name=web,reason=Started")
        await listed(watched)
        await agent.run_detached(until="ready")
        *found, _ = await agent.ask(
            verb="get", kind="events", namespace="default", output="object", field_selector="involvedObject.name=web"
        )
        events = [event["object"] for event in found]
        assert {"Pulled", "Created", "Started"} <= {event["reason"] for event in events}
        assert events[-1]["involvedObject"]["fieldPath"] == "spec.containers{main}"
        started = await watched.line()
        assert started is not None
        assert (started["type"], started["object"]["reason"]) == ("ADDED", "Started")
        for selector in ("involvedObject.name=other", "source=somebody", "type=Other", "involvedObject.kind=Node"):
            none = await agent.ask(
                verb="get", kind="events", namespace="default", output="object", field_selector=selector
            )
            assert len(none) == 1, selector
        (table, _) = await agent.ask(verb="get", kind="events", namespace="default", output="wide")
        assert table["columns"] == [
            *("LAST SEEN", "TYPE", "REASON", "OBJECT", "SUBOBJECT", "SOURCE", "MESSAGE", "FIRST SEEN", "COUNT", "NAME")
        ]
        row = dict(zip(table["columns"], table["rows"][-1], strict=True))
        assert (row["OBJECT"], row["SUBOBJECT"], row["COUNT"]) == ("pod/web", "spec.containers{main}", "1")
        (table, _) = await agent.ask(verb="get", kind="ev", namespace="default", output="table")
        assert table["columns"] == ["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]

    with_agent(tmp_path, test)


def test_events_and_the_node_are_not_deleted_by_users(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        for kind in ("events", "nodes"):
            (last,) = await agent.ask(verb="delete", kind=kind, namespace="default", names=["x"])
            assert last["error"]["kind"] == "Usage", last

    with_agent(tmp_path, test)


def test_the_node_is_this_host(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        facts = agent.node.facts
        (found, _) = await agent.ask(verb="get", kind="nodes", output="object")
        node = found["object"]
        assert (node["kind"], node["metadata"]["name"]) == ("Node", facts.node_name)
        assert node["status"]["capacity"]["cpu"] == str(facts.cpus)
        assert {"type": "Hostname", "address": facts.node_name} in node["status"]["addresses"]
        assert [entry["status"] for entry in node["status"]["conditions"] if entry["type"] == "Ready"] == ["True"]
        again = (await agent.ask(verb="get", kind="no", name=facts.node_name, output="object"))[0]["object"]
        assert again == node
        (table, _) = await agent.ask(verb="get", kind="nodes", output="table")
        assert table["columns"] == ["NAME", "STATUS", "ROLES", "AGE", "VERSION"]
        assert table["rows"][0][:3] == [facts.node_name, "Ready", "<none>"]
        (error,) = await agent.ask(verb="get", kind="nodes", name="other")
        assert error["error"]["message"] == 'nodes "other" not found'
        client = await watch(agent, kind="nodes")
        await listed(client)
        assert [event["type"] for event in client.events if "object" in event] == ["ADDED"]

    with_agent(tmp_path, test)


def test_on_a_full_disk_a_list_and_a_watch_say_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(agent: Agent) -> None:
        await agent.run_detached(until="ready")
        client = await watch(agent)
        await listed(client)

        def full(uid: str, data: bytes) -> None:
            raise HostError("no space left on the device")

        async def shown() -> dict[str, Any]:
            (found, _) = await agent.ask(verb="get", namespace="default", output="object")
            return dict(found["object"])

        with monkeypatch.context() as patched:
            patched.setattr(agent.node.store, "put_state", full)
            agent.runtime.end(agent.runtime.find("main").id, 3)
            await asyncio.sleep(2)
            found = await shown()
            version = found["metadata"]["resourceVersion"]
            event = await client.until_event(lambda event: event["object"]["metadata"]["resourceVersion"] == version)
            assert event["object"] == found
            assert found["status"]["phase"] == "Failed"
        await asyncio.sleep(10)
        assert await shown() == found  # it is stored as it was shown

    with_agent(tmp_path, test)


def test_selectors_and_fields_of_pods_as_kubernetes_spells_them(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        await agent.run_detached(MANIFEST, until="ready")
        (found, _) = await agent.ask(verb="get", namespace="default", output="object")
        address = found["object"]["status"]["podIP"]
        events = await agent.ask(
            verb="get", namespace="default", output="object", field_selector=f"status.podIP={address}"
        )
        assert len(events) == 2, json.dumps(events)

    with_agent(tmp_path, test)
