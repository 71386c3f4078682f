"""The pods that a real cluster ran (tests/data/behaviour.json), played again by the core with a virtual clock.

Order, states, reasons, codes, counts and the conditions at rest must be the cluster's; it was slower by up to a few
seconds, so times are only compared where a rule makes them. Left out of each comparison is what docs/lifecycle.md
lists as different on purpose.
"""

from __future__ import annotations

import copy
import functools
from collections import Counter

import pytest

from minipod.lifecycle import model
from tests.recorded import RACES, RECORDED, events, history_until_deleted, recorded_events, states
from tests.unit.lifecycle_simulator import Simulator, make_pod

# What these pods need from outside the lifecycle.
FAILURES: dict[str, model.Event] = {
    "no-such-command": model.ContainerStartFailed(name="c", container_id="", at=0, message=""),
    "no-configmap-env": model.ContainerCreateFailed(name="c", reason="CreateContainerConfigError", message="m"),
    "nonroot-violated": model.ContainerCreateFailed(name="c", reason="CreateContainerConfigError", message="m"),
    "image-never": model.ImageFailed(name="c", reason="ErrImageNeverPull", message="m"),
}
VERDICTS = {
    "killed-by-signal": (1, "Error", ""),
    "oom": (137, "OOMKilled", ""),
    "term-message": (4, "Error", "bye\n"),
}
HOOKS = {"poststart-fails": (0.1, False), "prestop-exec": (2.0, True)}


@functools.cache
def play(name: str) -> Simulator:
    recorded = RECORDED[name]
    sim = Simulator(make_pod(copy.deepcopy(recorded["spec"]), name))
    sim.latency["sandbox"], sim.latency["start"] = 0.4, 0.1
    if name in FAILURES:
        sim.fail["c"] = FAILURES[name]
    if name in VERDICTS:
        sim.verdict["c"] = VERDICTS[name]
    if name in HOOKS:
        sim.hook = lambda container, hook: HOOKS[name]
    sim.start().run(recorded["seconds"])
    if recorded["deleteSeconds"] is not None:
        sim.send(model.DeleteRequested())
        sim.run(60)
    return sim


@pytest.mark.parametrize("name", sorted(set(RECORDED) - RACES))
def test_pod_goes_through_the_same_states_as_on_a_cluster(name: str) -> None:
    theirs = states(history_until_deleted(name))
    ours = states(play(name).history())
    assert [state for _, state in ours[: len(theirs)]] == [state for _, state in theirs]
    assert all("CrashLoopBackOff" in state for _, state in ours[len(theirs) :])
    for (our_t, _), (their_t, state) in zip(ours, theirs, strict=False):
        assert our_t <= their_t + 1, state


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_pod_rests_with_the_same_conditions_as_on_a_cluster(name: str) -> None:
    last = [entry for entry in RECORDED[name]["history"] if not entry.get("deleted")][-1]
    ours = list(play(name).history())[-1]
    if RECORDED[name]["deleteSeconds"] is None and last["t"] > RECORDED[name]["seconds"] + 1:
        return  # it was still going up and down
    assert ours["conditions"] == last["conditions"]
    assert ours["phase"] == last["phase"]


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_pod_records_the_same_events_as_on_a_cluster(name: str) -> None:
    theirs = recorded_events(name)
    counted = Counter((event.reason, event.field_path, event.message) for _, event in play(name).recorded)
    ours = events((reason, path, count) for (reason, path, _), count in counted.items())
    assert set(ours) == set(theirs)
    for key, counts in ours.items():
        assert counts <= theirs[key], key


def test_container_with_a_startup_probe_is_restarted_at_once_after_its_first_liveness_failures() -> None:
    told = [entry["containers"]["c"] for entry in play("startup-blocks").history()]
    assert max(status["restartCount"] for status in told) == 2
    assert not any(status.get("reason") == "CrashLoopBackOff" for status in told)
