"""Stand-ins for what is below the runtime: a spawner that forks nothing, groups and network without a kernel.

`World.journal` has what was done, in order: `do a`, `undo a`, `spawn c`, `signal 15 c`, `kill /p/c` …
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest

from minipod.config import Config
from minipod.errors import SandboxError
from minipod.paths import Paths
from minipod.plan.configs import ContainerConfig, HostFacts, Image, ImageConfig, NetworkFacts, SandboxConfig
from minipod.plan.container import ContainerPlan
from minipod.plan.operation import ChildOperation, HostOperation
from minipod.plan.process.identity import Exec
from minipod.plan.process.namespaces import Clone
from minipod.runtime import containers, records, runtime, sandboxes
from minipod.runtime.runtime import Runtime
from minipod.runtime.spawner.client import ChildExit, Spawned, SpawnError
from minipod.runtime.status import ContainerStatus
from tests.unit.agent_fakes import now_s, run_virtually

T = TypeVar("T")

FACTS = HostFacts(
    node_name="n",
    cpus=2,
    memory_bytes=1 << 30,
    cgroup_version=2,
    cgroup_controllers=("cpu", "memory", "pids"),
    cgroup_mounts={"": "/cg"},
)
STARTED = {"uid": 0, "gid": 0, "groups": [], "home": "/", "root": [1, 2]}
PID = 4242


class Step(HostOperation, frozen=True):
    """Something on the host that only the journal knows."""

    name: str

    def describe(self) -> str:
        return self.name

    def execute(self) -> None:
        World.current.do(f"do {self.name}")

    def undo(self) -> None:
        World.current.do(f"undo {self.name}")


class World:
    """What the fakes share. `broken`: entries of the journal that fail with `failure`."""

    current: World

    def __init__(self, folder: Path) -> None:
        World.current = self
        self.paths = Paths(f"{folder}/root", f"{folder}/state")
        Path(self.paths.root).mkdir(parents=True, exist_ok=True)
        self.journal: list[str] = []
        self.broken: set[str] = set()
        self.failure: Exception = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.sandbox_steps: Sequence[str] = ("group", "netns", "files")
        self.container_steps: Sequence[str] = ("own group", "folder")
        self.has_pause = False
        self.spawner = FakeSpawner(self)
        self.groups = FakeGroups(self)
        self.network = FakeNetwork(self)
        self.reported: list[ContainerStatus] = []
        self.losses: list[str] = []  # container: what of it
        self._runtimes: list[Runtime] = []

    def do(self, entry: str) -> None:
        self.journal.append(entry)
        if entry in self.broken:
            raise self.failure

    def since(self, work: str) -> list[str]:
        """The journal after that entry."""
        return self.journal[self.journal.index(work) + 1 :]

    async def open(self) -> Runtime:
        """An agent's runtime on this world; the one before it may have been killed."""
        made = Runtime(self.paths, Config(), FACTS)
        made.on_exit = self.reported.append
        made.on_loss = lambda _, container, what: self.losses.append(f"{container}: {what}")
        await made.open()
        self._runtimes.append(made)
        return made

    async def close(self) -> None:
        for made in self._runtimes:
            await made.close()
        self.spawner.close_all()


class FakeSpawner:
    """Spawners and their one client. It outlives the runtime, as the real one does."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.on_exit: Callable[[ChildExit], None] = lambda _: None
        self.on_lost: Callable[[], None] = lambda: None
        self.refuses: SpawnError | None = None
        self.ends_at_once: int | None = None  # its code: the exit is reported before the answer
        self.obeys_s: float | None = 0.0  # from SIGTERM to the end; None: it does not
        self.immortal = False
        self.never_executes = False
        self.losses = 0
        self.running: dict[str, int] = {}  # key -> the writing end of its stdout
        self.ended: dict[str, ChildExit] = {}
        self.pidfds: dict[int, str] = {}
        self.refuses_to_hold = False
        self.unknown: set[str] = set()  # keys of children of a spawner that has died
        self.joined: dict[str, str] = {}  # key -> whose PID namespace it starts in

    @property
    def current(self) -> FakeSpawner:
        return self

    def open(self) -> None:
        pass

    def close(self) -> None:
        pass

    def separate(self) -> None:
        pass

    async def spawn(
        self,
        key: str,
        clone: Clone,
        operations: list[ChildOperation],
        *,
        stdio: str = "pipes",
        stdin: bool = False,
        keep: bool = True,
        fds: dict[str, int] | None = None,
    ) -> Spawned:
        self._world.do(f"spawn {key}")
        await asyncio.sleep(0.01)
        if self.refuses is not None:
            raise self.refuses
        for fd in (fds or {}).values():
            self.joined[key] = self.pidfds[fd]
        reader, self.running[key] = os.pipe2(os.O_CLOEXEC)
        spawned = Spawned(PID, int(now_s() * 1e9), STARTED, {"pidfd": self._pidfd(key), "stdout": reader})
        if self.ends_at_once is not None:
            self.end(key, self.ends_at_once)
        return spawned

    def open_pidfd(self, pid: int) -> int:
        """pidfd_open(2): every process has the same number here, so it is of what was spawned last."""
        return self._pidfd(list(self.running)[-1])

    def _pidfd(self, key: str) -> int:
        fd = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        self.pidfds[fd] = key
        return fd

    def say(self, key: str, text: bytes) -> None:
        os.write(self.running[key], text)

    def end(self, key: str, code: int, number: int = 0) -> None:
        """The process ends, which is reported to the connected agent."""
        os.close(self.running.pop(key))
        self.ended[key] = ChildExit(key, PID, code, number, 0, int(now_s() * 1e9))
        self.on_exit(self.ended[key])

    def signal(self, pidfd: int, number: int) -> None:
        key = self.pidfds[pidfd]
        self._world.do(f"signal {number} {key}")
        loop = asyncio.get_running_loop()
        if number == 9 and not self.immortal:
            loop.call_soon(self._end_by, key, 9)
        elif number != 9 and self.obeys_s is not None:
            loop.call_later(self.obeys_s, self._end_by, key, number)

    def _end_by(self, key: str, number: int) -> None:
        if key in self.running:
            self.end(key, 128 + number, number)

    async def children(self) -> dict[str, ChildExit | None]:
        self._world.do("list children")
        found: dict[str, ChildExit | None] = {**dict.fromkeys(self.running), **self.ended}
        return {key: ended for key, ended in found.items() if key not in self.unknown}

    async def adopt(self, key: str) -> Spawned:
        self._world.do(f"adopt {key}")
        if self.never_executes:
            await asyncio.get_running_loop().create_future()
        return Spawned(PID, int(now_s() * 1e9), STARTED, await self.reattach(key))

    async def reattach(self, key: str) -> dict[str, int]:
        return {"pidfd": self._pidfd(key)} if key in self.running.keys() - self.unknown else {}

    async def hold(self, key: str, pid: int, started_at_ns: int, fds: dict[str, int]) -> None:
        self._world.do(f"hold {key} {' '.join(sorted(fds))}")
        if self.refuses_to_hold:
            raise SpawnError("too many open files", errno.EMFILE, "hold")
        self.unknown.discard(key)

    async def forget(self, key: str) -> None:
        self._world.do(f"forget {key}")
        self.ended.pop(key, None)

    async def kill_and_forget(self, key: str) -> None:
        self._world.do(f"end {key}")
        if key in self.running:
            os.close(self.running.pop(key))

    async def close_stdin(self, key: str) -> None:
        self._world.do(f"close stdin {key}")

    def close_all(self) -> None:
        for writer in self.running.values():
            os.close(writer)


class FakeGroups:
    """`runtime.cgroup`, as far as sandboxes and containers use it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.out_of_memory = False
        self.members: dict[str, list[int]] = {}

    def oom_kills(self, path: str, facts: HostFacts) -> int:
        return int(self.out_of_memory)

    def populated(self, path: str, facts: HostFacts) -> bool:
        return bool(self.members.get(path))

    def pids(self, path: str, facts: HostFacts) -> list[int]:
        return self.members.get(path, [])

    def kill(self, path: str, facts: HostFacts) -> None:
        self._world.do(f"kill {path}")

    def kill_each(self, path: str, facts: HostFacts) -> None:
        self._world.do(f"kill each of {path}")

    def complete(self, path: str, facts: HostFacts) -> None:
        pass

    def remove(self, path: str, facts: HostFacts) -> None:
        self._world.do(f"rmdir {path}")

    def remove_instance(self, paths: Paths, facts: HostFacts) -> None:
        self._world.do("rmdir instance")


@contextlib.asynccontextmanager
async def never_frozen(path: str, facts: HostFacts) -> AsyncIterator[None]:
    yield


class FakeNetwork:
    def __init__(self, world: World) -> None:
        self._world = world
        self.full = False

    def lease(self, config: SandboxConfig, warn: Callable[[str], None]) -> NetworkFacts:
        self._world.do("lease")
        if self.full:
            raise SandboxError("no address left")
        return NetworkFacts(ipv4="10.0.0.2/20")

    def release(self, sandbox_id: str) -> None:
        self._world.do("release")


class FakeImages:
    def resolve(self, reference: str) -> Image | None:
        if reference == "missing":
            return None
        return Image(id="sha256:1", reference="busybox", layers=("/l",), config=ImageConfig(stop_signal="SIGUSR1"))


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(tmp_path)

    def spawners(
        paths: Paths, on_exit: Callable[[ChildExit], None], on_lost: Callable[[], None], *_: object
    ) -> FakeSpawner:
        made.spawner.on_exit, made.spawner.on_lost = on_exit, on_lost
        return made.spawner

    def plan(*_: object) -> ContainerPlan:
        steps = tuple(Step(name) for name in made.container_steps)
        return ContainerPlan(host=steps, clone=Clone(), child=(Exec(argv=("true",), env=("A=b",)),))

    def pause(*_: object) -> tuple[Clone, tuple[ChildOperation, ...]] | None:
        return (Clone(), (Exec(argv=("pause",), env=()),)) if made.has_pause else None

    records._operations_decoder.cache_clear()  # it knows the operations that were imported when it was made
    monkeypatch.setattr(runtime, "Spawners", spawners)
    monkeypatch.setattr(runtime, "Network", lambda *_, **__: made.network)
    monkeypatch.setattr(runtime, "ImageStore", lambda *_: FakeImages())
    monkeypatch.setattr(runtime, "cgroup", made.groups)
    monkeypatch.setattr(containers, "cgroup", made.groups)
    monkeypatch.setattr(containers, "kept_thawed", never_frozen)
    monkeypatch.setattr(containers, "checked_plan", plan)
    monkeypatch.setattr(containers, "start_plan", plan)
    monkeypatch.setattr(sandboxes, "cgroup", made.groups)
    monkeypatch.setattr(sandboxes, "pause_process", pause)
    monkeypatch.setattr(sandboxes, "sandbox_operations", lambda *_: tuple(Step(name) for name in made.sandbox_steps))
    monkeypatch.setattr(signal, "pidfd_send_signal", made.spawner.signal)
    monkeypatch.setattr(time, "time_ns", lambda: int(now_s() * 1e9))
    return made


def virtually(world: World, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Runs it with a clock that jumps; what its processes hold is closed."""

    async def run() -> T:
        try:
            return await main()
        finally:
            await world.close()

    return run_virtually(run)


def sandbox_config(name: str = "s") -> SandboxConfig:
    return SandboxConfig(
        id=name,
        name=f"pod-{name}",
        namespace="default",
        uid=f"uid-{name}",
        hostname="web",
        log_directory=f"{World.current.paths.root}/log",
        cgroup_parent=f"/k/pod-{name}",
    )


def container_config(name: str = "c", image: str = "busybox", **fields: Any) -> ContainerConfig:
    return ContainerConfig(id=name, name=name, image=image, directory="/d", log_path=f"{name}.log", **fields)


async def started(made: Runtime, name: str = "c", sandbox: str = "s", **fields: Any) -> ContainerStatus:
    """A running container, in a sandbox that is made for it if need be."""
    if sandbox not in [status.id for status in made.list_pod_sandboxes()]:
        await made.run_pod_sandbox(sandbox_config(sandbox))
    await made.create_container(sandbox, container_config(name, **fields))
    return await made.start_container(name)
