"""The watchdog's figures, and that it sees what holds the loop up."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator

import pytest

from minipod.agent import watchdog
from minipod.agent.watchdog import LATE_S, RECENT_S, Lateness, Watchdog
from minipod.kernel.clock import Timer


def test_figures_keep_the_worst_for_ever_and_the_recent_for_a_while() -> None:
    figures = Lateness()
    figures.turn(1000.0, 0.004)
    figures.turn(1001.0, 0.2, "lease (runtime/network.py:61)")
    figures.turn(1002.0, 0.03)
    seen = figures.fields(1003.0)
    assert (seen["loop_worst_ms"], seen["loop_recent_ms"], seen["loop_late"]) == (200.0, 200.0, 1)
    assert seen["loop_worst_in"] == "lease (runtime/network.py:61)"
    assert figures.fields(1000.0 + RECENT_S + 1)["loop_recent_ms"] == 200.0  # the period before counts
    figures.turn(1000.0 + 2 * RECENT_S, 0.001)
    assert figures.fields(1000.0 + 2 * RECENT_S + 2)["loop_recent_ms"] == 1.0
    assert figures.fields(1000.0 + 9 * RECENT_S)["loop_recent_ms"] == 0.0
    assert figures.fields(1000.0 + 9 * RECENT_S)["loop_worst_ms"] == 200.0


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """What is logged."""
    found: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record.getMessage())

    handler = Keep()
    watchdog.log.addHandler(handler)
    yield found
    watchdog.log.removeHandler(handler)


def run(watched: Watchdog, *blocks_s: float) -> None:
    """A loop with turns that take so long."""

    async def main() -> None:
        watched.start()
        try:
            for seconds in blocks_s:
                await asyncio.sleep(0)
                time.sleep(seconds)
                await asyncio.sleep(0)
        finally:
            watched.close()

    with asyncio.Runner(loop_factory=watched.new_loop) as runner:
        runner.run(main())


def test_a_late_turn_is_measured_named_and_logged(monkeypatch: pytest.MonkeyPatch, lines: list[str]) -> None:
    monkeypatch.setattr(watchdog, "_PACKAGE", __file__.rpartition("/")[0] + "/")  # these functions are what is named
    watched = Watchdog()
    run(watched, LATE_S * 4)
    figures = watched.fields()
    assert figures["loop_worst_ms"] >= LATE_S * 4000
    assert figures["loop_worst_in"].startswith("main (test_watchdog.py:")
    assert figures["loop_late"] >= 1
    assert "ms in main (test_watchdog.py:" in lines[0]


def test_late_turns_are_counted_but_not_all_of_them_logged(lines: list[str]) -> None:
    watched = Watchdog()
    run(watched, *[LATE_S * 1.2] * 4)
    assert watched.fields()["loop_late"] >= 4
    assert len(lines) == 1


def test_a_turn_that_does_not_end_is_logged_while_it_lasts(monkeypatch: pytest.MonkeyPatch, lines: list[str]) -> None:
    monkeypatch.setattr(watchdog, "STILL_S", LATE_S * 2)
    run(Watchdog(), LATE_S * 6)
    assert ["has stood still" in line for line in lines] == [True, False]


def test_a_loop_at_rest_wakes_the_watchdogs_thread_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    rings: list[int] = []
    wait = Timer.wait

    def counted(timer: Timer) -> None:
        wait(timer)
        rings.append(1)

    monkeypatch.setattr(Timer, "wait", counted)
    watched = Watchdog()

    async def main() -> None:
        watched.start()
        await asyncio.sleep(LATE_S * 6)
        watched.close()

    with asyncio.Runner(loop_factory=watched.new_loop) as runner:
        runner.run(main())
    assert len(rings) <= 3  # the turn before the rest, the one after it, the end
