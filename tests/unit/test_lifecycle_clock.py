"""The wall clock is set while a pod lives: what takes a time takes as long, what is shown is the wall clock's."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
import pytest

from minipod.lifecycle import model
from tests.unit.lifecycle_simulator import START, Simulator, make_pod
from tests.unit.test_lifecycle_recovery import found, take_over

HOUR_S = 3600.0
YEAR_S = 365 * 86400.0
EXEC = {"exec": {"command": ["false"]}}

#: name -> the container, the pod, when it is deleted
LIVES: dict[str, tuple[dict[str, Any], dict[str, Any], float | None]] = {
    "crash loop": ({"command": ["sh", "-c", "sleep 2; exit 1"]}, {}, None),
    "short crashes": ({"command": ["sh", "-c", "exit 1"]}, {}, None),
    "deadline": ({}, {"activeDeadlineSeconds": 60}, None),
    "deletion": ({}, {"terminationGracePeriodSeconds": 40}, 30.0),
    "preStop": (
        {"lifecycle": {"preStop": {"sleep": {"seconds": 100}}}},
        {"terminationGracePeriodSeconds": 45},
        30.0,
    ),
    "pull": ({}, {}, None),
    "liveness": ({"livenessProbe": {**EXEC, "initialDelaySeconds": 20, "periodSeconds": 7}}, {}, None),
    "startup": ({"startupProbe": {**EXEC, "initialDelaySeconds": 15, "periodSeconds": 4}}, {}, None),
}


def live(name: str, jumps: dict[float, float]) -> Simulator:
    """300 s of it. `jumps`: time -> by how much the wall clock is set."""
    container, spec, deleted_at = LIVES[name]
    sim = Simulator(
        make_pod({"containers": [{"name": "c", "command": ["sh", "-c", "sleep 1000"], **container}], **spec})
    )
    if name == "pull":
        sim.fail["c"] = model.ImageFailed(name="c", reason="ErrImagePull", message="no such host")
    sim.hook = lambda name, hook: (100.0, True)
    if deleted_at is not None:
        sim.at(deleted_at, lambda: sim.send(model.DeleteRequested()))
    sim.start()
    for at, by_s in jumps.items():
        sim.run(START + at - sim.now)
        sim.ahead_s += by_s
    sim.run(START + 300 - sim.now)
    return sim


def seen(sim: Simulator) -> list[Any]:
    """All statuses and events but their texts' times."""
    return [*sim.history(), *((t, event.reason, event.message) for t, event in sim.recorded)]


@pytest.mark.parametrize("name", LIVES)
@pytest.mark.parametrize("by_s", [-HOUR_S, HOUR_S, -YEAR_S, 0.75], ids=["back", "forward", "a year back", "a little"])
def test_the_same_happens_at_the_same_times_whenever_the_clock_is_set(name: str, by_s: float) -> None:
    expected = seen(live(name, {}))
    for at in range(1, 120, 7):
        assert seen(live(name, {at + 0.5: by_s})) == expected, at


@pytest.mark.parametrize("name", LIVES)
def test_a_clock_that_wanders_changes_nothing(name: str) -> None:
    jumps = {
        at + 0.3: by_s for at, by_s in zip(range(1, 300, 9), [-HOUR_S, 10.0, HOUR_S, 5e5, -5e5] * 10, strict=False)
    }
    assert seen(live(name, jumps)) == seen(live(name, {}))


def moment(text: str | None) -> float:
    assert text is not None
    return datetime.fromisoformat(text).timestamp()


def test_what_is_shown_is_the_wall_clocks() -> None:
    sim = live("deletion", {20.5: -HOUR_S})
    status = sim.state.status
    assert moment(status.start_time) == START
    assert moment(sim.state.pod.metadata.deletion_timestamp) == START + 30 - HOUR_S + 40
    ready = next(c for c in status.conditions if c.type == "Ready")
    assert moment(ready.last_transition_time) == pytest.approx(START + 70 - HOUR_S, abs=2)


def test_times_that_are_shown_stay_when_the_clock_is_set() -> None:
    before = live("deadline", {20.5: 0.0, 30.0: 0.0}).container("c")
    sim = live("deadline", {20.5: HOUR_S, 30.0: HOUR_S})
    assert sim.container("c").state.terminated.started_at == before.state.terminated.started_at


def test_a_container_ends_no_earlier_than_it_started() -> None:
    ended = live("deletion", {20.5: -HOUR_S}).container("c").state.terminated
    assert ended.finished_at == ended.started_at
    ended = live("deletion", {20.5: HOUR_S}).container("c").state.terminated
    assert moment(ended.finished_at) - moment(ended.started_at) == pytest.approx(HOUR_S + 70, abs=2)


def test_an_end_that_was_stamped_before_the_clock_was_set_back_counts_from_now() -> None:
    """The container ended and the clock was set while no agent ran: only a time in the future is known."""
    sim = Simulator(make_pod({"containers": [{"name": "c", "command": ["sh", "-c", "sleep 1000"]}]})).start()
    sim.run(5)
    sim.end("c", 1)
    sim.run(5)
    run = found(sim)["c"]
    ended = msgspec.structs.replace(run, state="exited", exit_code=1, finished_at=sim.wall)
    sim.ahead_s = -HOUR_S
    sim.processes.clear()
    take_over(sim, {"c": ended})
    sim.run(25)  # the back-off of 10 s, and what the kubelet waits besides
    assert sim.container("c").restart_count == 2


def test_a_grace_period_ends_in_time_also_with_a_new_agent_and_another_clock() -> None:
    pod = make_pod({"containers": [{"name": "c"}], "terminationGracePeriodSeconds": 60})
    sim = Simulator(pod).start()
    sim.run(5)
    sim.send(model.DeleteRequested())
    sim.run(30)
    sim.ahead_s = -HOUR_S
    take_over(sim)
    sim.run(29)
    assert sim.state.stage == "terminating"
    sim.run(3)
    assert sim.state.stage == "gone"


def test_after_a_reboot_with_a_clock_behind_nothing_waits_longer_than_its_interval() -> None:
    """The saved times lie in the future of an agent that knows nothing but the wall clock."""
    sim = Simulator(make_pod({"containers": [{"name": "c", "command": ["sh", "-c", "exit 1"]}]})).start()
    sim.run(100)
    restarts = sim.container("c").restart_count
    sim.now -= YEAR_S
    sim._queue.clear()
    take_over(sim, {}, ready=False)
    sim.run(200)
    assert sim.container("c").restart_count > restarts
