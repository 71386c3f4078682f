"""The agent's store and event recorder (unit)."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest

from minipod.agent import events as agent_events
from minipod.agent.events import LIFETIME_S, EventRecorder, PodReference
from minipod.agent.registry.history import Change, History
from minipod.agent.registry.store import Record, Store
from minipod.api.types import Event, EventSource
from minipod.errors import HostError

POD = PodReference("default", "web", "uid-1")


def record(name: str, version: int = 1, data: bytes = b"{}") -> Record:
    return Record("Pod", "default", name, f"uid-{name}", version, data)


def opened(folder: Path) -> Store:
    return Store(str(folder / "minipod.db"))


def test_what_was_stored_is_there_after_reopening(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.put(record("web", data=b'{"a":1}'))
    store.put_state("uid-web", b"state")
    store.put_operations("uid-web", b"operations")
    store.put_owner("uid-web", "1 2")
    store.close()
    again = opened(tmp_path)
    assert again.get("Pod", "default", "web") == record("web", data=b'{"a":1}')
    assert again.states() == {"uid-web": b"state"}
    assert again.operations("uid-web") == b"operations"
    assert again.owners() == {"uid-web": "1 2"}
    again.delete_pod("uid-web", "/logs/web")
    assert (again.states(), again.operations("uid-web"), again.owners()) == ({}, None, {})
    again.close()


def test_a_transaction_is_all_or_nothing(tmp_path: Path) -> None:
    store = opened(tmp_path)

    def broken() -> None:
        with store.transaction():
            store.put(record("a"))
            with store.transaction():
                store.put(record("b"))
            raise InterruptedError

    with pytest.raises(InterruptedError):
        broken()
    assert store.objects("Pod") == []
    store.close()


def test_resource_versions_only_grow_even_when_objects_go(tmp_path: Path) -> None:
    store = opened(tmp_path)
    with store.transaction():
        first = store.next_version()
    store.put(record("web", first))
    store.delete("Pod", "default", "web")
    store.close()
    store = opened(tmp_path)
    assert store.next_version() > first
    store.close()


def test_a_version_is_never_given_twice_even_where_nothing_of_it_was_stored(tmp_path: Path) -> None:
    """A watch may have seen a change that a full disk or the machine's crash has taken back."""
    store = opened(tmp_path)
    with store.transaction():
        given = {store.next_version()}

    def lost() -> None:
        with store.transaction():
            given.update(store.next_version() for _ in range(1500))
            raise InterruptedError

    with pytest.raises(InterruptedError):
        lost()
    with store.transaction():
        given.update(store.next_version() for _ in range(2500))
    assert len(given) == 1 + 1500 + 2500
    given = {store.next_version()}  # announced, though what should follow is lost
    with pytest.raises(InterruptedError):
        lost()
    store.close()  # as a kill -9: nothing is written at the end
    store = opened(tmp_path)
    assert store.next_version() > min(given)
    store.close()


def test_objects_are_listed_by_namespace_and_name(tmp_path: Path) -> None:
    store = opened(tmp_path)
    for namespace, name in (("b", "x"), ("a", "z"), ("a", "y")):
        store.put(Record("Pod", namespace, name, name, 1, b"{}"))
    assert [(one.namespace, one.name) for one in store.objects("Pod")] == [("a", "y"), ("a", "z"), ("b", "x")]
    assert [one.name for one in store.objects("Pod", "a")] == ["y", "z"]
    store.close()


def test_the_database_is_for_root_only(tmp_path: Path) -> None:
    store = opened(tmp_path)
    assert (tmp_path / "minipod.db").stat().st_mode & 0o777 == 0o600
    store.close()


def test_a_damaged_database_is_reported_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "minipod.db").write_bytes(b"this is no database, whatever its name says" * 100)
    with pytest.raises(HostError, match=r"minipod\.db: open: the file is damaged .*: move it away"):
        opened(tmp_path)


def test_a_database_of_a_newer_minipod_is_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "minipod.db") as db:
        db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(HostError, match="written by a newer minipod"):
        opened(tmp_path)


def test_what_an_agent_notes_of_itself_waits_for_the_next_transaction_that_is_possible(tmp_path: Path) -> None:
    store = opened(tmp_path)
    with sqlite3.connect(tmp_path / "minipod.db", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        store.note("boot_id", "b")
        assert store.meta("boot_id") == "b"
        other.execute("ROLLBACK")
        assert other.execute("SELECT value FROM meta WHERE key='boot_id'").fetchone() is None
        with store.transaction():
            store.put_state("uid", b"of something else")
        assert other.execute("SELECT value FROM meta WHERE key='boot_id'").fetchone() == ("b",)
    other.close()
    store.note("boot_id", "c")
    assert store._unstored == {}
    store.close()


def test_a_missing_folder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="the directory must exist"):
        Store(str(tmp_path / "missing" / "minipod.db"))


def test_a_full_disk_is_reported_and_nothing_is_half_stored(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store._db.execute("PRAGMA max_page_count=20")

    def too_much() -> None:
        with store.transaction():
            for number in range(100):
                store.put(record(f"pod-{number}", data=b"x" * 10_000))

    with pytest.raises(HostError, match="no space left on the device: free some"):
        too_much()
    assert store.objects("Pod") == []
    store.close()


# -- events


def recorder(store: Store, told: list[str] | None = None, now_s: float = 0.0) -> EventRecorder:
    return EventRecorder(store, "node-1", lambda change: told.append(change.type) if told is not None else None, now_s)


def test_equal_events_become_one_with_a_count(tmp_path: Path) -> None:
    store = opened(tmp_path)
    told: list[str] = []
    events = recorder(store, told)
    for at in (100.0, 110.0):
        events.record(POD, "Warning", "BackOff", "Back-off restarting", at, "spec.containers{main}")
    events.record(POD, "Normal", "Started", "Started container", 120.0, "spec.containers{main}")
    backoff, started = events.all(130.0)
    assert (backoff.count, backoff.first_timestamp, backoff.last_timestamp) == (
        2,
        "1970-01-01T00:01:40Z",
        "1970-01-01T00:01:50Z",
    )
    assert backoff.involved_object.field_path == "spec.containers{main}"
    assert started.source == EventSource(component="kubelet", host="node-1")
    assert told == ["ADDED", "MODIFIED", "ADDED"]
    store.close()


def test_events_go_after_an_hour(tmp_path: Path) -> None:
    store = opened(tmp_path)
    events = recorder(store)
    events.record(POD, "Normal", "Pulled", "old", 0.0)
    events.record(POD, "Normal", "Started", "young", 1000.0)
    assert [event.message for event in events.all(LIFETIME_S + 1)] == ["young"]
    assert len(store.events()) == 1
    store.close()


def other_pod(number: int) -> PodReference:
    return PodReference("default", f"pod-{number}", f"uid-{number}")


def test_the_oldest_events_go_where_there_are_too_many_or_too_large_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand pods that fail with long messages take no more memory than any others."""
    store = opened(tmp_path)
    changes: list[str] = []
    events = recorder(store, changes)
    monkeypatch.setattr(agent_events, "MAX_EVENTS", 20)
    for number in range(25):
        events.record(other_pod(number), "Normal", "Pulled", "x", float(number))
    assert [event.involved_object.name for event in events.all(30.0)] == [f"pod-{number}" for number in range(5, 25)]
    monkeypatch.setattr(agent_events, "MAX_BYTES", 10_000)
    for number in range(30, 45):
        events.record(other_pod(number), "Warning", "Failed", "y" * 1000, float(number))
        assert sum(len(record.data) for record in store.events()) <= 10_000
    assert events.all(50.0)[-1].involved_object.name == "pod-44"
    assert len(store.events()) == len(events.all(50.0)) >= 5
    assert len(changes) - 2 * changes.count("DELETED") == len(store.events())
    again = recorder(store, now_s=50.0)
    again.record(other_pod(50), "Warning", "Failed", "y" * 1000, 50.0)  # the bytes of stored ones count too
    assert sum(len(record.data) for record in store.events()) <= 10_000
    store.close()


def test_the_events_of_one_object_take_no_place_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(tmp_path)
    events = recorder(store)
    monkeypatch.setattr(agent_events, "MAX_POD_EVENTS", 3)
    events.record(other_pod(99), "Normal", "Pulled", "first of all", 0.0)
    for number in range(10):
        events.record(POD, "Normal", f"Reason{number}", "x", float(number))
    assert [event.reason for event in events.all(30.0)] == ["Pulled", "Reason7", "Reason8", "Reason9"]
    store.close()


def test_what_correlates_events_is_bounded_also_for_objects_that_are_never_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(tmp_path)
    events = recorder(store)
    monkeypatch.setattr(agent_events, "MAX_CORRELATED", 5)
    for number in range(20):
        events.record(other_pod(number), "Normal", "Pulled", "x", float(number))
    assert list(events._correlations) == [f"uid-{number}" for number in range(15, 20)]
    store.close()


def test_events_of_an_earlier_agent_share_what_they_have_in_common(tmp_path: Path) -> None:
    """Decoded one by one they would take twice the memory of recorded ones."""
    store = opened(tmp_path)
    events = recorder(store)
    for reason in ("Pulled", "Started"):
        events.record(other_pod(1), "Normal", reason, reason, 1.0)
    one, two = recorder(store, now_s=2.0).all(2.0)
    assert one.involved_object.uid is two.involved_object.uid
    assert one.involved_object.name is two.involved_object.name
    assert one.source.host is two.source.host
    store.close()


def test_events_survive_the_agent_and_go_on_counting(tmp_path: Path) -> None:
    store = opened(tmp_path)
    recorder(store).record(POD, "Normal", "Pulled", "x", 10.0)
    recorder(store, now_s=20.0).record(POD, "Normal", "Pulled", "x", 20.0)
    (event,) = recorder(store, now_s=30.0).all(30.0)
    assert event.count == 2
    assert recorder(store, now_s=20.0 + LIFETIME_S).all(20.0 + LIFETIME_S) == []
    store.close()


def test_a_source_may_say_25_things_of_a_type_about_a_pod_and_one_more_every_five_minutes(tmp_path: Path) -> None:
    store = opened(tmp_path)
    events = recorder(store)
    for number in range(40):
        events.record(POD, "Warning", "Unhealthy", "no", float(number))
    events.record(POD, "Normal", "Started", "another type", 40.0)
    unhealthy, started = events.all(50.0)
    assert (unhealthy.count, started.count) == (25, 1)
    events.record(POD, "Warning", "Unhealthy", "no", 400.0)
    events.record(POD, "Warning", "Unhealthy", "no", 401.0)
    assert sorted(event.count for event in events.all(402.0)) == [1, 41]  # the dropped ones are counted late
    events.forget_pod(POD.uid)
    events.record(POD, "Warning", "Unhealthy", "no", 403.0)
    assert sorted(event.count for event in events.all(404.0)) == [1, 42]
    store.close()


def test_an_event_that_was_dropped_at_first_is_reported_with_its_first_time(tmp_path: Path) -> None:
    store = opened(tmp_path)
    events = recorder(store)
    for number in range(25):
        events.record(POD, "Warning", "Unhealthy", "no", float(number))
    events.record(POD, "Warning", "BackOff", "late", 30.0)
    events.record(POD, "Warning", "BackOff", "late", 400.0)
    event = events.all(400.0)[-1]
    assert (event.reason, event.count, event.first_timestamp) == ("BackOff", 2, "1970-01-01T00:00:30Z")
    store.close()


def test_what_the_scheduler_says_is_an_event_of_the_newer_kind(tmp_path: Path) -> None:
    store = opened(tmp_path)
    events = recorder(store)
    pod = PodReference("default", "web", "uid-1", "17")
    events.record(pod, "Normal", "Scheduled", "assigned", 1.5, component="default-scheduler")
    (event,) = events.all(2.0)
    assert (event.event_time, event.action) == ("1970-01-01T00:00:01.500000Z", "Binding")
    assert (event.source, event.last_timestamp, event.count) == (EventSource(), None, 0)
    assert event.involved_object.resource_version == "17"
    store.close()


def test_from_the_tenth_on_events_that_differ_in_their_message_are_one(tmp_path: Path) -> None:
    store = opened(tmp_path)
    events = recorder(store)
    for number in range(15):
        events.record(POD, "Warning", "Unhealthy", f"message {number}", float(number), "spec.containers{main}")
    kept = events.all(20.0)
    assert len(kept) == len(store.events()) == 10
    assert kept[-1].message == "(combined from similar events): message 14"
    assert kept[-1].count == 6
    assert kept[-1].involved_object.field_path == "spec.containers{main}"
    again = recorder(store, now_s=20.0)
    again.record(POD, "Warning", "Unhealthy", "message 0", 700.0)
    assert len(again.all(700.0)) == 11
    store.close()


def test_what_is_announced_after_a_commit_is_not_announced_of_what_was_rolled_back(tmp_path: Path) -> None:
    store = opened(tmp_path)
    announced: list[tuple[str, int]] = []

    def write(name: str) -> None:
        version = store.next_version()
        store.put(record(name, version))
        store.after_commit(lambda: announced.append((name, version)))
        assert store.get("Pod", "default", name) is not None

    def broken() -> None:
        with store.transaction():
            write("lost")
            raise InterruptedError

    with store.transaction():
        write("a")
        with store.transaction():
            write("b")
        assert announced == [], "nothing before the commit"
    with pytest.raises(InterruptedError):
        broken()
    assert store.version == 3, "what was given to a change that is lost is given to no other"
    with store.transaction():
        write("c")
    assert announced == [("a", 1), ("b", 2), ("c", 4)]
    store.after_commit(lambda: announced.append(("outside", 0)))
    assert announced[-1] == ("outside", 0)
    store.close()


def test_events_of_a_transaction_that_is_rolled_back_were_never_there(tmp_path: Path) -> None:
    store = opened(tmp_path)
    told: list[str] = []
    events = recorder(store, told)
    events.record(POD, "Normal", "Pulled", "kept", 10.0)

    def broken() -> None:
        with store.transaction():
            events.record(POD, "Normal", "Pulled", "kept", 20.0)
            events.record(POD, "Normal", "Started", "lost", 20.0)
            raise InterruptedError

    with pytest.raises(InterruptedError):
        broken()
    assert [(event.message, event.count) for event in events.all(30.0)] == [("kept", 1)]
    assert told == ["ADDED"]

    def broken_later() -> None:
        with store.transaction():
            assert events.all(LIFETIME_S + 20.0) == []
            raise InterruptedError

    with pytest.raises(InterruptedError):
        broken_later()
    assert [event.message for event in events.all(30.0)] == ["kept"]
    events.record(POD, "Normal", "Pulled", "kept", 40.0)
    assert events.all(40.0)[0].count == 2
    assert told == ["ADDED", "MODIFIED"]
    store.close()


def test_events_are_changes_in_the_history_and_so_is_their_end(tmp_path: Path) -> None:
    store = opened(tmp_path)
    history = History(store.version)
    events = EventRecorder(store, "node-1", history.append, 0.0)
    for at in (1.0, 2.0):
        events.record(POD, "Normal", "Pulled", "x", at)
    events.record(POD, "Normal", "Started", "y", LIFETIME_S)
    events.expire(LIFETIME_S + 3.0)
    content: dict[str, Event] = {}
    types = []
    for change in history.since(0):
        types.append(change.type)
        apply(content, change)
    assert types == ["ADDED", "MODIFIED", "ADDED", "DELETED"]
    assert list(content.values()) == events.all(LIFETIME_S + 3.0)
    store.close()


def apply(content: dict[str, Event], change: Change) -> None:
    if change.type == "DELETED":
        del content[change.name]
    else:
        content[change.name] = change.new


def test_a_write_waits_only_shortly_for_a_process_that_has_locked_the_file(tmp_path: Path) -> None:
    store = opened(tmp_path)
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    begun_s = time.monotonic()
    with pytest.raises(HostError, match="another process holds it open"):
        store.put(record("web"))
    assert time.monotonic() - begun_s < 2, "SQLite's own patience is 5 s, in which nothing else is done"
    other.execute("ROLLBACK")
    store.put(record("web"))
    other.close()
    store.close()
