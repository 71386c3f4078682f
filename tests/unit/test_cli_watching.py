"""Lists and watches of the command line against a fake agent that is late, killed, replaced or of another version."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from minipod.cli import watching
from minipod.cli.client import AgentLostError, Client, RemoteError
from minipod.cli.watching import LISTED, Watching
from minipod.paths import Paths
from tests.unit.cli_fakes import FakeAgent, Object, Peer, fake_agent, minipod_command, table_event

MESSAGE = {"verb": "get", "kind": "configmaps", "namespace": "default", "output": "object"}
Script = Callable[[Peer], None]


def item(name: str, version: int, uid: str = "") -> Object:
    metadata = {"name": name, "namespace": "default", "uid": uid or f"uid-{name}", "resourceVersion": str(version)}
    return {"kind": "ConfigMap", "metadata": metadata}


def change(type_: str, name: str, version: int, uid: str = "") -> Object:
    return {"event": "object", "type": type_, "object": item(name, version, uid)}


def bookmark(peer: Peer, *objects: tuple[str, int] | tuple[str, int, str]) -> None:
    """A list."""
    for place in objects:
        peer.send(change("ADDED", *place))
    peer.send({"event": "bookmark", "resource_version": "1"})


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAgent]:
    monkeypatch.setattr(watching, "_LOOK_S", 0.001)
    with fake_agent(tmp_path) as made:
        yield made


def serve(agent: FakeAgent, *scripts: Script) -> None:
    """One script a connection; the last one stays open."""
    left = list(scripts)

    def get(peer: Peer, _request: Object) -> None:
        script = left.pop(0)
        script(peer)
        if not left:
            peer.receive()

    agent.handlers["get"] = get


def seen(agent: FakeAgent, count: int) -> list[tuple[str, ...]]:
    with Watching(Client(agent.paths), MESSAGE) as watch:
        events = [watch.next(time.monotonic() + 10) for _ in range(count)]
    return [
        (event["type"],) if event["type"] == LISTED else (event["type"], event["object"]["metadata"]["name"])
        for event in events
        if event is not None
    ]


def test_after_an_expired_watch_what_differs_from_the_list_is_shown(agent: FakeAgent) -> None:
    def first(peer: Peer) -> None:
        bookmark(peer, ("gone", 1), ("same", 2), ("changed", 3), ("again", 4))
        peer.send(change("ADDED", "later", 5))
        peer.send(change("DELETED", "later", 6))
        peer.fail("Expired", "too old resource version: 6 (90)")

    def second(peer: Peer) -> None:
        bookmark(peer, ("same", 2), ("changed", 91), ("again", 92, "another-uid"), ("new", 93))
        peer.send(change("MODIFIED", "same", 94))

    serve(agent, first, second)
    assert seen(agent, 13) == [
        *[("ADDED", name) for name in ("gone", "same", "changed", "again")],
        (LISTED,),
        ("ADDED", "later"),
        ("DELETED", "later"),
        ("DELETED", "gone"),
        ("DELETED", "again"),
        ("MODIFIED", "changed"),
        ("ADDED", "again"),
        ("ADDED", "new"),
        ("MODIFIED", "same"),
    ]


def test_a_first_list_that_is_cut_off_is_complete_before_it_counts_as_listed(agent: FakeAgent) -> None:
    def first(peer: Peer) -> None:
        peer.send(change("ADDED", "a", 1))

    serve(agent, first, lambda peer: bookmark(peer, ("b", 2)))
    assert seen(agent, 4) == [("ADDED", "a"), ("DELETED", "a"), ("ADDED", "b"), (LISTED,)]


def test_an_agent_that_crashes_is_followed_by_the_next_and_lists_again_at_once(agent: FakeAgent) -> None:
    serve(agent, lambda peer: bookmark(peer, ("a", 1)), lambda peer: bookmark(peer, ("a", 1), ("b", 2)))
    assert seen(agent, 3) == [("ADDED", "a"), (LISTED,), ("ADDED", "b")]
    assert len(agent.requests) == 2


def test_a_client_that_knows_that_the_agent_exits_waits_for_another_one_and_starts_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "REPLACED_S", 0.2)

    def leaving(peer: Peer) -> None:
        bookmark(peer, ("a", 1))
        peer.send({"event": "leaving"})

    agent = FakeAgent(Paths(f"{tmp_path}/root", f"{tmp_path}/state"))
    agent.handlers["get"] = lambda peer, _: leaving(peer)
    with Watching(Client(agent.paths), MESSAGE) as watch:
        assert [watch.next()["type"] for _ in range(2)] == ["ADDED", LISTED]  # type: ignore[index]
        agent.close()
        with pytest.raises(AgentLostError, match="no other one came"):
            watch.next()
        assert watch.next(time.monotonic() - 1) is None


def test_another_agent_that_comes_after_one_that_left_is_asked(tmp_path: Path) -> None:
    paths = Paths(f"{tmp_path}/root", f"{tmp_path}/state")
    old, made = FakeAgent(paths), []

    def leaving(peer: Peer, _request: Object) -> None:
        bookmark(peer, ("a", 1))
        peer.send({"event": "leaving"})

    old.handlers["get"] = leaving
    with Watching(Client(paths), MESSAGE) as watch:
        assert [watch.next()["type"] for _ in range(2)] == ["ADDED", LISTED]  # type: ignore[index]
        old.close()

        def replace() -> None:
            made.append(FakeAgent(paths))
            serve(made[0], lambda peer: bookmark(peer, ("b", 2)))

        timer = threading.Timer(0.2, replace)
        timer.start()
        events = [watch.next(time.monotonic() + 10) for _ in range(2)]
        timer.join()
    assert [event["type"] for event in events if event] == ["DELETED", "ADDED"]
    made[0].close()


def test_a_newer_agent_is_not_replaced_by_a_watch_that_was_there_before_it(agent: FakeAgent) -> None:
    serve(agent, lambda peer: bookmark(peer, ("a", 1)))
    agent.handlers["get"] = lambda peer, _: bookmark(peer, ("a", 1))
    with Watching(Client(agent.paths), MESSAGE) as watch:
        assert watch.next() is not None
        assert watch.next() is not None
        agent.version = "99.0"
        with pytest.raises(RemoteError, match="another version"):
            watch.next()
    assert [request["verb"] for request in agent.requests] == ["get", "get"], "no shutdown"


def test_a_watch_that_ends_is_the_end_and_a_deadline_is_one_too(agent: FakeAgent) -> None:
    def get(peer: Peer, _request: Object) -> None:
        bookmark(peer)
        peer.receive()
        peer.ok()

    agent.handlers["get"] = get
    with Watching(Client(agent.paths), MESSAGE) as watch:
        assert watch.next() == {"event": LISTED, "type": LISTED}
        assert watch.next(time.monotonic() + 0.01) is None
        watch._request.send({})
        assert watch.next() is None


def test_rows_are_compared_by_the_objects_that_they_are_of(agent: FakeAgent, capfd: pytest.CaptureFixture[str]) -> None:
    def first(peer: Peer) -> None:
        peer.send(table_event(["NAME", "AGE"], [["gone", "1s"], ["same", "1s"]], [("gone", "1"), ("same", "2")]))
        peer.send({"event": "bookmark", "resource_version": "1"})
        peer.fail("Expired", "too old resource version: 1 (9)")

    def second(peer: Peer) -> None:
        peer.send(table_event(["NAME", "AGE"], [["a-long-name", "9s"], ["same", "9s"]], [("new", "3"), ("same", "2")]))
        peer.send({"event": "bookmark", "resource_version": "9"})
        peer.ok()

    left = [first, second]
    agent.handlers["get"] = lambda peer, _: left.pop(0)(peer)
    assert minipod_command(agent.paths, "get", "cm", "-w", "--output-watch-events") == 0
    lines = capfd.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [
        ["EVENT", "NAME", "AGE"],
        ["ADDED", "gone", "1s"],
        ["ADDED", "same", "1s"],
        ["DELETED", "gone", "1s"],
        ["ADDED", "a-long-name", "9s"],
    ]
    assert lines[1].index("1s") == lines[0].index("AGE"), "the list is aligned as a whole"


def test_objects_of_a_watch_may_be_shown_with_what_happened_to_them(
    agent: FakeAgent, capfd: pytest.CaptureFixture[str]
) -> None:
    def get(peer: Peer, _request: Object) -> None:
        bookmark(peer, ("a", 1))
        peer.send(change("DELETED", "a", 2))
        peer.ok()

    agent.handlers["get"] = get
    assert minipod_command(agent.paths, "get", "cm", "--watch-only", "-o", "json", "--output-watch-events") == 0
    assert json.loads(capfd.readouterr().out) == {"type": "DELETED", "object": item("a", 2)}
    assert minipod_command(agent.paths, "get", "cm", "-w", "-o", "name") == 0
    assert capfd.readouterr().out == "configmap/a\nconfigmap/a\n"
