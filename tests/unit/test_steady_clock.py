"""The clock that measures: over a wall clock that is set, over agents, over reboots."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from minipod.agent import processes, steady
from minipod.agent.clock_watch import ClockWatch
from minipod.agent.events import PodReference
from minipod.agent.pods.table import Pods
from minipod.agent.registry.store import Store
from minipod.agent.steady import SteadyClock
from minipod.errors import HostError
from minipod.kernel.clock import ClockChange, boottime
from minipod.runtime.images import ingest
from tests.unit.agent_fakes import make_node, now_s, run_virtually

HOUR_S = 3600.0


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(steady.log, "warning", lambda form, *words: lines.append(form % words))
    return lines


class Host:
    """A host's clocks; `store` survives its agents."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(f"{folder}/minipod.db")
        self.wall_s, self.up_s = 1_800_000_000.0, 100.0

    def pass_time(self, seconds: float) -> None:
        self.wall_s += seconds
        self.up_s += seconds

    def agent(self) -> SteadyClock:
        return SteadyClock(self.store, lambda: self.wall_s, lambda: self.up_s)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host(tmp_path)
    yield made
    made.store.close()


def test_it_begins_as_the_wall_clock_and_goes_on_when_that_is_set(host: Host) -> None:
    clock, jumps = host.agent(), list[float]()
    clock.on_jump = jumps.append
    begin = clock.now()
    assert begin == host.wall_s
    host.wall_s -= HOUR_S
    host.pass_time(10)
    assert clock.now() == begin + 10
    assert clock.ahead_s == -HOUR_S
    host.wall_s += HOUR_S
    assert clock.ahead_s == 0
    assert jumps == [-HOUR_S, HOUR_S]


def test_a_jump_is_logged_and_a_clock_that_is_steered_is_followed_silently(host: Host, logged: list[str]) -> None:
    clock, jumps = host.agent(), list[float]()
    clock.on_jump = jumps.append
    host.wall_s += 0.4
    assert clock.ahead_s == pytest.approx(0.4)
    assert not logged
    host.wall_s -= 7.0
    clock.look()
    assert [line.partition(":")[0] for line in logged] == ["the clock was set back by 7.0 s"]
    assert jumps == pytest.approx([-7.0])


def test_readings_that_differ_by_noise_are_no_change(host: Host) -> None:
    clock = host.agent()
    host.wall_s += 0.005
    assert clock.ahead_s == 0


def test_an_interval_lasts_over_agents_and_what_was_set_meanwhile_is_logged(host: Host, logged: list[str]) -> None:
    first = host.agent()
    begin = first.now()
    host.pass_time(5)
    host.wall_s -= HOUR_S
    host.pass_time(5)
    second = host.agent()
    assert second.now() == begin + 10
    assert second.ahead_s == -HOUR_S
    assert host.agent().now() == begin + 10
    assert [line.partition(":")[0] for line in logged] == ["while no agent ran the clock was set back by 3600.0 s"]


def test_after_a_reboot_the_wall_clock_tells_how_long_it_took(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "boot_id", lambda: "one")
    first = host.agent()
    begin = first.now()
    host.wall_s -= HOUR_S
    first.look()
    monkeypatch.setattr(processes, "boot_id", lambda: "two")
    host.wall_s += 60
    host.up_s = 3.0
    second = host.agent()
    assert second.now() == begin + 60
    assert second.ahead_s == -HOUR_S


def test_a_store_that_takes_nothing_stops_no_clock(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(key: str, value: str) -> None:
        raise HostError("no space left on the device")

    monkeypatch.setattr(host.store, "set_meta", full)
    clock = host.agent()
    host.wall_s -= HOUR_S
    assert clock.ahead_s == -HOUR_S
    assert clock.now() == host.wall_s + HOUR_S


def test_what_is_damaged_in_the_store_is_written_anew(host: Host) -> None:
    host.store.set_meta("clock", "{")
    assert host.agent().now() == host.wall_s


def test_an_event_of_the_node_says_that_the_clock_was_set_and_older_events_keep_their_hour(tmp_path: Path) -> None:
    async def main() -> None:
        node, ahead_s = make_node(tmp_path), 0.0
        node.clock = lambda: now_s() + ahead_s
        pods = Pods(node)
        watch = asyncio.ensure_future(ClockWatch(node, pods).run())
        await asyncio.sleep(0)
        node.events.record(PodReference("default", "web", "u"), "Normal", "Early", "m", node.clock())
        ahead_s = 2 * HOUR_S
        node.steady.look()
        await asyncio.sleep(HOUR_S - 10)
        assert [event.reason for event in node.events.all(node.clock())] == ["Early", "ClockSet"]
        await asyncio.sleep(11)
        assert [event.reason for event in node.events.all(node.clock())] == []
        watch.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watch

    run_virtually(main)


def test_the_kernel_reports_changes_of_its_clock_by_a_descriptor() -> None:
    change = ClockChange()
    try:
        change.acknowledge()  # as for a change that came to nothing
        os.fstat(change.fileno())
        assert boottime() > 0
    finally:
        change.close()
    with pytest.raises(OSError, match=r"."):
        os.fstat(change.fileno())


def test_a_file_with_a_date_in_the_future_is_old(tmp_path: Path) -> None:
    """The clock was set back since it was written: a download left then is not kept for that long."""
    file = tmp_path / "file"
    file.touch()
    assert not ingest.is_older(file, 120)
    os.utime(file, (file.stat().st_mtime + HOUR_S,) * 2)
    assert ingest.is_older(file, 120)
    os.utime(file, (file.stat().st_mtime - 2 * HOUR_S,) * 2)
    assert ingest.is_older(file, 120)
