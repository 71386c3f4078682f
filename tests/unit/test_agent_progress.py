"""Progress of pods: changes and steps in order, and what a late reader gets (unit)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import pytest

from minipod.agent.pods.progress import MAX_UNREAD, PodStep, Progress, Steps
from minipod.agent.pods.steps import Step
from minipod.agent.registry.history import Change, History, change_of
from minipod.api.types import ObjectMeta, Pod, PodStatus


class Cluster:
    """One pod, its history and its steps."""

    def __init__(self, max_changes: int = 100) -> None:
        self.history = History(0, max_changes=max_changes)
        self.steps = Steps(self.history)
        self.pod: Pod | None = None
        self.set("Pending")
        self.progress = Progress(self.history, self.steps, {"u": lambda: self.pod})

    def set(self, phase: str, name: str = "web", uid: str = "u") -> None:
        version = str(self.history.version + 1)
        metadata = ObjectMeta(name=name, namespace="default", uid=uid, resource_version=version)
        new = Pod(metadata=metadata, status=PodStatus(phase=phase))
        type_: Any = "ADDED" if self.pod is None else "DELETED" if phase == "gone" else "MODIFIED"
        self.history.append(change_of(type_, self.pod, new, msgspec.json.encode(new)))
        if uid == "u":
            self.pod = None if phase == "gone" else new

    def step(self, name: str, uid: str = "u") -> None:
        self.steps.publish(uid, Step(step=name, message=name))

    async def news(self, count: int) -> list[str]:
        return [shown(await self.progress.next()) for _ in range(count)]


def shown(news: Change | PodStep) -> str:
    if isinstance(news, PodStep):
        return news.step.message
    return "DELETED" if news.type == "DELETED" else str(news.new.status.phase)


def in_loop(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(main())


def test_changes_and_steps_come_in_the_order_in_which_they_happened() -> None:
    async def main() -> None:
        cluster = Cluster()
        with cluster.progress:
            cluster.step("sandbox")
            cluster.set("Running")
            cluster.step("ready")
            cluster.step("of another pod", uid="other")
            cluster.set("Running", name="other", uid="other")
            cluster.set("Succeeded")
            cluster.set("gone")
            assert await cluster.news(5) == ["sandbox", "Running", "ready", "Succeeded", "DELETED"]
        assert not cluster.steps._listeners
        assert not cluster.history._waiting

    in_loop(main)


@pytest.mark.parametrize("first", ["step", "change"])
def test_who_waits_is_woken_by_either(first: str) -> None:
    async def main() -> None:
        cluster = Cluster()
        with cluster.progress:
            waiting = asyncio.ensure_future(cluster.news(2))
            await asyncio.sleep(0)
            cluster.step("a") if first == "step" else cluster.set("Running")
            await asyncio.sleep(0)
            cluster.set("Running") if first == "step" else cluster.step("a")
            assert await waiting == (["a", "Running"] if first == "step" else ["Running", "a"])

    in_loop(main)


def test_a_cancelled_wait_loses_nothing() -> None:
    async def main() -> None:
        cluster = Cluster()
        with cluster.progress:
            waiting = asyncio.ensure_future(cluster.progress.next())
            await asyncio.sleep(0)
            waiting.cancel()
            cluster.step("a")
            cluster.set("Running")
            await asyncio.wait([waiting])
            assert await cluster.news(2) == ["a", "Running"]

    in_loop(main)


def test_a_reader_that_is_late_gets_the_state_in_place_of_what_it_missed() -> None:
    async def main() -> None:
        cluster = Cluster(max_changes=3)
        with cluster.progress:
            for number in range(10):
                cluster.set(f"phase {number}")
            assert await cluster.news(1) == ["phase 9"]
            cluster.set("Running")
            assert await cluster.news(1) == ["Running"]
            for number in range(10):
                cluster.set(f"phase {number}")
            cluster.set("gone")
            assert await cluster.news(1) == ["DELETED"]

    in_loop(main)


def test_steps_that_are_not_read_are_bounded_and_their_loss_is_said() -> None:
    async def main() -> None:
        cluster = Cluster()
        with cluster.progress:
            for number in range(MAX_UNREAD + 5):
                cluster.step(f"step {number}")
            news = await cluster.news(2)
            assert news == ["5 steps are not shown: they were not read in time", "step 5"]

    in_loop(main)
