"""A sandbox from its run to its removal, without a kernel: the order, and every way to fail."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from minipod.errors import NotFoundError, SandboxError
from minipod.runtime.spawner.client import SpawnError
from minipod.runtime.status import SandboxState
from tests.unit.runtime_fakes import World, sandbox_config, started, virtually, world

__all__ = ["world"]


def saved(world: World) -> tuple[str, list[str]]:
    """State and operations that are on disk."""
    record = json.loads(Path(f"{world.paths.root}/sandboxes/s/sandbox.json").read_text())
    return record["status"]["state"], [operation["name"] for operation in record["operations"]]


def test_a_sandbox_is_made_in_order_and_undone_backwards(world: World) -> None:
    async def main() -> None:
        made = await world.open()
        status = await made.run_pod_sandbox(sandbox_config())
        assert (status.state, status.ips) == (SandboxState.READY, ("10.0.0.2",))
        assert saved(world) == ("SANDBOX_READY", ["group", "netns", "files"])
        await made.stop_pod_sandbox("s")
        assert made.pod_sandbox_status("s").state == SandboxState.NOT_READY
        assert saved(world) == ("SANDBOX_NOTREADY", [])
        await made.stop_pod_sandbox("s")
        await made.remove_pod_sandbox("s")
        await made.remove_pod_sandbox("s")
        with pytest.raises(NotFoundError, match='sandbox "s" is not known'):
            made.pod_sandbox_status("s")
        assert not Path(f"{world.paths.root}/sandboxes/s").exists()

    virtually(world, main)
    made = ["lease", "do group", "do netns", "do files"]
    undone = ["undo files", "undo netns", "undo group", "rmdir /k/pod-s", "rmdir instance", "release"]
    assert world.since("list children") == made + undone


@pytest.mark.parametrize("broken", ["group", "netns", "files"])
def test_a_run_that_fails_at_any_step_is_undone_backwards_and_gives_its_lease_back(world: World, broken: str) -> None:
    world.broken = {f"do {broken}"}

    async def main() -> None:
        made = await world.open()
        with pytest.raises(SandboxError, match="no space left"):
            await made.run_pod_sandbox(sandbox_config())
        assert made.list_pod_sandboxes() == []
        assert not Path(f"{world.paths.root}/sandboxes/s").exists()

    virtually(world, main)
    steps = list(world.sandbox_steps)
    done = [f"do {name}" for name in steps[: steps.index(broken) + 1]]
    assert world.since("lease") == [*done, "undo files", "undo netns", "undo group", "release"]


def test_what_a_failed_run_cannot_undo_is_a_note_of_its_error(world: World) -> None:
    world.broken = {"do files", "undo netns", "release"}

    async def main() -> None:
        made = await world.open()
        with pytest.raises(SandboxError) as failure:
            await made.run_pod_sandbox(sandbox_config())
        notes = ["cleaning up: Step: no space left on device", "cleaning up: no space left on device"]
        assert failure.value.__notes__ == notes

    virtually(world, main)
    assert world.journal[-2:] == ["undo group", "release"]  # the other steps are undone all the same


def test_a_host_out_of_threads_or_memory_still_undoes_the_rest(world: World) -> None:
    world.broken, world.failure = {"undo netns"}, RuntimeError("can't start new thread")

    async def main() -> None:
        made = await world.open()
        await made.run_pod_sandbox(sandbox_config())
        with pytest.raises(SandboxError, match="Step: can't start new thread"):
            await made.stop_pod_sandbox("s")

    virtually(world, main)
    assert "undo group" in world.since("undo netns")


def test_without_an_address_nothing_is_made(world: World) -> None:
    world.network.full = True

    async def main() -> None:
        made = await world.open()
        with pytest.raises(SandboxError, match="no address left"):
            await made.run_pod_sandbox(sandbox_config())
        assert made.list_pod_sandboxes() == []

    virtually(world, main)
    assert world.since("lease") == ["release"]


def test_a_stop_that_fails_names_what_is_left_and_tries_again_when_it_is_repeated(world: World) -> None:
    async def main() -> None:
        made = await world.open()
        await made.run_pod_sandbox(sandbox_config())
        world.broken = {"undo netns"}
        with pytest.raises(SandboxError, match="stopping the sandbox: Step: no space left on device") as failure:
            await made.stop_pod_sandbox("s")
        assert failure.value.reason == "FailedKillPod"
        assert saved(world) == ("SANDBOX_NOTREADY", ["group", "netns", "files"])
        world.broken.clear()
        await made.stop_pod_sandbox("s")
        assert saved(world) == ("SANDBOX_NOTREADY", [])

    virtually(world, main)
    assert world.journal.count("undo netns") == 2
    assert world.journal.count("rmdir /k/pod-s") == 1  # not while something of it is left


def test_the_groups_above_the_pods_go_with_the_last_of_them(world: World) -> None:
    async def main() -> None:
        made = await world.open()
        for name in ("a", "b"):
            await made.run_pod_sandbox(sandbox_config(name))
        await made.stop_pod_sandbox("a")
        assert "rmdir instance" not in world.journal
        await made.stop_pod_sandbox("b")
        assert world.journal.count("rmdir instance") == 1

    virtually(world, main)


def test_containers_end_before_anything_of_their_sandbox_goes(world: World) -> None:
    async def main() -> None:
        made = await world.open()
        await started(made)
        await made.stop_pod_sandbox("s")

    virtually(world, main)
    found = world.since("spawn c")
    assert found[:4] == ["signal 9 c", "forget c", "rmdir /k/pod-s/c", "undo files"]


def test_the_first_process_of_a_shared_pid_namespace_ends_before_its_namespaces(world: World) -> None:
    world.has_pause = True

    async def main() -> None:
        made = await world.open()
        await made.run_pod_sandbox(sandbox_config())
        await made.stop_pod_sandbox("s")

    virtually(world, main)
    assert world.since("do files")[:3] == ["spawn s.pause", "end s.pause", "undo files"]


def test_a_sandbox_whose_first_process_cannot_start_is_undone(world: World) -> None:
    world.has_pause = True
    world.spawner.refuses = SpawnError("no memory", 12, "Clone")

    async def main() -> None:
        made = await world.open()
        with pytest.raises(SandboxError, match="no memory"):
            await made.run_pod_sandbox(sandbox_config())
        assert made.list_pod_sandboxes() == []

    virtually(world, main)
    assert world.since("spawn s.pause") == ["undo files", "undo netns", "undo group", "release"]


def test_a_pod_finds_its_own_sandboxes_only(world: World) -> None:
    async def main() -> None:
        made = await world.open()
        for name in ("a", "b"):
            await made.run_pod_sandbox(sandbox_config(name))
        assert [status.id for status in made.list_pod_sandboxes("uid-b")] == ["b"]
        assert made.list_pod_sandboxes("uid-c") == []
        assert [status.id for status in made.list_pod_sandboxes()] == ["a", "b"]

    virtually(world, main)


def test_two_sandboxes_never_change_the_host_at_the_same_time(world: World) -> None:
    """What they share (bridge, classes) comes and goes with one of them."""

    async def main() -> None:
        made = await world.open()
        await asyncio.gather(*(made.run_pod_sandbox(sandbox_config(name)) for name in ("a", "b")))

    virtually(world, main)
    steps = [entry for entry in world.journal if entry.startswith("do ")]
    assert steps == ["do group", "do netns", "do files"] * 2
