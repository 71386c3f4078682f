"""The history of changes and its watches (unit). The random sequences are in tests/corpus/test_generated_watches.py."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import pytest

from minipod.agent.registry.history import Change, ChangeType, History, change_of
from minipod.agent.registry.selection import Selection, parse_selectors
from minipod.api.types import ConfigMap, ObjectMeta, Pod, PodStatus
from minipod.errors import ExpiredError, UsageError

MAPS = Selection.of("ConfigMap")


def config_map(name: str, version: int, namespace: str = "default", data: str = "", **labels: str) -> ConfigMap:
    metadata = ObjectMeta(
        name=name, namespace=namespace, uid=f"uid-{name}", labels=labels, resource_version=str(version)
    )
    return ConfigMap(metadata=metadata, data={"data": data})


def change(new: Any, old: Any = None, type_: ChangeType | None = None) -> Change:
    return change_of(type_ or ("ADDED" if old is None else "MODIFIED"), old, new, msgspec.json.encode(new))


def labelled(text: str) -> Selection:
    return msgspec.structs.replace(MAPS, labels=parse_selectors(text, "", ())[0])


def taken(watch: Any) -> list[tuple[str, str, int]]:
    found = []
    while (one := watch.take()) is not None:
        found.append((one.type, one.name, int(one.new.metadata.resource_version)))
    return found


def in_loop(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(main())


def test_a_watch_is_sent_what_comes_after_its_version_and_is_of_its_kind() -> None:
    history = History(10)
    history.append(change(config_map("a", 11)))
    history.append(change(Pod(metadata=ObjectMeta(name="p", namespace="default", resource_version="12"))))
    history.append(change(config_map("b", 14, namespace="other")))
    assert taken(history.watch(MAPS, 10)) == [("ADDED", "a", 11), ("ADDED", "b", 14)]
    assert taken(history.watch(MAPS, 11)) == [("ADDED", "b", 14)]
    assert taken(history.watch(MAPS)) == []
    assert taken(history.watch(Selection.of("ConfigMap", namespace="default"), 10)) == [("ADDED", "a", 11)]
    assert taken(history.watch(Selection.of("ConfigMap", name="b"), 10)) == [("ADDED", "b", 14)]
    assert taken(history.watch(Selection.of("ConfigMap", "Pod", namespace="default"), 10))[1][:2] == ("ADDED", "p")
    assert [one.version for one in history.since(11)] == [12, 14]


def test_an_object_that_leaves_the_selection_is_deleted_with_its_content_from_before() -> None:
    history = History(0)
    before = config_map("a", 1, app="web", data="seen")
    left = config_map("a", 2, app="other", data="not to be seen")
    changed = config_map("a", 3, app="other", data="not to be seen either")
    back = config_map("a", 4, app="web")
    gone = config_map("a", 5, app="web")
    history.append(change(before))
    history.append(change(left, before))
    history.append(change(changed, left))
    history.append(change(back, changed))
    history.append(change(gone, back, "DELETED"))
    watch = history.watch(labelled("app=web"), 0)
    events = [watch.take() for _ in range(4)]
    assert watch.take() is None
    shown = [(one.type, one.new.metadata.resource_version, one.new.data["data"]) for one in events if one is not None]
    assert shown == [("ADDED", "1", "seen"), ("DELETED", "2", "seen"), ("ADDED", "4", ""), ("DELETED", "5", "")]
    deleted = events[1]
    assert deleted is not None
    sent = msgspec.json.decode(deleted.data, type=ConfigMap)
    assert (sent.metadata.resource_version, sent.data) == ("2", {"data": "seen"})


def test_an_object_that_was_never_selected_is_not_deleted() -> None:
    history = History(0)
    other = config_map("a", 1, app="other")
    history.append(change(other))
    history.append(change(config_map("a", 2, app="other"), other, "DELETED"))
    assert taken(history.watch(labelled("app=web"), 0)) == []


def test_fields_and_uids_select_by_before_and_after_too() -> None:
    history = History(0)

    def pod(version: int, phase: str) -> Pod:
        metadata = ObjectMeta(name="web", namespace="default", uid="u", resource_version=str(version))
        return Pod(metadata=metadata, status=PodStatus(phase=phase))

    pods = [pod(1, "Pending"), pod(2, "Running"), pod(3, "Succeeded")]
    history.append(change(pods[0]))
    history.append(change(pods[1], pods[0]))
    history.append(change(pods[2], pods[1]))
    fields = parse_selectors("", "status.phase=Running", ("status.phase",))[1]
    running = Selection(frozenset({("Pod", None, None)}), fields=fields)
    assert taken(history.watch(running, 0)) == [("ADDED", "web", 2), ("DELETED", "web", 3)]
    assert len(taken(history.watch(Selection.of("Pod", uid="u"), 0))) == 3
    assert taken(history.watch(Selection.of("Pod", uid="another"), 0)) == []


def test_unknown_field_labels_are_refused() -> None:
    with pytest.raises(UsageError, match=r"field label not supported: spec\.x"):
        parse_selectors("", "spec.x=1", ("metadata.name",))


def test_versions_out_of_reach_are_expired_in_the_api_servers_words() -> None:
    history = History(5, max_changes=2)
    for version in (6, 8, 9):
        history.append(change(config_map("a", version)))
    with pytest.raises(ExpiredError, match=r"^too old resource version: 5 \(6\)$"):
        history.since(5)
    assert [one.version for one in history.since(6)] == [8, 9]
    assert [one.version for one in history.since(7)] == [8, 9]
    assert history.since(9) == []
    with pytest.raises(ExpiredError, match=r"^Too large resource version: 10, current: 9$"):
        history.watch(MAPS, 10)


def test_a_new_history_knows_only_what_comes() -> None:
    history = History(100)
    assert taken(history.watch(MAPS, 100)) == []
    with pytest.raises(ExpiredError):
        history.watch(MAPS, 99)


def test_changes_must_come_in_the_order_of_their_versions() -> None:
    history = History(5)
    with pytest.raises(ValueError, match="comes after 5"):
        history.append(change(config_map("a", 5)))


def test_a_sleeping_watch_is_expired_and_stays_it() -> None:
    history = History(0, max_changes=3)
    watch = history.watch(MAPS)
    for version in range(1, 4):
        history.append(change(config_map("a", version)))
    assert not watch.is_expired
    history.append(change(config_map("a", 4)))
    assert watch.is_expired
    for _ in range(2):
        with pytest.raises(ExpiredError, match=r"too old resource version: 0 \(1\)"):
            watch.take()
    watch.skip()
    assert (watch.take(), watch.version) == (None, 4)


def test_the_ring_is_bounded_in_bytes_and_json_is_made_again_for_older_changes() -> None:
    history = History(0, max_bytes=30_000, max_encoded_bytes=5_000)
    for version in range(1, 21):
        history.append(change(config_map("a", version, data="x" * 2_000)))
    known = history.since(history.oldest_version)
    assert 10 <= len(known) <= 15
    assert sum(len(one.encoded) for one in known) <= 5_000
    assert known[-1].encoded, "the newest is not encoded twice"
    assert not known[0].encoded
    assert msgspec.json.decode(known[0].data, type=ConfigMap) == known[0].new


def test_one_object_larger_than_the_ring_expires_everybody() -> None:
    history = History(0, max_bytes=1_000)
    watch = history.watch(MAPS)
    history.append(change(config_map("a", 1, data="x" * 2_000)))
    assert watch.is_expired
    assert (history.version, history.oldest_version) == (1, 1)


def test_a_waiting_watch_is_woken_only_for_what_it_selects_and_never_expires_for_the_rest() -> None:
    async def main() -> None:
        history = History(0, max_changes=2)
        watch = history.watch(labelled("app=web"))
        turns = 0

        async def wait() -> Change:
            nonlocal turns
            found = await watch.next()
            turns += 1
            return found

        task = asyncio.ensure_future(wait())
        await asyncio.sleep(0)
        for version in range(1, 10):
            history.append(change(config_map("b", version, app="other")))
            await asyncio.sleep(0)
        assert not task.done()
        assert watch.version == 9, "a bookmark may say so"
        history.append(change(config_map("a", 10, app="web")))
        history.append(change(config_map("b", 11, app="other")))
        found = await task
        assert (found.name, found.version, turns) == ("a", 10, 1)
        assert watch.version == 10

    in_loop(main)


def test_a_watch_that_is_woken_and_does_not_run_may_still_expire() -> None:
    async def main() -> None:
        history = History(0, max_changes=2)
        task = asyncio.ensure_future(history.watch(MAPS).next())
        await asyncio.sleep(0)
        for version in range(1, 10):
            history.append(change(config_map("a", version)))
        with pytest.raises(ExpiredError):
            await task

    in_loop(main)


@pytest.mark.parametrize("when", ["before", "after", "between"])
def test_a_cancelled_wait_loses_nothing(when: str) -> None:
    async def main() -> None:
        history = History(0)
        watch = history.watch(labelled("app=web"))
        task = asyncio.ensure_future(watch.next())
        await asyncio.sleep(0)
        history.append(change(config_map("b", 1, app="other")))
        if when == "before":
            history.append(change(config_map("a", 2, app="web")))
        task.cancel()
        if when == "between":
            history.append(change(config_map("a", 2, app="web")))
        with pytest.raises(asyncio.CancelledError):
            await task
        if when == "after":
            history.append(change(config_map("a", 2, app="web")))
        assert taken(watch) == [("ADDED", "a", 2)]

    in_loop(main)


def test_nothing_is_kept_of_a_watch_that_nobody_waits_for() -> None:
    async def main() -> None:
        history = History(0)
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(history.watch(MAPS).next(), 0.001)
        assert not history._waiting

    in_loop(main)
