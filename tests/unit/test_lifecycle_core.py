"""The core as a whole: one start at a time, nothing after the end, events that survive being written down."""

from __future__ import annotations

import msgspec

from minipod.lifecycle import core, model
from tests.unit.lifecycle_simulator import Simulator, make_pod


def test_at_most_one_start_is_under_way() -> None:
    sim = Simulator(make_pod({"containers": [{"name": name} for name in "abc"]}))
    sim.start()
    under_way = 0
    for _ in range(200):
        sim.run(0.005)
        under_way = max(under_way, bool(sim.state.starting))
    begun = [t for t, a in sim.actions if isinstance(a, model.StartContainer)]
    assert under_way == 1
    assert len(set(begun)) == 3


def test_step_changes_nothing_of_a_pod_that_is_gone() -> None:
    sim = Simulator(make_pod({"containers": [{"name": "c"}], "schedulingGates": [{"name": "example.com/g"}]})).start()
    sim.send(model.DeleteRequested())
    state, actions = core.step(sim.state, model.Tick(), sim.now + 1)
    assert state == sim.state
    assert actions == ()


def test_events_can_be_written_and_read() -> None:
    event = model.SandboxReady(id="x", ips=("10.0.0.1",))
    assert msgspec.json.decode(msgspec.json.encode(event), type=model.SandboxReady) == event
