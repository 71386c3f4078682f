"""Pods that find no room on the node, through the agent's workers, on a fake runtime and a virtual clock (unit)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from msgspec.structs import replace

from minipod.config import Config
from minipod.errors import HostError
from tests.unit.agent_fakes import now_s, until
from tests.unit.test_agent_pods import Agent, phase, requesting, virtually


def test_a_pod_that_finds_no_room_waits_and_is_placed_when_there_is_some(tmp_path: Path) -> None:
    async def main() -> None:
        agent = Agent(tmp_path)
        first, small = agent.start(requesting("first", "1500m")), agent.start(requesting("small", "100m"))
        second = agent.start(requesting("second", "900m"))
        await asyncio.sleep(1)
        third = agent.start(requesting("third", "1500m"))
        await until(lambda: phase(first) == phase(small) == "Running" and "FailedScheduling" in agent.events())
        assert phase(second) == phase(third) == "Pending"
        assert (second.pod.spec.node_name, second.state.stage) == ("", "unscheduled")
        (condition,) = second.pod.status.conditions
        assert (condition.type, condition.reason) == ("PodScheduled", "Unschedulable")
        assert condition.message.startswith("0/1 nodes are available: 1 Insufficient cpu. ")
        await agent.crash()

        agent = await Agent(tmp_path, agent.runtime).recover()
        first, second, third, small = (
            agent.pods.find("default", name) for name in ("first", "second", "third", "small")
        )
        await until(lambda: phase(first) == phase(small) == "Running")
        agent.pods.delete("default", "first")
        await until(lambda: phase(second) == "Running")
        assert (second.pod.spec.node_name, phase(third)) == ("node-1", "Pending")
        agent.pods.delete("default", "third")
        await until(third.forgotten.done)
        assert agent.pods.scheduler.used().demand["cpu"] == 1000

    virtually(main())


def test_a_pod_with_a_node_name_that_does_not_fit_fails_as_a_kubelet_has_it(tmp_path: Path) -> None:
    async def main() -> None:
        agent = Agent(tmp_path)
        named = requesting("named", "999")
        worker = agent.start(replace(named, spec=replace(named.spec, node_name="node-1")))
        await until(lambda: phase(worker) == "Failed")
        words = "Node didn't have enough resource: cpu, requested: 999000, used: 0, capacity: 2000"
        assert (worker.pod.status.reason, worker.pod.status.message) == ("OutOfcpu", f"Pod was rejected: {words}")
        events = [(event.type, event.reason, event.message) for event in agent.node.events.all(now_s())]
        assert events == [("Warning", "OutOfcpu", words)]  # no scheduler assigned it
        assert agent.pods.scheduler.used().pods == 0

    virtually(main())


def test_running_pods_stay_whatever_the_node_is_like_when_the_agent_comes_back(tmp_path: Path) -> None:
    async def main() -> None:
        agent = Agent(tmp_path)
        worker = agent.start(requesting("web", "1500m"))
        await until(lambda: phase(worker) == "Running")
        await agent.crash()
        agent = Agent(tmp_path, agent.runtime)
        agent.node.config = Config(max_pods=1, node_taints=("a=b:NoExecute",))
        await agent.recover()
        worker = agent.pods.find("default", "web")
        late = agent.start(requesting("late", "1m"))
        await until(lambda: bool(late.pod.status.conditions))
        assert (phase(worker), phase(late)) == ("Running", "Pending")

    virtually(main())


def test_of_a_batch_only_those_that_fit_are_placed_and_none_counts_when_the_store_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        agent = Agent(tmp_path)
        batch = [requesting(f"p{number}", "800m") for number in range(4)]
        with monkeypatch.context() as broken:
            broken.setattr(agent.pods, "_store", lambda *args: (_ for _ in ()).throw(HostError("full")))
            with pytest.raises(HostError, match="full"):
                agent.pods.create(batch)
        assert agent.pods.scheduler.used().pods == 0
        workers = await agent.pods.create_many(batch)
        await until(lambda: [phase(worker) for worker in workers].count("Running") == 2)
        assert [worker.state.stage for worker in workers] == ["syncing", "syncing", "unscheduled", "unscheduled"]

    virtually(main())
