"""A step in the making: what it may change, and the pass that it belongs to."""

from __future__ import annotations

from typing import Any, get_type_hints

import msgspec
import pytest

from minipod.lifecycle import changes, core, model, passes
from minipod.lifecycle.work import Work
from tests.unit.lifecycle_simulator import START, Simulator, make_pod

POD = make_pod({"containers": [{"name": "a"}, {"name": "b"}]})


@pytest.mark.parametrize(
    ("keywords", "struct"),
    [
        (changes.PodChanges, model.PodState),
        (changes.PassChanges, model.Pass),
        (changes.ContainerChanges, model.ContainerState),
        (changes.RunChanges, model.Run),
    ],
)
def test_what_work_may_change_has_the_fields_of_its_struct(keywords: Any, struct: type[msgspec.Struct]) -> None:
    assert get_type_hints(keywords) == get_type_hints(struct)


def test_without_a_pass_there_is_nothing_to_change_in_it() -> None:
    work = Work(core.new_state(POD, START), START)
    work.set_pass(failed=True, starting="a")
    assert work.state.current_pass is None
    assert work.state.starting == ""


def test_a_pass_holds_its_start_and_what_comes_after_it() -> None:
    sim = Simulator(POD)
    sim.hangs.add("a")
    sim.start().run(1)
    assert sim.state.current_pass == model.Pass(starting="a", queue=("b",), made_sandbox=True)
    assert sim.state.starting == "a"
    assert not passes.at_rest(sim.state)


def test_nothing_of_a_pass_is_left_when_it_has_ended() -> None:
    sim = Simulator(POD)
    sim.start().run(5)
    assert sim.state.current_pass is None
    assert passes.at_rest(sim.state)


def test_a_pass_ends_with_its_agent() -> None:
    sim = Simulator(POD)
    sim.hangs.add("a")
    sim.start().run(1)
    taken_over, _ = core.step(sim.state, model.AgentStarted(), sim.now)
    assert taken_over.current_pass is None


def test_a_pass_in_a_post_start_hook_ends_when_the_pod_is_deleted() -> None:
    hook = {"lifecycle": {"postStart": {"sleep": {"seconds": 100}}}}
    sim = Simulator(make_pod({"containers": [{"name": "a", **hook}, {"name": "b"}]}))
    sim.hook = lambda name, kind: (100.0, True)
    sim.start().run(1)
    assert sim.state.starting == "a"
    sim.send(model.DeleteRequested())
    sim.run(0.1)
    assert (sim.state.stage, sim.state.current_pass) == ("terminating", None)
