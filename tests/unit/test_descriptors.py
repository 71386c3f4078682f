"""Whether there are descriptors for another container (unit)."""

from __future__ import annotations

import asyncio
import errno
import os

import pytest

from minipod.errors import ContainerError
from minipod.kernel import descriptors
from minipod.runtime import descriptors as room
from minipod.runtime.descriptors import Room


def test_half_of_few_descriptors_and_at_most_256_are_kept_for_all_but_containers() -> None:
    assert [descriptors.reserve(most) for most in (20, 64, 128, 1024, 20_000)] == [10, 32, 64, 128, 256]


def test_a_refusal_names_owner_count_limit_and_remedy() -> None:
    assert descriptors.refusal("agent", 6, 890, 1024) == ""
    assert descriptors.refusal("agent", 6, 891, 1024) == (
        "no descriptor is free for another container: the agent has 891 of 1024 open and keeps 128 for everything "
        "else: delete pods, or start the agent with a higher hard limit (ulimit -Hn, LimitNOFILE= of its unit)"
    )


def test_open_descriptors_are_counted() -> None:
    before = descriptors.count()
    fd = os.open("/", os.O_PATH)
    assert before <= descriptors.count() <= before + 1
    os.close(fd)
    assert before == descriptors.count()


def test_containers_count_from_their_creation_to_their_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise all that are tried again at once would be created, and all but the first would not start."""
    monkeypatch.setattr(descriptors, "count", lambda: 880)
    monkeypatch.setattr(descriptors, "limit", lambda: 1024)
    room = Room()
    for name in ("a", "b", "b"):
        room.expect(name)
    assert "the agent has 880 of 1024 open" in room.refusal()
    with pytest.raises(ContainerError, match="no descriptor is free"):
        room.expect("c")
    room.settle("a")
    room.settle("c")
    room.expect("c")


def test_what_must_be_done_is_tried_until_there_is_a_descriptor_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_RETRY_S", 0.0)
    failures: list[Exception] = [OSError(errno.EMFILE, "Too many open files"), MemoryError()]

    def work() -> str:
        if failures:
            raise failures.pop()
        return "done"

    assert asyncio.run(room.once_possible(work)) == "done"
    failures = [OSError(errno.EIO, "Input/output error")]
    with pytest.raises(OSError, match="Input/output"):
        asyncio.run(room.once_possible(work))
