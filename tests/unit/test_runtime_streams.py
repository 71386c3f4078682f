"""What comes to a container that runs: attached streams, the PID namespace that another joins, new limits."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from minipod.errors import ContainerError, NotFoundError
from minipod.kernel import cgroup as kernel_cgroup
from minipod.plan.configs import CgroupResources, NamespaceOptions, SecurityContext
from minipod.runtime.container import Container
from minipod.runtime.logs import ContainerLog
from minipod.runtime.status import ContainerState
from tests.unit.agent_fakes import until
from tests.unit.runtime_fakes import World, container_config, sandbox_config, started, virtually, world

__all__ = ["world"]


# ---- attach


def test_what_is_written_from_now_on_comes_to_a_tap_and_the_end_as_nothing(world: World) -> None:
    async def main() -> None:
        made = await world.open()
        await started(made)
        attached, seen = await made.attach("c"), list[bytes]()
        stop = attached.tap("stdout", seen.append)
        world.spawner.say("c", b"one\n")
        await until(lambda: b"".join(seen) == b"one\n")
        world.spawner.end("c", 4)
        assert await attached.wait() == 4
        assert seen[-1] == b""
        stop()

    virtually(world, main)


def test_nothing_is_attached_to_what_does_not_run(world: World) -> None:
    async def main() -> None:
        made = await world.open()
        await started(made)
        await made.stop_container("c", 0)
        with pytest.raises(ContainerError, match=r'container "c" has ended \(exit code 137\)'):
            await made.attach("c")
        with pytest.raises(NotFoundError):
            await made.attach("other")

    virtually(world, main)


def test_one_that_wants_all_of_it_gets_the_output_of_a_container_that_has_ended(world: World) -> None:
    """As `debug -i` of a command that is over before it is attached to: what it printed, then its end."""

    async def main() -> None:
        made = await world.open()
        await started(made)
        world.spawner.say("c", b"one\ntwo")
        world.spawner.end("c", 4)
        await until(lambda: made.container_status("c").state == ContainerState.EXITED)
        attached, seen = await made.attach("c", whole=True), list[bytes]()
        stop = attached.tap("stdout", seen.append)
        assert await attached.wait() == 4
        assert await attached.take_input() == -1
        await until(lambda: seen[-1:] == [b""])
        assert b"".join(seen) == b"one\ntwo\n"
        stop()
        with pytest.raises(ContainerError, match=r'container "c" has ended \(exit code 4\)'):
            await made.attach("c")

    virtually(world, main)


def test_attaching_between_the_end_and_its_status_waits_for_the_status(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process has ended and its last output is being written: it runs no more, and has not ended yet."""

    async def main() -> None:
        made = await world.open()
        await started(made)
        written, finish = asyncio.Event(), ContainerLog.finish

        async def finish_later(log: ContainerLog, timeout_s: float) -> bool:
            await written.wait()
            return await finish(log, timeout_s)

        monkeypatch.setattr(ContainerLog, "finish", finish_later)
        world.spawner.say("c", b"out\n")
        world.spawner.end("c", 4)
        await until(lambda: made._containers.get("c").log is None)
        whole = asyncio.ensure_future(made.attach("c", whole=True))
        late = asyncio.ensure_future(made.attach("c"))
        await asyncio.sleep(0)
        written.set()
        attached, seen = await whole, list[bytes]()
        attached.tap("stdout", seen.append)
        await until(lambda: seen[-1:] == [b""])
        assert b"".join(seen) == b"out\n"
        assert await attached.wait() == 4
        with pytest.raises(ContainerError, match=r'container "c" has ended \(exit code 4\)'):
            await late

    virtually(world, main)


def container_with_input(world: World, container: Container, name: str) -> Callable[[], bytes]:
    """Gives it a pipe under that name; the result reads what was written into it, up to its end."""
    reader, container.held[name] = os.pipe2(os.O_CLOEXEC)

    def read() -> bytes:
        with open(reader, "rb", closefd=True) as file:
            return file.read()

    return read


def test_with_stdin_once_the_input_ends_with_the_first_that_takes_it(world: World) -> None:
    async def main() -> None:
        made = await world.open()
        await started(made, stdin=True, stdin_once=True)
        read = container_with_input(world, made._containers.get("c"), "stdin")
        fd = await (await made.attach("c")).take_input()
        os.write(fd, b"text")
        os.close(fd)
        assert read() == b"text"  # and its end
        assert await (await made.attach("c")).take_input() == -1

    virtually(world, main)
    assert "close stdin c" in world.journal


def test_without_stdin_once_the_input_stays_open_for_the_next(world: World) -> None:
    async def main() -> None:
        made = await world.open()
        await started(made, stdin=True)
        read = container_with_input(world, made._containers.get("c"), "stdin")
        for text in (b"a", b"b"):
            fd = await (await made.attach("c")).take_input()
            os.write(fd, text)
            os.close(fd)
        await made.stop_container("c", 0)
        assert read() == b"ab"

    virtually(world, main)
    assert "close stdin c" not in world.journal


# ---- a PID namespace that is joined


def pid(kind: str, target: str = "") -> SecurityContext:
    return SecurityContext(namespaces=NamespaceOptions(pid=kind, target_id=target))


def test_a_container_joins_the_namespace_of_one_that_runs(world: World) -> None:
    async def main() -> None:
        made = await world.open()
        await started(made, "app")
        await started(made, "debugger", security=pid("target", "app"))
        await made.stop_container("app", 0)
        with pytest.raises(ContainerError, match='unable to find target container "app"') as failure:
            await started(made, "late", security=pid("target", "app"))
        assert failure.value.reason == "RunContainerError"

    virtually(world, main)
    assert world.spawner.joined == {"debugger": "app"}


@pytest.mark.parametrize("member", [True, False])
def test_a_shared_namespace_is_joined_only_while_its_first_process_is_the_pods(
    world: World, member: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its number may be another's by now: it counts only in the pod's own group."""
    world.has_pause = True
    monkeypatch.setattr(os, "pidfd_open", world.spawner.open_pidfd)

    async def main() -> None:
        made = await world.open()
        await made.run_pod_sandbox(sandbox_config())
        await made.create_container("s", container_config(security=pid("pod")))
        if member:
            world.groups.members["/k/pod-s/s"] = [4242]
            await made.start_container("c")
            world.groups.members.clear()
        else:
            with pytest.raises(ContainerError, match="the first process of the pod's PID namespace has ended"):
                await made.start_container("c")

    virtually(world, main)
    assert world.spawner.joined == ({"c": "s.pause"} if member else {})


# ---- new limits


def test_new_limits_are_written_and_stay_with_the_container(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[tuple[str, str]] = []
    monkeypatch.setattr(kernel_cgroup, "write", lambda folder, name, value: written.append((name, value)))

    async def main() -> None:
        made = await world.open()
        await started(made)
        await made.update_container_resources("c", CgroupResources(cpu_shares=512, memory_limit_bytes=64 << 20))
        assert made.container_status("c").config.resources.memory_limit_bytes == 64 << 20
        with pytest.raises(NotFoundError):
            await made.update_container_resources("other", CgroupResources())

    virtually(world, main)
    assert ("memory.max", str(64 << 20)) in written


def test_what_the_kernel_refuses_is_named_and_changes_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: str, name: str, value: str) -> None:
        raise OSError(16, "Device or resource busy")

    monkeypatch.setattr(kernel_cgroup, "write", refuse)

    async def main() -> None:
        made = await world.open()
        await started(made)
        with pytest.raises(ContainerError, match="device or resource busy") as failure:
            await made.update_container_resources("c", CgroupResources(memory_limit_bytes=1 << 20))
        assert failure.value.reason == "ResizeError"
        assert made.container_status("c").config.resources.memory_limit_bytes is None

    virtually(world, main)


def test_a_pods_request_counts_anew_when_it_is_resized(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_cgroup, "write", lambda *_: None)

    async def main() -> None:
        made = await world.open()
        await made.run_pod_sandbox(sandbox_config())
        assert made.cpu_requests("/k") == 0
        await made.update_pod_sandbox_resources("s", replace(sandbox_config(), cpu_request_millicores=300))
        assert made.cpu_requests("/k") == 300
        again = await world.open()
        assert again.cpu_requests("/k") == 300  # as it is on disk
        await again.stop_pod_sandbox("s")
        assert again.cpu_requests("/k") == 0

    virtually(world, main)
