"""What a process holds and where it is at each step of becoming a container's, stopped there on the real kernel."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from minipod.kernel import launcher
from minipod.kernel.launcher import Call
from minipod.kernel.libc import NUMBERS
from minipod.kernel.process import last_capability, permitted_capabilities
from minipod.paths import Paths
from minipod.plan.container import capabilities_of, container_plan
from minipod.plan.launch import launch_calls
from minipod.plan.operation import ChildOperation
from minipod.plan.process.identity import DropCapabilities
from minipod.plan.process.namespaces import Clone
from minipod.plan.process.security import capability_mask
from minipod.runtime.container import Container, seccomp_filter
from minipod.runtime.runtime import Runtime
from minipod.runtime.spawner.client import Spawned, SpawnerClient, SpawnError
from tests.builders import container, manifest, pod
from tests.conftest import CHECKOUT
from tests.node_fixtures import Node
from tests.own_runtime import WAIT_S, in_own_runtime
from tests.stopping_spawner import STOPPED, StandStill

pytestmark = pytest.mark.vm  # cgroup v2 alone, and other kernels
_PR_SET_NAME = 15
NAMESPACES = ("mnt", "net", "ipc", "uts", "cgroup")
#: after these phases nothing of the host may be held, whatever else is still to come
ENTERED = ("entry", "user", "folder", "limits", "pid", "exec")


@dataclasses.dataclass
class Picture:
    """One process as /proc shows it."""

    pid: int
    fds: dict[int, str]
    status: dict[str, str]
    namespaces: dict[str, str]
    root: tuple[int, int]
    cwd: str
    is_dumpable: bool

    @property
    def is_inside(self) -> bool:
        """Whether the processes of the container can see it."""
        return len(self.status["NSpid"].split()) > 1


def picture(pid: int) -> Picture:
    proc = Path(f"/proc/{pid}")
    status = dict(line.split(":\t", 1) for line in (proc / "status").read_text().splitlines() if ":\t" in line)
    root = (proc / "root").stat()
    return Picture(
        pid=pid,
        fds={int(fd.name): os.readlink(fd) for fd in (proc / "fd").iterdir() if fd.is_symlink()},
        status=status,
        namespaces={kind: os.readlink(proc / "ns" / kind) for kind in NAMESPACES},
        root=(root.st_dev, root.st_ino),
        cwd=os.readlink(proc / "cwd"),
        is_dumpable=(proc / "fd").stat().st_uid == int(status["Uid"].split()[1]) != 0,
    )


class Stopper:
    """A spawner of the test's own beside the pod's, whose children can be stopped."""

    def __init__(self, client: SpawnerClient, process: subprocess.Popen[bytes]) -> None:
        self.client = client
        self.process = process
        self._killed: set[int] = set()  # one that was killed is there a little longer

    async def after(self, clone: Clone, operations: Sequence[ChildOperation], target: int, stdio: str) -> Picture:
        """A child that has executed these operations."""
        cut = [*operations, StandStill()]
        return await self._stopped(
            self.client.spawn(f"k{len(cut)}", clone, cut, stdio=stdio, keep=False, fds={"target": target})
        )

    async def after_calls(self, calls: Sequence[Call], target: int) -> Picture:
        """A program that has made these system calls."""
        still = (Call("prctl", (_PR_SET_NAME, STOPPED.encode() + b"\0")), Call("ppoll", (0, 0, 0, 0, 0)))
        last = len(calls) - 1  # where those go that leave the rest to their clone
        made = [call._replace(then=call.then + len(still)) if n + call.then == last != n + 1 else call
                for n, call in enumerate(calls[:-1])]  # fmt: skip
        fd = launcher.sealed(launcher.program([*made, *still, calls[-1]]))
        try:
            return await self._stopped(self.client.launch(f"k{len(calls)}", {"program": fd, "target": target}))
        finally:
            os.close(fd)

    async def _stopped(self, begun: Coroutine[Any, Any, Spawned]) -> Picture:
        """Where the process stands still; it is killed then."""
        work = asyncio.ensure_future(begun)
        async with asyncio.timeout(WAIT_S):
            while not (found := self.children(STOPPED)):
                assert not work.done(), work.exception() or "it came to its end"
                await asyncio.sleep(0.005)
        try:
            return picture(found[0])
        finally:
            os.kill(found[0], signal.SIGKILL)
            self._killed.add(found[0])
            await asyncio.wait((work,))
            if work.exception() is None:  # the spawner takes it for started, since it has reported before
                for fd in work.result().fds.values():
                    os.close(fd)

    def children(self, name: str = "") -> list[int]:
        """The pids of those that live; of this name."""
        pid = self.process.pid
        found = {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()} - self._killed
        return [child for child in found if _state(child) not in "ZX" and _name(child).startswith(name)]


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _state(pid: int) -> str:
    """Z and X: it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


@asynccontextmanager
async def stopper(paths: Paths) -> AsyncIterator[Stopper]:
    place = f"{paths.root}/stopper.sock"
    os.makedirs(f"{paths.root}/stopper", exist_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(place)
        listener.listen()
        number = str(listener.fileno())
        command = [sys.executable, "-m", "tests.stopping_spawner", number, f"{paths.root}/stopper"]
        env = os.environ | {"PYTHONPATH": str(CHECKOUT)}
        process = subprocess.Popen(command, pass_fds=(listener.fileno(),), env=env, stdout=subprocess.DEVNULL)
    client = SpawnerClient(lambda _: None, lambda: None)
    client.connect(place)
    made = Stopper(client, process)
    try:
        yield made
    finally:
        for child in made.children():  # of a test that fails
            os.kill(child, signal.SIGKILL)
        client.close()
        process.kill()  # it waits for another agent else
        process.wait(WAIT_S)
        os.unlink(place)
        os.rmdir(f"{paths.root}/stopper")


def with_pod(node: Node, body: Callable[[Runtime, Stopper, Container], Awaitable[None]], **spec: Any) -> None:
    """A pod of an ordinary container, without its agent; `body` gets a runtime, a stopper and the container."""
    sleeper = container("c", "exec sleep 100000", workingDir="/tmp", securityContext={"runAsUser": 1000})
    text = manifest(pod("p", sleeper, terminationGracePeriodSeconds=1, **spec))
    node("run", "-d", "--until", "running", "-", input=text)

    async def run(runtime: Runtime, containers: dict[str, Container]) -> None:
        async with stopper(node.paths) as stops:
            await body(runtime, stops, containers["c"])

    in_own_runtime(node, run)


def inside(one: Container) -> Picture:
    return picture(one.status.pid)


def check(seen: Picture, done: ChildOperation, own: Picture, one: Container) -> None:
    """What holds after an operation, for the container's own process as the measure."""
    phase = done.phase
    status, others = seen.status, {fd: target for fd, target in seen.fds.items() if fd > 2}
    # from the first phase on: nothing but the status socket or the report, a pidfd, what was opened since
    harmless = {fd: to for fd, to in others.items() if to.startswith(("socket:", "pipe:", "anon_inode:[pidfd]"))}
    assert len(harmless) <= 2, seen
    if phase in ENTERED:
        left = {fd: target for fd, target in others.items() if fd not in harmless}
        assert set(left.values()) <= {"/", "/dev/pts/ptmx"}, (phase, seen.fds)  # the container's own
        assert "anon_inode:[pidfd]" not in others.values(), (phase, seen.fds)
        assert seen.root == own.root, phase
        assert not seen.cwd.startswith(("(unreachable)", "/proc")), seen.cwd
        assert seen.namespaces == own.namespaces, phase
    if isinstance(done, DropCapabilities) or phase in ("pid", "exec"):
        assert status["Uid"].split() == ["1000"] * 4
        assert {status[key] for key in ("CapPrm", "CapEff", "CapInh", "CapAmb")} == {"0" * 16}
        assert int(status["CapBnd"], 16) == capability_mask(capabilities_of(one.status.config))
        assert status["Seccomp"] == "2"
        assert seen.cwd == "/tmp"
    if phase == "folder":
        assert int(status["CapEff"], 16) == 1 << 2  # CAP_DAC_READ_SEARCH
    assert not seen.is_dumpable, phase
    if seen.is_inside:
        assert phase in ("pid", "exec"), (phase, "it is seen too early")
        assert status["Seccomp"] == "2"
        assert status["CapPrm"] == "0" * 16


def steps(operations: Sequence[ChildOperation]) -> list[int]:
    """After each of them but the last, which becomes the program."""
    return list(range(len(operations) - 1))


@pytest.mark.parametrize("terminal", [None, (24, 80)], ids=["pipes", "terminal"])
def test_a_forked_command_holds_nothing_of_the_host_when_it_can_be_seen(
    node: Node, terminal: tuple[int, int] | None
) -> None:
    async def body(runtime: Runtime, stops: Stopper, one: Container) -> None:
        own = inside(one)
        clone, operations = runtime._execs._operations(one, ("/bin/true",), terminal)
        for step in steps(operations):
            stdio = "terminal" if terminal else "fds"
            seen = await stops.after(clone, operations[: step + 1], one.pidfd, stdio)
            check(seen, operations[step], own, one)
        assert seen.is_inside

    with_pod(node, body)


def test_a_launched_command_holds_nothing_of_the_host_when_it_can_be_seen(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(NUMBERS, "ppoll", {"x86_64": 271, "aarch64": 73}[os.uname().machine])

    async def body(runtime: Runtime, stops: Stopper, one: Container) -> None:
        own = inside(one)
        clone, operations = runtime._execs._operations(one, ("/bin/true",), None)
        for step in steps(operations):
            calls = launch_calls(clone, operations[: step + 1], last_capability(), permitted_capabilities())
            assert calls is not None
            check(await stops.after_calls(calls, one.pidfd), operations[step], own, one)
        assert inside(one) == own

    with_pod(node, body)


def test_a_container_that_starts_where_others_run_is_seen_when_it_is_one(node: Node) -> None:
    async def body(runtime: Runtime, stops: Stopper, one: Container) -> None:
        plan = container_plan(
            one.status.config,
            one.record.sandbox,
            runtime._containers._image(one.status.image_id),
            runtime._facts,
            runtime._paths,
            seccomp_filter(one.status.config, runtime._paths),
        )
        with runtime._sandboxes.pause_pidfd(one.status.sandbox_id) as target:
            host = picture(os.getpid())
            for step in steps(plan.child):
                seen = await stops.after(plan.clone, plan.child[: step + 1], target, "pipes")
                # a root of its own, the pod's namespaces and a cgroup namespace of its own
                own = dataclasses.replace(inside(one), root=seen.root, namespaces=seen.namespaces)
                check(seen, plan.child[step], own, one)
                if plan.child[step].phase in ENTERED:
                    assert seen.root != host.root
                    assert all(seen.namespaces[kind] != host.namespaces[kind] for kind in NAMESPACES)
        assert seen.is_inside

    with_pod(node, body, shareProcessNamespace=True)


def test_the_first_process_of_a_shared_pid_namespace_has_nothing_that_the_pod_lacks(node: Node) -> None:
    async def body(runtime: Runtime, _: Stopper, one: Container) -> None:
        with runtime._sandboxes.pause_pidfd(one.status.sandbox_id) as pidfd:
            (line,) = [
                line for line in Path(f"/proc/self/fdinfo/{pidfd}").read_text().splitlines() if line.startswith("Pid:")
            ]
        pause = picture(int(line.split()[1]))
        own, host = inside(one), picture(os.getpid())
        shared = ("net", "ipc", "uts")
        assert {kind: pause.namespaces[kind] for kind in shared} == {kind: own.namespaces[kind] for kind in shared}
        assert all(pause.namespaces[kind] != host.namespaces[kind] for kind in ("mnt", "cgroup"))
        assert pause.status["Uid"].split() == ["65535"] * 4
        assert {pause.status[key] for key in ("CapPrm", "CapBnd", "CapEff")} == {"0" * 16}
        assert pause.status["NoNewPrivs"] == "1"
        assert set(pause.fds) == {0, 1, 2}
        root = Path(f"/proc/{pause.pid}/root")
        assert sorted(os.listdir(root)) == ["dev", "proc"]
        assert stat.S_ISCHR((root / "proc/keys").stat().st_mode)  # masked
        for place in ("proc/sys/kernel/core_pattern", "proc/sys/kernel/hostname"):
            with pytest.raises(OSError, match="Read-only"):
                os.close(os.open(root / place, os.O_WRONLY))

    with_pod(node, body, shareProcessNamespace=True)


def test_a_command_does_not_enter_another_root(node: Node) -> None:
    """In a chroot a joiner comes out on the namespace's root: whichever that is, it is compared."""

    async def body(runtime: Runtime, _: Stopper, one: Container) -> None:
        assert (await runtime.exec_sync(one.status.id, ("true",), 10)).exit_code == 0
        device, inode = one.record.root
        for other in ((device, inode + 1), (device + 1, inode)):
            one.record = msgspec.structs.replace(one.record, root=other)
            runtime._execs.forget(one.status.id)
            with pytest.raises(SpawnError, match="the root that was entered is not the container's"):
                await runtime.exec_sync(one.status.id, ("true",), 10)
        one.record = msgspec.structs.replace(one.record, root=(device, inode))

    with_pod(node, body)
