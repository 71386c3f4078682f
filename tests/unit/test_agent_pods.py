"""Pods through the agent's worker, on a fake runtime and a virtual clock (unit)."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from minipod.agent.node import Node
from minipod.agent.pods import recovery, table
from minipod.agent.pods.table import Pods
from minipod.agent.pods.worker import PodWorker
from minipod.agent.registry.selection import Selection
from minipod.api.types import EmptyDirVolumeSource, Pod, ResourceRequirements, Volume
from minipod.errors import ConflictError, HostError, SandboxError
from minipod.lifecycle import model
from minipod.runtime.status import ContainerState
from tests.unit.agent_fakes import FakeRuntime, make_node, make_pod, now_s, run_virtually, until


class Agent:
    """The part of an agent that owns pods; `crash` is a kill -9."""

    def __init__(self, folder: Path, runtime: FakeRuntime | None = None) -> None:
        self.runtime = runtime or FakeRuntime()
        self.node: Node = make_node(folder, self.runtime)
        self.pods = Pods(self.node)
        self.runtime.on_exit = self.pods.container_exited

    async def recover(self) -> Agent:
        await recovery.recover(self.node, self.pods)
        return self

    async def crash(self) -> None:
        self.runtime.on_exit = None
        await self.pods.close()
        self.node.store.close()

    def start(self, pod: Pod) -> PodWorker:
        return self.pods.create([pod])[0]

    def events(self) -> list[str]:
        return [event.reason for event in self.node.events.all(now_s())]


def requesting(name: str, cpu: str) -> Pod:
    """A pod of one container with this request; the fake node has 2 CPUs."""
    made = make_pod(name)
    resources = ResourceRequirements(requests={"cpu": cpu})
    spec = replace(made.spec, containers=(replace(made.spec.containers[0], resources=resources),))
    return replace(made, spec=spec)


def phase(worker: PodWorker) -> str:
    return worker.pod.status.phase


def virtually(main: Coroutine[Any, Any, None]) -> None:
    async def run() -> None:
        await main

    run_virtually(run)


def test_a_pod_runs_and_ends_and_leaves_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        agent = Agent(tmp_path)
        volumes = (Volume(name="data", empty_dir=EmptyDirVolumeSource()),)
        worker = agent.start(make_pod("web", "a", "b", init=["prepare"], volumes=volumes))
        await until(lambda: agent.runtime.is_running("prepare"))
        assert (tmp_path / "volume-data").exists()
        assert phase(worker) == "Pending"
        agent.runtime.end(agent.runtime.find("prepare").id, 0)
        await until(lambda: phase(worker) == "Running")
        assert worker.pod.status.pod_ip == "10.0.0.2"
        assert worker.pod.status.host_ip == "192.0.2.7"
        agent.pods.delete("default", "web")
        await worker.forgotten
        assert not agent.runtime.sandboxes
        assert not agent.runtime.containers
        assert not (tmp_path / "volume-data").exists()
        assert agent.node.store.objects("Pod") == []
        assert agent.node.store.states() == {}
        assert agent.node.store.operations(worker.uid) is None
        assert len(agent.pods) == 0

    virtually(main())


def test_the_stored_object_is_what_the_watchers_saw(tmp_path: Path) -> None:
    async def main() -> None:
        agent = Agent(tmp_path)
        watch = agent.node.history.watch(Selection.of("Pod"))
        worker = agent.start(make_pod())
        await until(lambda: phase(worker) == "Running")
        versions, kinds = [], []
        while (change := watch.take()) is not None:
            versions.append(int(change.new.metadata.resource_version))
            kinds.append(change.type)
        assert kinds[0] == "ADDED"
        assert set(kinds[1:]) == {"MODIFIED"}
        assert versions == sorted(set(versions))
        record = agent.node.store.get("Pod", "default", "web")
        assert record is not None
        assert msgspec.json.decode(record.data, type=Pod) == worker.pod
        assert record.version == versions[-1]

    virtually(main())


def test_a_name_in_use_is_refused_with_the_way_out(tmp_path: Path) -> None:
    async def main() -> None:
        agent = Agent(tmp_path)
        worker = agent.start(make_pod())
        await until(lambda: phase(worker) == "Running")
        await asyncio.sleep(180)
        with pytest.raises(ConflictError) as caught:
            agent.pods.create([make_pod("other"), make_pod()])
        assert str(caught.value) == (
            'pod "web" already exists (started 3m ago, Running): delete it first: minipod delete pod web, '
            "or run --replace; or change it: minipod apply -f FILE"
        )
        assert len(agent.pods) == 1, "all or none are created"

    virtually(main())


def test_generated_names_differ(tmp_path: Path) -> None:
    async def main() -> None:
        agent = Agent(tmp_path)
        pod = make_pod("")
        pod = msgspec.structs.replace(pod, metadata=msgspec.structs.replace(pod.metadata, generate_name="job-"))
        names = {worker.name for worker in agent.pods.create([pod, pod, pod])}
        assert len(names) == 3
        assert all(name.startswith("job-") and len(name) == 9 for name in names)

    virtually(main())


def test_a_container_that_ends_is_started_again_after_its_back_off(tmp_path: Path) -> None:
    async def main() -> None:
        agent = Agent(tmp_path)
        worker = agent.start(make_pod())
        for restarts in range(3):
            await until(lambda: agent.runtime.is_running("main"))
            status = agent.runtime.find("main")
            assert status.config.attempt == restarts
            agent.runtime.end(status.id, 1)
        await until(lambda: worker.pod.status.container_statuses[0].restart_count == 3)
        assert "BackOff" in agent.events()

    virtually(main())


def test_a_sandbox_that_fails_is_tried_again(tmp_path: Path) -> None:
    async def main() -> None:
        agent = Agent(tmp_path)
        agent.runtime.fail["run_pod_sandbox"] = SandboxError("no address is free")
        worker = agent.start(make_pod())
        await until(lambda: "FailedCreatePodSandBox" in agent.events())
        assert phase(worker) == "Pending"
        del agent.runtime.fail["run_pod_sandbox"]
        await until(lambda: phase(worker) == "Running")

    virtually(main())


def test_a_failing_teardown_is_tried_again_until_it_works(tmp_path: Path) -> None:
    async def main() -> None:
        agent = Agent(tmp_path)
        worker = agent.start(make_pod())
        await until(lambda: phase(worker) == "Running")
        agent.runtime.fail["remove_pod_sandbox"] = OSError(16, "Device or resource busy")
        agent.pods.delete("default", "web")
        await until(lambda: agent.runtime.log.count("remove_pod_sandbox") > 2)
        assert not worker.forgotten.done()
        del agent.runtime.fail["remove_pod_sandbox"]
        await worker.forgotten
        assert not agent.runtime.sandboxes

    virtually(main())


def test_a_pod_goes_on_under_the_next_agent(tmp_path: Path) -> None:
    async def main() -> None:
        first = Agent(tmp_path)
        worker = first.start(make_pod("web", "a", "b", restart_policy="OnFailure"))
        await until(lambda: phase(worker) == "Running")
        await first.crash()
        await asyncio.sleep(60)
        first.runtime.end(first.runtime.find("a").id, 0)  # while nobody looks
        second = await Agent(tmp_path, first.runtime).recover()
        again = second.pods.find("default", "web")
        await until(lambda: again.pod.status.container_statuses[0].state.terminated is not None)
        ended = again.pod.status.container_statuses[0].state.terminated
        assert ended is not None
        assert (ended.exit_code, ended.reason) == (0, "Completed")
        assert again.uid == worker.uid
        assert second.runtime.log.count("start_container b") == 1, "what runs is not started again"
        second.runtime.end(second.runtime.find("b").id, 0)
        await until(lambda: phase(again) == "Succeeded")

    virtually(main())


@pytest.mark.parametrize("verb", ["run_pod_sandbox", "create_container", "start_container"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_kill_in_the_middle_of_a_start_is_made_good(tmp_path: Path, verb: str, when: str) -> None:
    async def main() -> None:
        first = Agent(tmp_path)
        if when == "before":
            first.runtime.hang.add(verb)
        else:
            _hang_after(first.runtime, verb)
        first.start(make_pod("web", "a"))
        await until(lambda: any(line.startswith(verb) for line in first.runtime.log))
        await asyncio.sleep(1)
        await first.crash()
        first.runtime.hang.clear()
        _mend(first.runtime, verb)
        second = await Agent(tmp_path, first.runtime).recover()
        worker = second.pods.find("default", "web")
        await until(lambda: phase(worker) == "Running")
        assert len(second.runtime.sandboxes) == 1
        assert len([one for one in second.runtime.containers.values() if one.state == ContainerState.RUNNING]) == 1
        second.pods.delete("default", "web")
        await worker.forgotten
        assert not second.runtime.sandboxes
        assert not second.runtime.containers

    virtually(main())


def test_a_kill_in_the_middle_of_the_end_is_made_good(tmp_path: Path) -> None:
    async def main() -> None:
        first = Agent(tmp_path)
        worker = first.start(make_pod())
        await until(lambda: phase(worker) == "Running")
        first.runtime.hang.add("remove_pod_sandbox")
        first.pods.delete("default", "web")
        await until(lambda: "remove_pod_sandbox" in first.runtime.log)
        await first.crash()
        first.runtime.hang.clear()
        second = await Agent(tmp_path, first.runtime).recover()
        await until(lambda: not len(second.pods))
        assert not second.runtime.sandboxes

    virtually(main())


def test_a_container_whose_sandbox_is_gone_is_removed_by_the_next_agent(tmp_path: Path) -> None:
    async def main() -> None:
        first = Agent(tmp_path)
        worker = first.start(make_pod())
        await until(lambda: phase(worker) == "Running")
        await first.crash()
        first.runtime.sandboxes.clear()
        old = first.runtime.find("main").id
        second = await Agent(tmp_path, first.runtime).recover()
        assert old not in second.runtime.containers
        await until(lambda: second.runtime.is_running("main"))

    virtually(main())


def test_many_pods_are_created_in_slices_and_their_names_are_taken_from_the_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "SLICE_S", 0.0)

    async def main() -> None:
        agent = Agent(tmp_path)
        others = 0
        creation = asyncio.ensure_future(agent.pods.create_many([make_pod(f"p{number}") for number in range(100)]))
        while not creation.done():
            await asyncio.sleep(0)
            if others == 50:
                assert len(agent.pods) == 0
                assert agent.node.store.objects("Pod") == []
                with pytest.raises(ConflictError, match='pod "p3" is being created by another command'):
                    agent.start(make_pod("p3"))
            others += 1
        assert others > 90
        assert [worker.name for worker in creation.result()] == [f"p{number}" for number in range(100)]
        assert len(agent.node.store.objects("Pod")) == len(agent.pods) == 100
        versions = [int(worker.pod.metadata.resource_version) for worker in creation.result()]
        assert versions == sorted(versions)
        await until(lambda: all(phase(worker) == "Running" for worker in creation.result()))

    virtually(main())


def test_of_many_pods_all_are_created_or_none_and_their_names_are_free_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        agent = Agent(tmp_path)
        many = [make_pod(f"p{number}") for number in range(20)]
        with monkeypatch.context() as patched:
            patched.setattr(agent.node.store, "put_owner", full)
            with pytest.raises(HostError):
                await agent.pods.create_many(many, "1 1")
        assert agent.node.store.objects("Pod") == []
        assert agent.node.store.states() == {}
        with pytest.raises(ConflictError):
            await agent.pods.create_many([*many, many[3]])
        assert len(await agent.pods.create_many(many)) == 20
        with pytest.raises(ConflictError, match="already exists"):
            await agent.pods.create_many([make_pod("new"), many[3]])
        agent.start(make_pod("new"))
        await until(lambda: all(phase(worker) == "Running" for worker in agent.pods.select(None, None)))

    def full(uid: str, owner: str) -> None:
        raise HostError("no space left on the device")

    virtually(main())


def test_a_clock_that_is_set_back_delays_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        agent = Agent(tmp_path)
        behind_s = 0.0
        agent.node.clock = lambda: now_s() - behind_s
        worker = agent.start(make_pod())
        await until(lambda: phase(worker) == "Running")
        for attempt in range(1, 4):  # each backoff begins at one time and ends at another
            agent.runtime.end(agent.runtime.find("main").id, 1)
            await asyncio.sleep(1)
            behind_s += 3600
            await until(lambda: agent.runtime.is_running("main"), 10 * 2**attempt)
            assert agent.runtime.find("main").config.attempt == attempt
        behind_s = 0.0  # and set right again
        agent.runtime.end(agent.runtime.find("main").id, 1)
        await asyncio.sleep(1)
        assert phase(worker) == "Running"

    virtually(main())


def test_a_clock_that_is_set_back_delays_nothing_under_a_new_agent(tmp_path: Path) -> None:
    async def main() -> None:
        first = Agent(tmp_path)
        first.start(make_pod())
        await until(lambda: first.runtime.is_running("main"))
        first.runtime.end(first.runtime.find("main").id, 1)  # the second end meets a back-off of 10 s
        await until(lambda: first.runtime.is_running("main"))
        first.runtime.end(first.runtime.find("main").id, 1)
        await asyncio.sleep(2)
        await first.crash()
        second = Agent(tmp_path, first.runtime)
        second.node.clock = lambda: now_s() - 3600
        await second.recover()
        await until(lambda: second.runtime.is_running("main"), 30)
        second.runtime.stop_takes_s = 100
        second.pods.delete("default", "web")
        await until(lambda: not len(second.pods), 40)

    virtually(main())


def test_a_full_disk_does_not_stop_a_running_pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        agent = Agent(tmp_path)
        worker = agent.start(make_pod())
        await until(lambda: phase(worker) == "Running")
        put = agent.node.store.put_state

        def full(uid: str, data: bytes) -> None:
            raise HostError("no space left on the device")

        monkeypatch.setattr(agent.node.store, "put_state", full)
        agent.runtime.end(agent.runtime.find("main").id, 1)
        await until(lambda: agent.runtime.is_running("main") and agent.runtime.find("main").config.attempt == 1)
        monkeypatch.setattr(agent.node.store, "put_state", put)
        await asyncio.sleep(20)
        record = agent.node.store.get("Pod", "default", "web")
        assert record is not None
        assert msgspec.json.decode(record.data, type=Pod).status.container_statuses[0].restart_count == 1

    virtually(main())


def _hang_after(runtime: FakeRuntime, verb: str) -> None:
    """The effect happens, the answer never comes."""
    call = getattr(runtime, verb)

    async def hanging(*args: Any) -> Any:
        await call(*args)
        await asyncio.get_running_loop().create_future()

    setattr(runtime, verb, hanging)


def _mend(runtime: FakeRuntime, verb: str) -> None:
    runtime.__dict__.pop(verb, None)


def test_a_resize_that_waits_for_room_gets_it_when_another_pod_is_gone(tmp_path: Path) -> None:
    async def main() -> None:
        agent = Agent(tmp_path)
        wanting, other = (agent.start(requesting(name, "900m")) for name in ("wanting", "other"))
        await until(lambda: phase(wanting) == phase(other) == "Running")
        larger = requesting("wanting", "1500m")
        larger = replace(wanting.state.pod, spec=replace(wanting.state.pod.spec, containers=larger.spec.containers))
        wanting.post(model.ResizeAsked(pod=larger, reason="OutOfcpu", message="no room"))
        agent.pods.deferred.add(wanting.uid)
        await until(lambda: bool(wanting.state.resizing.reason))
        agent.pods.delete("default", "other")
        await until(lambda: not wanting.state.resizing.reason)
        assert agent.pods.deferred == set()

    virtually(main())


def test_workers_are_found_by_namespace_and_name_without_a_look_at_the_others(tmp_path: Path) -> None:
    async def main() -> None:
        agent = Agent(tmp_path)
        for namespace, name in (("b", "x"), ("a", "y"), ("a", "x")):
            made = make_pod(name)
            agent.start(replace(made, metadata=replace(made.metadata, namespace=namespace)))

        def found(namespace: str | None, name: str | None) -> list[str]:
            return [f"{worker.namespace}/{worker.name}" for worker in agent.pods.select(namespace, name)]

        assert found(None, None) == ["a/x", "a/y", "b/x"]
        assert (found("a", None), found("a", "x"), found(None, "x")) == (["a/x", "a/y"], ["a/x"], ["a/x", "b/x"])
        assert (found("c", None), found("a", "z")) == ([], [])
        worker = agent.pods.delete("b", "x", 0)
        await worker.forgotten
        assert (found("b", None), found(None, None)) == ([], ["a/x", "a/y"])

    virtually(main())
