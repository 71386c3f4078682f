"""A container from its creation to its removal, with a spawner that forks nothing: the order, and every way to fail."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from minipod.errors import ContainerError, ImageError, NotFoundError
from minipod.kernel import descriptors
from minipod.runtime import containers
from minipod.runtime.descriptors import Room
from minipod.runtime.spawner.client import ChildExit, SpawnError
from minipod.runtime.status import ContainerState, SandboxState
from tests.unit.agent_fakes import now_s, until
from tests.unit.runtime_fakes import PID, World, container_config, sandbox_config, started, virtually, world

__all__ = ["world"]


def record(world: World, name: str = "c") -> dict[str, object]:
    text = Path(f"{world.paths.root}/containers/{name}/container.json").read_text()
    status: dict[str, object] = json.loads(text)["status"]
    return status


def test_a_container_is_created_started_ended_and_removed_in_this_order(world: World) -> None:
    async def main() -> None:
        made = await world.open()
        await made.run_pod_sandbox(sandbox_config())
        created = await made.create_container("s", container_config())
        assert (created.state, record(world)["state"]) == (ContainerState.CREATED, "CONTAINER_CREATED")
        running = await made.start_container("c")
        assert (running.state, running.pid, record(world)["state"]) == (
            ContainerState.RUNNING,
            PID,
            "CONTAINER_RUNNING",
        )
        world.spawner.end("c", 0)
        await until(lambda: bool(world.reported))
        ended = made.container_status("c")
        assert world.reported == [ended]
        assert (ended.state, ended.reason, ended.exit_code) == (ContainerState.EXITED, "Completed", 0)
        assert record(world)["state"] == "CONTAINER_EXITED"
        await made.remove_container("c")
        assert made.list_containers() == []
        assert not Path(f"{world.paths.root}/containers/c").exists()

    virtually(world, main)
    wanted = ["do own group", "do folder", "spawn c", "forget c", "undo folder", "undo own group"]
    assert world.since("do files") == wanted


@pytest.mark.parametrize("broken", ["own group", "folder", "third"])
def test_a_creation_that_fails_at_any_step_is_undone_backwards(world: World, broken: str) -> None:
    world.container_steps = ("own group", "folder", "third")
    world.broken = {f"do {broken}"}

    async def main() -> None:
        made = await world.open()
        await made.run_pod_sandbox(sandbox_config())
        with pytest.raises(ContainerError, match="no space left") as failure:
            await made.create_container("s", container_config())
        assert failure.value.reason == "CreateContainerError"
        assert made.list_containers() == []
        assert not Path(f"{world.paths.root}/containers/c").exists()

    virtually(world, main)
    done = world.container_steps[: world.container_steps.index(broken) + 1]
    undone = [f"undo {name}" for name in reversed(world.container_steps)]
    assert world.since("do files") == [f"do {name}" for name in done] + undone


def test_what_a_failed_creation_cannot_undo_is_said_and_stays_on_record(world: World) -> None:
    world.broken = {"do folder", "undo own group"}

    async def main() -> None:
        made = await world.open()
        await made.run_pod_sandbox(sandbox_config())
        with pytest.raises(ContainerError) as failure:
            await made.create_container("s", container_config())
        assert failure.value.__notes__ == ["Step: no space left on device"]

    virtually(world, main)
    assert record(world)["state"] == "CONTAINER_CREATED"  # for gc


def test_nothing_is_made_for_an_image_or_a_sandbox_that_is_not_there(world: World) -> None:
    async def main() -> None:
        made = await world.open()
        await made.run_pod_sandbox(sandbox_config())
        with pytest.raises(ImageError, match='image "missing" is not in the store'):
            await made.create_container("s", container_config(image="missing"))
        with pytest.raises(NotFoundError, match='sandbox "other" is not known'):
            await made.create_container("other", container_config())

    virtually(world, main)
    assert world.since("do files") == []


@pytest.mark.parametrize("out_of_memory", [False, True])
def test_a_start_that_the_spawner_refuses_leaves_an_exited_container(world: World, out_of_memory: bool) -> None:
    async def main() -> None:
        made = await world.open()
        await made.run_pod_sandbox(sandbox_config())
        await made.create_container("s", container_config())
        world.spawner.refuses = SpawnError("exec: no such file", 2, "Exec")
        world.groups.out_of_memory = out_of_memory
        with pytest.raises(ContainerError, match="exec: no such file") as failure:
            await made.start_container("c")
        status = made.container_status("c")
        assert (status.state, status.reason, status.exit_code) == (ContainerState.EXITED, "StartError", 128)
        assert status.message == str(failure.value)
        assert ("its memory limit is too low" in status.message) == out_of_memory
        with pytest.raises(ContainerError, match="was started already"):
            await made.start_container("c")
        await made.remove_container("c")

    virtually(world, main)
    assert world.reported == []  # the caller has been answered
    assert world.since("spawn c") == ["undo folder", "undo own group"]


def test_a_start_whose_answer_is_lost_kills_what_may_run(world: World) -> None:
    """Its descriptors could not be received: nothing would follow it."""

    async def main() -> None:
        made = await world.open()
        await made.run_pod_sandbox(sandbox_config())
        await made.create_container("s", container_config())
        world.spawner.refuses = SpawnError("the spawner's answer is cut", 0, "")
        with pytest.raises(ContainerError, match="is cut"):
            await made.start_container("c")
        assert made.container_status("c").reason == "StartError"

    virtually(world, main)
    assert world.since("spawn c") == ["kill /k/pod-s/c", "forget c"]


def test_an_end_that_comes_before_the_answer_to_the_start_is_reported_after_it_once(world: World) -> None:
    async def main() -> None:
        made = await world.open()
        world.spawner.ends_at_once = 3
        answer = await started(made)
        assert (answer.state, world.reported) == (ContainerState.RUNNING, [])
        await until(lambda: bool(world.reported))
        await asyncio.sleep(60)
        assert [(status.id, status.exit_code, status.reason) for status in world.reported] == [("c", 3, "Error")]

    virtually(world, main)


def test_the_last_line_is_in_the_log_when_the_end_is_reported(world: World) -> None:
    async def main() -> None:
        made = await world.open()
        status = await started(made)
        seen: list[str] = []
        made.on_exit = lambda _: seen.append(Path(status.log_path).read_text())
        world.spawner.say("c", b"first\nlast without end")
        world.spawner.end("c", 0)
        await until(lambda: bool(seen))
        assert [line.split(" ", 3)[2:] for line in seen[0].splitlines()] == [["F", "first"], ["F", "last without end"]]

    virtually(world, main)


def test_a_container_that_was_killed_for_memory_says_so(world: World) -> None:
    async def main() -> None:
        made = await world.open()
        await started(made)
        world.groups.out_of_memory = True
        world.spawner.end("c", 137, 9)
        await until(lambda: bool(world.reported))
        assert (world.reported[0].reason, world.reported[0].signal) == ("OOMKilled", 9)

    virtually(world, main)


def test_what_outlives_the_first_process_in_its_group_is_killed(world: World) -> None:
    async def main() -> None:
        made = await world.open()
        await started(made)
        world.groups.members["/k/pod-s/c"] = [77]
        world.spawner.end("c", 0)
        await until(lambda: bool(world.reported))

    virtually(world, main)
    assert world.since("spawn c") == ["kill /k/pod-s/c", "forget c"]


# ---- stop


def test_a_container_that_obeys_is_not_killed(world: World) -> None:
    async def main() -> None:
        made = await world.open()
        await started(made)
        world.spawner.obeys_s = 3.0
        begun = now_s()
        status = await made.stop_container("c", 30)
        assert (status.exit_code, round(now_s() - begun, 3)) == (138, 3.0)
        assert (await made.stop_container("c", 30)).exit_code == 138  # again: nothing happens

    virtually(world, main)
    assert world.since("spawn c") == ["signal 10 c", "forget c"]  # SIGUSR1: the image's


def test_a_container_that_does_not_obey_is_killed_when_its_grace_is_over(world: World) -> None:
    async def main() -> None:
        made = await world.open()
        await started(made, stop_signal="SIGINT")
        world.spawner.obeys_s = None
        begun = now_s()
        status = await made.stop_container("c", 30)
        assert (status.exit_code, status.signal, round(now_s() - begun, 3)) == (137, 9, 30.0)

    virtually(world, main)
    assert world.since("spawn c") == ["signal 2 c", "signal 9 c", "forget c"]


def test_without_grace_it_is_killed_at_once(world: World) -> None:
    async def main() -> None:
        made = await world.open()
        await started(made)
        assert (await made.stop_container("c", 0)).exit_code == 137

    virtually(world, main)
    assert world.since("spawn c") == ["signal 9 c", "forget c"]


def test_a_process_that_cannot_be_killed_is_named_and_left_as_it_is(world: World) -> None:
    async def main() -> None:
        made = await world.open()
        await started(made)
        world.spawner.immortal = True
        begun = now_s()
        with pytest.raises(ContainerError, match=f"process {PID} does not end by SIGKILL") as failure:
            await made.remove_container("c")
        assert (failure.value.reason, round(now_s() - begun, 3)) == ("FailedKillPod", 10.0)
        assert made.container_status("c").state == ContainerState.RUNNING

    virtually(world, main)
    assert world.since("spawn c") == ["signal 9 c"]


# ---- removal


def test_removal_is_idempotent_and_ends_what_runs(world: World) -> None:
    async def main() -> None:
        made = await world.open()
        await started(made)
        await made.remove_container("c")
        await made.remove_container("c")
        with pytest.raises(NotFoundError, match='container "c" is not known'):
            made.container_status("c")

    virtually(world, main)
    assert world.since("spawn c") == ["signal 9 c", "forget c", "undo folder", "undo own group"]


def test_a_removal_that_fails_names_what_is_left_and_can_be_repeated(world: World) -> None:
    async def main() -> None:
        made = await world.open()
        await started(made)
        world.broken = {"undo folder"}
        with pytest.raises(ContainerError, match="removing the container: Step: no space left on device"):
            await made.remove_container("c")
        assert made.container_status("c").state == ContainerState.EXITED
        assert record(world)["state"] == "CONTAINER_EXITED"
        world.broken.clear()
        await made.remove_container("c")
        assert made.list_containers() == []

    virtually(world, main)
    assert world.journal[-4:] == ["undo folder", "undo own group"] * 2


def test_only_the_containers_of_a_sandbox_end_with_it(world: World) -> None:
    async def main() -> None:
        made = await world.open()
        for name, sandbox in (("a", "s"), ("b", "s"), ("c", "t")):
            await started(made, name, sandbox)
        await made.stop_pod_sandbox("s")
        assert [status.state for status in made.list_containers("s")] == [ContainerState.EXITED] * 2
        assert [status.id for status in made.list_containers("t")] == ["c"]
        assert made.container_status("c").state == ContainerState.RUNNING
        await made.remove_pod_sandbox("s")
        assert [status.id for status in made.list_containers()] == ["c"]
        assert made.pod_sandbox_status("t").state == SandboxState.READY

    virtually(world, main)


def test_an_end_of_no_container_is_a_commands(world: World) -> None:
    """The spawner reports both in the same words."""

    async def main() -> None:
        made = await world.open()
        end: asyncio.Future[ChildExit] = asyncio.get_running_loop().create_future()
        made._execs._ends["c.exec.1"] = end
        world.spawner.on_exit(ChildExit("c.exec.1", 5, 7, 0, 0, 0))
        assert (await end).code == 7

    virtually(world, main)
    assert world.reported == []


def test_only_as_many_containers_are_created_as_can_be_started(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    room = Room()
    monkeypatch.setattr(containers, "ROOM", room)
    monkeypatch.setattr(descriptors, "count", lambda: 880)
    monkeypatch.setattr(descriptors, "limit", lambda: 1024)

    async def main() -> None:
        made = await world.open()
        await made.run_pod_sandbox(sandbox_config())
        await made.create_container("s", container_config("a"))
        await made.create_container("s", container_config("b"))
        with pytest.raises(ContainerError, match="no descriptor is free") as failure:
            await made.create_container("s", container_config("c"))
        assert failure.value.reason == "RunContainerError"
        assert len(made.list_containers()) == 2
        await made.start_container("a")
        await made.remove_container("b")
        assert room.refusal() == ""
        await made.create_container("s", container_config("d"))
        world.spawner.refuses = SpawnError("exec: no such file", 2, "Exec")
        with pytest.raises(ContainerError, match="no such file"):
            await made.start_container("d")
        assert room._coming == set()

    virtually(world, main)
