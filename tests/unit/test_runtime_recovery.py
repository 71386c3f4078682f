"""What a new agent makes of the records of one that was killed: what runs, what has ended, what nobody knows."""

from __future__ import annotations

import json
import os
from pathlib import Path

import msgspec
import pytest

from minipod.kernel import process
from minipod.runtime import orphans
from minipod.runtime.log_file import LogFile
from minipod.runtime.records import ContainerRecord, save
from minipod.runtime.regained import pipe_numbers, regained
from minipod.runtime.runtime import Runtime
from minipod.runtime.spawner.client import ChildExit
from minipod.runtime.status import ContainerState, ContainerStatus, SandboxState, SandboxStatus
from tests.unit.agent_fakes import now_s, until
from tests.unit.runtime_fakes import PID, World, container_config, sandbox_config, started, virtually, world

__all__ = ["world"]


async def recovered(world: World, name: str = "c") -> tuple[Runtime, ContainerStatus]:
    made = await world.open()
    return made, made.container_status(name)


def test_a_container_that_runs_is_followed_to_its_end(world: World) -> None:
    async def main() -> None:
        first = await world.open()
        await started(first)
        await first.close()
        made, status = await recovered(world)
        assert (status.state, status.pid, world.reported) == (ContainerState.RUNNING, PID, [])
        world.spawner.end("c", 5)
        await until(lambda: bool(world.reported))
        assert made.container_status("c").exit_code == 5
        assert made.pod_sandbox_status("s").state == SandboxState.READY

    virtually(world, main)


def test_an_end_that_nobody_was_there_for_is_reported_before_the_first_request(world: World) -> None:
    async def main() -> None:
        first = await world.open()
        await started(first)
        await first.close()
        world.spawner.on_exit = lambda _: None
        world.spawner.end("c", 6)
        _, status = await recovered(world)
        assert (status.state, status.exit_code, status.reason) == (ContainerState.EXITED, 6, "Error")
        assert world.reported == [status]

    virtually(world, main)
    assert world.journal[-1] == "forget c"


def test_of_a_spawner_that_is_gone_the_end_is_on_disk(world: World) -> None:
    async def main() -> None:
        first = await world.open()
        await started(first)
        await first.close()
        os.close(world.spawner.running.pop("c"))
        os.makedirs(f"{world.paths.root}/exits")
        end = ChildExit("c", PID, 9, 0, 0, int(now_s() * 1e9))
        Path(f"{world.paths.root}/exits/c").write_bytes(msgspec.json.encode(end))
        _, status = await recovered(world)
        assert (status.state, status.exit_code, status.finished_at_ns) == (ContainerState.EXITED, 9, end.finished_at_ns)

    virtually(world, main)


def test_an_end_that_cannot_be_known_is_said_to_be_unknown(world: World) -> None:
    async def main() -> None:
        first = await world.open()
        await started(first)
        await first.close()
        os.close(world.spawner.running.pop("c"))
        _, status = await recovered(world)
        assert (status.state, status.exit_code, status.reason) == (ContainerState.EXITED, 137, "ContainerStatusUnknown")
        assert world.reported == [status]

    virtually(world, main)


async def interrupted(world: World) -> None:
    """The agent dies between the fork and its record: no record has its pid."""
    first = await world.open()
    await first.run_pod_sandbox(sandbox_config())
    await first.create_container("s", container_config())
    await first.close()
    world.spawner.on_exit = lambda _: None
    await world.spawner.spawn("c", None, [])  # type: ignore[arg-type]


def test_a_start_that_was_interrupted_is_completed(world: World) -> None:
    async def main() -> None:
        await interrupted(world)
        made, status = await recovered(world)
        assert (status.state, status.pid, status.started_at_ns) == (ContainerState.RUNNING, PID, int(now_s() * 1e9))
        assert status.user is not None
        assert world.reported == []
        world.spawner.end("c", 5)
        await until(lambda: bool(world.reported))
        assert made.container_status("c").exit_code == 5

    virtually(world, main)
    assert "kill /k/pod-s/c" not in world.journal


def test_a_start_that_was_interrupted_and_has_ended_has_its_true_end(world: World) -> None:
    async def main() -> None:
        await interrupted(world)
        world.spawner.end("c", 5)
        _, status = await recovered(world)
        assert (status.state, status.exit_code, status.reason) == (ContainerState.EXITED, 5, "Error")
        assert status.started_at_ns
        assert world.reported == [status]

    virtually(world, main)
    assert world.journal[-1] == "forget c"


def test_a_start_that_never_gets_to_exec_is_killed_and_did_not_happen(world: World) -> None:
    async def main() -> None:
        await interrupted(world)
        world.spawner.never_executes = True
        _, status = await recovered(world)
        assert status.state == ContainerState.CREATED

    virtually(world, main)
    assert world.journal[-3:] == ["adopt c", "kill each of /k/pod-s/c", "forget c"]
    assert world.reported == []


def test_of_a_start_that_was_interrupted_with_its_spawner_the_end_is_on_disk(world: World) -> None:
    async def main() -> None:
        await interrupted(world)
        os.close(world.spawner.running.pop("c"))
        os.makedirs(f"{world.paths.root}/exits")
        end = ChildExit("c", PID, 9, 0, int(now_s() * 1e9) - 5, int(now_s() * 1e9))
        Path(f"{world.paths.root}/exits/c").write_bytes(msgspec.json.encode(end))
        _, status = await recovered(world)
        assert (status.exit_code, status.started_at_ns) == (9, end.started_at_ns)
        assert world.reported == [status]

    virtually(world, main)


def test_an_end_that_was_saved_but_not_forgotten_is_forgotten(world: World) -> None:
    async def main() -> None:
        first = await world.open()
        await started(first)
        world.broken.add("forget c")
        world.spawner.end("c", 5)
        await until(lambda: first.container_status("c").state == ContainerState.EXITED)
        await first.close()
        world.broken.clear()
        await recovered(world)
        assert world.spawner.ended == {}
        assert world.reported == []

    virtually(world, main)
    assert world.journal[-1] == "forget c"


def test_a_container_that_was_only_created_can_still_be_started(world: World) -> None:
    async def main() -> None:
        first = await world.open()
        await first.run_pod_sandbox(sandbox_config())
        await first.create_container("s", container_config())
        await first.close()
        made, status = await recovered(world)
        assert status.state == ContainerState.CREATED
        assert (await made.start_container("c")).state == ContainerState.RUNNING

    virtually(world, main)


def test_what_has_ended_stays_ended_and_can_be_removed(world: World) -> None:
    async def main() -> None:
        first = await world.open()
        await started(first)
        await first.stop_container("c", 1)
        await first.close()
        world.reported.clear()
        made, status = await recovered(world)
        assert (status.state, world.reported) == (ContainerState.EXITED, [])
        await made.remove_pod_sandbox("s")
        assert (made.list_containers(), made.list_pod_sandboxes()) == ([], [])

    virtually(world, main)


def test_a_sandbox_of_another_agent_is_undone_by_its_record(world: World) -> None:
    async def main() -> None:
        first = await world.open()
        await first.run_pod_sandbox(sandbox_config())
        await first.close()
        world.sandbox_steps = ("what a newer version makes",)
        made = await world.open()
        await made.stop_pod_sandbox("s")

    virtually(world, main)
    assert world.journal[-6:-3] == ["undo files", "undo netns", "undo group"]


def test_the_spawner_is_asked_once_for_any_number_of_containers(world: World) -> None:
    async def main() -> None:
        first = await world.open()
        for number in range(50):
            await started(first, f"c{number}")
        await first.close()
        world.journal.clear()
        made = await world.open()
        assert len(made.list_containers("s")) == 50

    virtually(world, main)
    assert world.journal == ["list children"]


def test_the_next_spawner_holds_what_is_left_of_one_that_died(world: World) -> None:
    async def main() -> None:
        made = await world.open()
        await started(made, "c")
        await started(made, "other")
        world.spawner.unknown.add("c")
        world.spawner.on_lost()
        await until(lambda: not world.spawner.unknown)
        world.spawner.end("c", 3)
        await until(lambda: bool(world.reported))
        assert world.reported[0].exit_code == 3

    virtually(world, main)
    assert [entry for entry in world.journal if entry.startswith("hold")] == ["hold c pidfd stdout"]


def test_a_container_that_no_spawner_can_hold_is_watched_by_its_pidfd(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        made = await world.open()
        await started(made)
        container = made._containers.get("c")
        os.close(container.pidfd)
        container.pidfd, writer = os.pipe2(os.O_CLOEXEC)  # readable when the process ends, as a pidfd is
        statuses = iter([None, None, (139, 11)])  # not reaped at once
        monkeypatch.setattr(process, "exit_of", lambda *_: next(statuses))
        world.spawner.unknown.add("c")
        world.spawner.refuses_to_hold = True
        world.spawner.on_lost()
        world.spawner.on_lost()
        await until(lambda: container.watched)
        assert world.reported == []
        os.close(writer)
        await until(lambda: bool(world.reported))
        assert (world.reported[0].exit_code, world.reported[0].signal) == (139, 11)

    virtually(world, main)


def test_after_both_have_died_output_goes_on_and_the_next_spawner_holds_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "pidfd_open", world.spawner.open_pidfd)
    world.groups.members["/k/pod-s/c"] = [PID]

    async def main() -> None:
        first = await world.open()
        log_path = (await started(first)).log_path
        numbers = first._containers.get("c").record.pipes
        await first.close()
        world.spawner.unknown.add("c")
        reader = os.open(f"/proc/self/fd/{world.spawner.running['c']}", os.O_RDONLY | os.O_NONBLOCK)
        monkeypatch.setattr(orphans, "regained", lambda pids, found: {"stdout": reader} if found == numbers else {})
        made = await world.open()
        world.spawner.say("c", b"goes on\n")
        world.spawner.end("c", 4)
        await until(lambda: bool(world.reported))
        assert Path(log_path).read_text().endswith("stdout F goes on\n")
        assert made.container_status("c").exit_code == 4
        assert world.losses == ["c: agent and spawner died at once: stderr cannot be found again: output is lost"]

    virtually(world, main)
    assert "hold c pidfd stdout" in world.journal


def test_output_that_was_read_and_not_written_is_written_though_no_pipe_is_left(world: World) -> None:
    """The agent had read all of it when it was killed, and the spawner has left: only the end is recorded."""

    async def main() -> None:
        first = await world.open()
        log_path = (await started(first)).log_path
        await first.close()
        os.close(world.spawner.running.pop("c"))
        os.makedirs(f"{world.paths.root}/exits")
        end = ChildExit("c", PID, 9, 0, 0, 0)
        Path(f"{world.paths.root}/exits/c").write_bytes(msgspec.json.encode(end))
        Path(f"{world.paths.root}/containers/c/stdout.partial").write_bytes(b"one\nlast")
        await recovered(world)
        lines = Path(log_path).read_text().splitlines()
        assert [line.split(" ", 3)[3] for line in lines] == ["one", "last"]

    virtually(world, main)


def test_a_child_of_a_container_that_is_removed_is_forgotten(world: World) -> None:
    async def main() -> None:
        world.spawner.ended = {key: ChildExit(key, PID, 0, 0, 0, 0) for key in ("gone", "s.pause")}
        await world.open()
        assert list(world.spawner.ended) == ["s.pause"]

    virtually(world, main)


def test_last_lines_for_which_there_was_no_space_are_written_by_the_next_agent(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The spawner keeps exit and pipes until they are."""

    async def main() -> None:
        first = await world.open()
        log_path = (await started(first)).log_path
        with monkeypatch.context() as full:
            full.setattr(LogFile, "write", lambda self, text, appends: text)
            world.spawner.say("c", b"last\n")
            world.spawner.end("c", 5)
            await until(lambda: bool(world.reported))
            assert world.spawner.ended["c"].code == 5
            await first.close()
        await recovered(world)
        assert Path(log_path).read_text().endswith(" stdout F last\n")
        assert world.spawner.ended == {}

    virtually(world, main)


def test_what_ended_while_both_were_dead_is_reported_as_lost(world: World) -> None:
    async def main() -> None:
        first = await world.open()
        await started(first)
        await first.close()
        os.close(world.spawner.running.pop("c"))
        await world.open()
        assert world.losses == ["c: agent and spawner were dead when it ended: exit code and last output are lost"]

    virtually(world, main)


def test_a_pipe_is_found_again_in_the_processes_that_have_it() -> None:
    reader, writer = os.pipe2(os.O_CLOEXEC)
    other = os.pipe2(os.O_CLOEXEC)
    numbers = pipe_numbers({"stdout": reader, "pidfd": other[0]})
    os.write(writer, b"unread")
    os.close(reader)  # the last reader
    found = regained([os.getpid()], {**numbers, "stderr": 1})
    assert list(found) == ["stdout"]
    assert os.read(found["stdout"], 100) == b"unread"
    os.close(writer)
    assert regained([os.getpid()], numbers | {"stdout": 1}) == {}
    assert regained([2**22], numbers) == {}
    for fd in (*found.values(), *other):
        os.close(fd)


def test_records_that_the_last_release_wrote_are_read(world: World) -> None:
    """Their states are CRI's words; what is not a record, half written or unknown, is passed over."""
    sandbox = SandboxStatus(id="s", config=sandbox_config(), state=SandboxState.READY, created_at_ns=1)
    status = ContainerStatus(
        id="c", sandbox_id="s", config=container_config(), state=ContainerState.EXITED, created_at_ns=1
    )
    os.makedirs(f"{world.paths.root}/containers/c")
    save(f"{world.paths.root}/containers/c/container.json", ContainerRecord(status=status, sandbox=sandbox.config))
    text = Path(f"{world.paths.root}/containers/c/container.json").read_text()
    assert json.loads(text)["status"]["state"] == "CONTAINER_EXITED"
    for name, damaged in (("half", text[:50]), ("later", text.replace("CONTAINER_EXITED", "CONTAINER_PAUSED"))):
        os.makedirs(f"{world.paths.root}/containers/{name}")
        Path(f"{world.paths.root}/containers/{name}/container.json").write_text(damaged)
    os.makedirs(f"{world.paths.root}/containers/empty")

    async def main() -> None:
        made = await world.open()
        assert [(found.id, found.state) for found in made.list_containers()] == [("c", ContainerState.EXITED)]

    virtually(world, main)
