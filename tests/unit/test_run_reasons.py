"""What `run` says of a pod that is not well: probes and events of the agent, how far a pull is."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from minipod.agent.pods import steps
from minipod.agent.pods.steps import Step
from minipod.cli.show.pull_progress import Layer, Lines
from minipod.control.verbs.unhealthy import Unhealthy
from minipod.errors import ImageError
from minipod.lifecycle import core, model
from minipod.runtime.images.ingest import LayerProgress
from minipod.runtime.images.registry.pull import Pulled
from tests.unit.agent_client import Agent, with_agent
from tests.unit.agent_fakes import make_pod, run_virtually


def failing(words: str = "readiness probe failed: refused", container: str = "c") -> Step:
    return Step(step="unhealthy", message=f"{container}: {words}", container=container)


def test_a_failing_probe_is_said_after_five_seconds_then_ever_less_often_with_a_count() -> None:
    said: list[tuple[float, str]] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        kept = Unhealthy(lambda uid, step: said.append((loop.time() - begun, step.message)))
        begun = loop.time()
        for _ in range(40):
            assert kept.take("uid", failing())
            await asyncio.sleep(1)
        kept.close()

    run_virtually(main)
    words = "c: readiness probe failed: refused"
    assert [round(at) for at, _ in said] == [5, 15, 35]
    assert [text for _, text in said] == [
        f"{words} (5 times in 5s)",
        f"{words} (15 times in 15s)",
        f"{words} (35 times in 35s)",
    ]


@pytest.mark.parametrize("end", ["ready", "exited", "terminating"])
def test_what_is_over_before_that_is_not_said(end: str) -> None:
    async def main() -> None:
        said: list[str] = []
        kept = Unhealthy(lambda uid, step: said.append(step.message))
        kept.take("uid", failing())
        assert not kept.take("uid", Step(step=end, message="", container="" if end == "terminating" else "c"))
        await asyncio.sleep(60)
        assert said == []

    run_virtually(main)


def test_a_kill_by_a_probe_says_first_what_the_probe_found() -> None:
    async def main() -> None:
        said: list[str] = []
        kept = Unhealthy(lambda uid, step: said.append(step.message))
        kept.take("uid", failing("liveness probe failed: 500"))
        kept.take("uid", failing("liveness probe failed: 503"))
        kept.take("uid", failing("refused", container="other"))
        kept.take("uid", Step(step="killing", message="", container="c"))
        assert said == ["c: liveness probe failed: 503 (2 times)"]
        kept.close()

    run_virtually(main)


def recorded(kind: str, reason: str, message: str = "words", path: str = "spec.containers{main}") -> model.RecordEvent:
    return model.RecordEvent(type=kind, reason=reason, message=message, field_path=path)


@pytest.mark.parametrize(
    ("action", "stage", "step", "message"),
    [
        (recorded("Warning", "ResizeError"), "syncing", "warning", "ResizeError: words"),
        (recorded("Warning", "FailedKillPod"), "terminating", "warning", "FailedKillPod: words"),
        (recorded("Warning", "Unhealthy"), "syncing", "", ""),  # a step of its own
        (recorded("Warning", "OutOfcpu"), "finished", "", ""),  # the pod's status has it
        (recorded("Normal", "Started"), "syncing", "", ""),
        (recorded("Normal", "Killing", "Container main failed liveness probe, will be restarted"), "syncing", "killing",
         "Container main failed liveness probe, will be restarted"),
        (recorded("Normal", "Killing", "FailedPostStartHook"), "syncing", "killing", "main: FailedPostStartHook"),
        (recorded("Normal", "Killing", "Stopping container main"), "terminating", "", ""),
    ],
)  # fmt: skip
def test_warnings_and_kills_are_steps(action: model.RecordEvent, stage: str, step: str, message: str) -> None:
    state = core.new_state(make_pod(), 0.0)
    made = steps.of_actions([action], replace(state, stage=stage))
    assert [(found.step, found.message) for found in made] == ([(step, message)] if step else [])


def test_off_a_terminal_a_pull_is_a_line_now_and_then() -> None:
    said: list[str] = []
    now = 0
    lines = Lines("nginx", said.append, lambda: now)
    for now in range(25):
        lines(Layer("sha256:a", "downloading", now * 1_000_000, 30_000_000))
        lines(Layer("sha256:b", "done", 0, 2_000_000))
    assert said == [
        "pulling nginx: 7MB of 32MB, 1 of 2 layers done",
        "pulling nginx: 17MB of 32MB, 1 of 2 layers done",
    ]


def test_the_agent_reports_how_far_a_pull_is_to_a_run_that_waits(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        def fetch(reference: str, secrets: Any = (), report: Any = None, *, stop: threading.Event) -> Pulled:
            report(LayerProgress("sha256:a", "downloading", 5, 10))
            stop.wait()
            raise ImageError("stopped")

        agent.runtime.images.known.clear()
        agent.runtime.images.fetch = fetch  # type: ignore[method-assign, assignment]
        client = await agent.run_foreground()
        event = await client.until_event(lambda message: message.get("event") == "pull")
        assert (event["container"], event["layers"]) == ("main", [["sha256:a", "downloading", 5, 10]])
        await client.send(verb="kill")
        await client.last()

    with_agent(tmp_path, test)
