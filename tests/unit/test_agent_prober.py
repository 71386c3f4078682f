"""When probes are made: turns, missed turns, three tries, asking out of turn; on a virtual clock (unit)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from minipod.agent.probes import targets as probe_targets
from minipod.agent.probes.kinds.connection import Answer, Done
from minipod.agent.probes.prober import Prober
from minipod.api.types import EnvVar, EnvVarSource, ExecAction, ObjectFieldSelector, Probe
from minipod.lifecycle import core, model
from minipod.lifecycle.probes import WantedProbe
from minipod.lifecycle.values import ProbeState
from tests.unit.agent_fakes import START_S, FakeRuntime, make_node, make_pod, now_s, run_virtually


class Script:
    """Answers attempts: `takes_s` later with `answer`. Notes when each began."""

    def __init__(self, answer: str = "success", takes_s: float = 0.0) -> None:
        self.answer = answer
        self.takes_s = takes_s
        self.began: list[float] = []

    def __call__(self, done: Done) -> Script:
        self.began.append(round(now_s() - START_S, 3))
        asyncio.get_running_loop().call_later(self.takes_s, done, Answer(self.answer, "m"))
        return self

    def time_is_up(self) -> None:
        """Takes as long as it takes."""

    def give_up(self) -> None:
        """What it says then is not listened to."""


def running(kind: str, **settings: int) -> model.PodState:
    """A pod whose only container was started 0.25 s after the pod, with that probe."""
    numbers: dict[str, Any] = {
        "timeout_seconds": 1,
        "period_seconds": 10,
        "success_threshold": 1,
        "failure_threshold": 3,
        **settings,
    }
    probe = Probe(exec=ExecAction(command=("true",)), **numbers)
    pod = make_pod()
    main = msgspec.structs.replace(pod.spec.containers[0], **{f"{kind}_probe": probe})
    pod = msgspec.structs.replace(pod, spec=msgspec.structs.replace(pod.spec, containers=(main,)))
    run = model.Run(id="c", state="running", started_at=START_S + 0.25)
    state = core.new_state(pod, START_S)
    return msgspec.structs.replace(
        state, start_time=START_S, phase="Running", containers={"main": model.ContainerState(run=run, attempts=1)}
    )


def probing(
    folder: Path, state: model.PodState, script: Script, seconds: float, then: Callable[[Prober], None] | None = None
) -> list[model.ProbeResult]:
    """The results reported within so many seconds, from 0.25 s after the pod's start on."""
    told: list[model.ProbeResult] = []

    async def main() -> None:
        node = make_node(folder)
        try:
            await asyncio.sleep(0.25)
            prober = Prober(node, lambda event: told.append(event))  # type: ignore[arg-type]
            prober.update(state)
            if then is not None:
                then(prober)
            await asyncio.sleep(seconds)
            prober.close()
            await asyncio.sleep(100)
        finally:
            node.store.close()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probe_targets, "maker", lambda *_: script)
        run_virtually(main)
    return told


def test_liveness_has_its_turns_counted_from_the_pod_s_start(tmp_path: Path) -> None:
    script = Script()
    told = probing(tmp_path, running("liveness"), script, 25)
    assert script.began == [9.6, 19.6]
    assert [(one.kind, one.result, one.container_id) for one in told] == [("liveness", "success", "c")] * 2


def test_readiness_is_asked_at_once_and_counted_from_there(tmp_path: Path) -> None:
    script = Script("failure")
    probing(tmp_path, running("readiness"), script, 25)
    assert script.began == [0.25, 10.25, 20.25]


def test_turns_in_the_initial_delay_pass_unused(tmp_path: Path) -> None:
    script = Script()
    probing(tmp_path, running("liveness", period_seconds=2, initial_delay_seconds=5), script, 8.9)
    assert script.began == [5.6, 7.6]


def test_a_turn_that_was_missed_is_made_up_for_once(tmp_path: Path) -> None:
    script = Script(takes_s=2.5)
    probing(tmp_path, running("liveness", period_seconds=1, timeout_seconds=9), script, 7)
    assert script.began == [0.6, 3.1, 5.6]


def test_a_probe_that_cannot_be_made_is_tried_three_times_and_reported_as_that(tmp_path: Path) -> None:
    script = Script("error")
    told = probing(tmp_path, running("liveness"), script, 15)
    assert script.began == [9.6, 9.6, 9.6]
    assert [one.result for one in told] == ["error"]


def test_nothing_is_reported_any_more_of_what_is_not_wanted_any_more(tmp_path: Path) -> None:
    state = running("liveness", period_seconds=1)
    script = Script(takes_s=0.9)
    gone = msgspec.structs.replace(state, containers={})

    def then(prober: Prober) -> None:
        asyncio.get_running_loop().call_later(1.0, prober.update, gone)

    assert probing(tmp_path, state, script, 5, then) == []
    assert script.began == [0.6]


def test_a_change_of_status_asks_for_readiness_out_of_turn_until_it_is_there(tmp_path: Path) -> None:
    state = running("readiness")
    script = Script("failure")

    def then(prober: Prober) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(3.75, prober.update, msgspec.structs.replace(state, published=1))
        known = ProbeState(container_id="c", result="success", last="success", run=1)
        ready = msgspec.structs.replace(state.containers["main"], probes={"readiness": known})
        later = msgspec.structs.replace(state, published=2, containers={"main": ready})
        loop.call_later(5.75, prober.update, later)

    probing(tmp_path, state, script, 20, then)
    assert script.began == [0.25, 4, 14]


def test_an_exec_probe_expands_only_what_is_written_down(tmp_path: Path) -> None:
    env = (
        EnvVar(name="PORT", value="80"),
        EnvVar(name="NAME", value_from=EnvVarSource(field_ref=ObjectFieldSelector(field_path="metadata.name"))),
    )
    pod = make_pod()
    main = msgspec.structs.replace(pod.spec.containers[0], env=env)
    pod = msgspec.structs.replace(pod, spec=msgspec.structs.replace(pod.spec, containers=(main,)))
    probe = Probe(exec=ExecAction(command=("test", "$(PORT)", "<$(NAME)>", "$$(PORT)", "$(HOME)")), timeout_seconds=1)
    wanted = WantedProbe(name="main", container_id="c", kind="liveness", probe=probe, started_at=START_S, since=START_S)
    runtime = FakeRuntime()

    async def ask() -> None:
        node = make_node(tmp_path, runtime)
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        probe_targets.maker(node, pod, (), wanted)(answered.set_result)
        await answered
        node.store.close()

    run_virtually(ask)
    assert runtime.log == ["exec_sync test 80 <> $(PORT) $(HOME)"]
