"""Threads of their own: results, errors, and those that have no memory to begin."""

from __future__ import annotations

import _thread
import threading
from typing import Any

import pytest

from minipod.kernel import netlink, threads
from minipod.kernel.threads import OwnThread


def test_a_result_and_an_error_reach_who_waits() -> None:
    ends: list[str] = []
    assert OwnThread(lambda: threading.get_ident(), at_end=lambda: ends.append("one")).wait() != threading.get_ident()
    failed = OwnThread(lambda: 1 // 0, at_end=lambda: ends.append("two"))
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            failed.wait()
    assert sorted(ends) == ["one", "two"]


@pytest.fixture
def in_vain(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Threads that are started and never reach their first line. What they would have called."""
    begun: list[Any] = []
    monkeypatch.setattr(_thread, "start_new_thread", lambda work, arguments: begun.append(work))
    monkeypatch.setattr(threads, "BEGIN_S", 0.0)
    return begun


def test_a_thread_that_had_no_memory_to_begin_is_not_waited_for(in_vain: list[Any]) -> None:
    done: list[str] = []

    def until_done(thread: OwnThread[None]) -> None:
        while not thread.is_done():
            pass

    for wait in (OwnThread.wait, until_done):
        thread = OwnThread(lambda: done.append("work"), at_end=lambda: done.append("end"))
        with pytest.raises(MemoryError, match="no memory for another thread"):
            wait(thread)
    for late in in_vain:
        late()
    assert done == ["end", "end"], "what begins too late does nothing"


def test_deletions_of_links_whose_threads_had_no_memory_keep_none_from_the_next(
    in_vain: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(netlink, "exists", lambda name: True)
    for _ in range(50):
        with pytest.raises(MemoryError):
            netlink.remove_link("x")


def test_where_no_thread_can_be_started_that_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_thread, "start_new_thread", refuse)
    ends: list[str] = []
    with pytest.raises(RuntimeError):
        OwnThread(int, at_end=lambda: ends.append("end"))
    assert ends == ["end"]
    assert not threads.begin(int)
