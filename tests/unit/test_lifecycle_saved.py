"""What minipod 0.1.0 saved of its pods is loaded and continued as it continued it (tests/data/pod-states.json).

Each case: the saved state, the events that followed it, what the core of that release did at each, its last status. One
differs: a preStop hook that was under way is run again before the container is stopped.
"""

from __future__ import annotations

import functools
import json
import operator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from minipod.lifecycle import core, model

CASES = json.loads((Path(__file__).parents[1] / "data" / "pod-states.json").read_text())
EVENTS: Any = functools.reduce(operator.or_, model.Event.__subclasses__())


def plain(value: object) -> Any:
    return json.loads(msgspec.json.encode(value))


@pytest.mark.parametrize("case", CASES, ids=[case["about"] for case in CASES])
def test_a_state_of_the_last_release_is_continued(case: dict[str, Any]) -> None:
    state = msgspec.json.decode(json.dumps(case["state"]), type=model.PodState)
    assert case["steps"][0]["event"]["event"] == "AgentStarted"
    for number, step in enumerate(case["steps"]):
        state, actions = core.step(state, msgspec.convert(step["event"], EVENTS), step["now"])
        done = {
            "actions": plain(actions),
            "wakeup": core.next_wakeup(state),
            "published": state.published,
        }
        assert done == {name: step[name] for name in done}, f"step {number}: {step['event']}"
    assert plain(state.status) == case["status"]


def test_the_cases_hold_passes_that_were_under_way() -> None:
    states = [case["state"] for case in CASES]
    assert any(state.get("passing") and state.get("starting") and state.get("queue") for state in states)
    assert any(state.get("restarted") for state in states)
    assert any(state.get("restart_all") for state in states)
    assert any(state.get("stage") == "terminating" for state in states)
