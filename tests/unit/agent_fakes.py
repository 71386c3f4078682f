"""Stand-ins for what is below the agent: a runtime without a kernel, a plan without a host, a clock that jumps."""

from __future__ import annotations

import asyncio
import secrets
import selectors
import threading
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import msgspec

from minipod.agent.node import Node
from minipod.agent.pods import pulls
from minipod.agent.registry.store import Store
from minipod.api.types import Container, ObjectMeta, Pod, PodSpec
from minipod.config import Config
from minipod.errors import ContainerError, ImageError, NotFoundError
from minipod.paths import Paths
from minipod.plan.configs import ContainerConfig, HostFacts, Image, SandboxConfig
from minipod.plan.env import Sources
from minipod.plan.operation import HostOperation
from minipod.plan.volumes.sources import FoundSources
from minipod.runtime.face import Leftover
from minipod.runtime.images.registry.credentials import AuthFile
from minipod.runtime.images.registry.pull import Pulled
from minipod.runtime.status import ContainerState, ContainerStatus, ExecResult, SandboxState, SandboxStatus

T = TypeVar("T")

START_S = 1_800_000_000.0


class _JumpingSelector(selectors.DefaultSelector):
    """Does not wait for a timer: moves the loop's clock to it. Descriptors are still looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0 if timeout is not None else 5)  # without a timer only a descriptor brings us on
        if not ready and timeout is not None:
            self.now_s += max(0.0, timeout)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """asyncio without waiting."""

    def __init__(self) -> None:
        self.selector = _JumpingSelector()
        super().__init__(self.selector)

    def time(self) -> float:
        return self.selector.now_s

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        """At once: virtual time would not wait for another thread. Pulls are in threads: tests interrupt them."""
        if executor is pulls.pool():
            return super().run_in_executor(executor, func, *args)
        done: asyncio.Future[T] = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:
            done.set_exception(error)
        return done


#: open, also when their agent has crashed
_stores: list[Store] = []


def run_virtually(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """`asyncio.run` with a clock that jumps from timer to timer; the stores of its nodes are closed."""
    try:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            return runner.run(main())
    finally:
        close_stores()


def close_stores() -> None:
    """Those of all nodes, in the thread that made them."""
    while _stores:
        _stores.pop().close()


def now_s() -> float:
    """The virtual time, in seconds since the epoch."""
    return START_S + asyncio.get_running_loop().time()


async def until(condition: Callable[[], bool], timeout_s: float = 1000.0) -> None:
    """Returns when the condition holds; virtual seconds."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while not condition():
        assert loop.time() < deadline, "waited in vain"
        await asyncio.sleep(0.05)


class FakeImages:
    def __init__(self) -> None:
        self.known = {"busybox"}

    def resolve(self, reference: str) -> Image | None:
        if reference not in self.known:
            return None
        return Image(id="sha256:1", reference=reference, layers=("/layer",))

    def present(self, reference: str, pull_policy: str = "IfNotPresent") -> Image | None:
        return self.resolve(reference)

    def is_default(self, reference: str) -> bool:
        return False

    def fetch(
        self,
        reference: str,
        secrets: Sequence[tuple[str, AuthFile]] = (),
        report: Any = None,
        *,
        stop: threading.Event | None = None,
    ) -> Pulled:
        return Pulled(self.require(reference), True, 1.5)

    def collect(self, high_percent: int, low_percent: int) -> list[str]:
        return []

    def require(
        self, reference: str, pull_policy: str = "IfNotPresent", secrets: Sequence[tuple[str, AuthFile]] = ()
    ) -> Image:
        image = self.resolve(reference)
        if image is None:
            raise ImageError(f'image "{reference}" is not here')
        return image


class FakeSession:
    """A command in a container that ends on request."""

    def __init__(self, tty_fd: int = -1) -> None:
        self.tty_fd = tty_fd
        self.pid = 4711
        self.signals: list[int] = []
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def wait(self) -> int:
        return await self.ended

    def signal(self, number: int) -> None:
        self.signals.append(number)
        if not self.ended.done():
            self.ended.set_result(128 + number)


class FakeRuntime:
    """Records what it is asked to do; that verb raises `fail[verb]`, `log` holds the calls. Outlives the fake agent."""

    def __init__(self) -> None:
        self.images = FakeImages()
        self.on_exit: Callable[[ContainerStatus], None] | None = None
        self.on_loss: Callable[[SandboxConfig, str, str], None] | None = None
        self.sandboxes: dict[str, SandboxStatus] = {}
        self.containers: dict[str, ContainerStatus] = {}
        self.fail: dict[str, Exception] = {}
        self.log: list[str] = []
        self.stop_takes_s = 0.0
        self.sessions: list[FakeSession] = []
        self.hang: set[str] = set()
        self.leftovers: list[Leftover] = []
        self.warnings: list[str] = []  # of the next sandbox

    async def _called(self, verb: str, what: str = "") -> None:
        self.log.append(f"{verb} {what}".strip())
        await asyncio.sleep(0)
        if verb in self.hang:
            await asyncio.get_running_loop().create_future()
        if verb in self.fail:
            raise self.fail[verb]

    async def open(self) -> None:
        await self._called("open")

    async def close(self) -> None:
        await self._called("close")

    async def run_pod_sandbox(self, config: SandboxConfig, warn: Callable[[str], None] | None = None) -> SandboxStatus:
        await self._called("run_pod_sandbox", config.name)
        if warn is not None:
            for message in self.warnings:
                warn(message)
        status = SandboxStatus(
            id=config.id, config=config, state=SandboxState.READY, created_at_ns=_ns(), ips=("10.0.0.2", "fd00::2")
        )
        self.sandboxes[config.id] = status
        return status

    async def stop_pod_sandbox(self, sandbox_id: str) -> None:
        await self._called("stop_pod_sandbox")
        if sandbox_id not in self.sandboxes:
            raise NotFoundError("no such sandbox")
        for status in list(self.containers.values()):
            if status.sandbox_id == sandbox_id and status.state == ContainerState.RUNNING:
                self.end(status.id, 137)
        self.sandboxes[sandbox_id] = msgspec.structs.replace(self.sandboxes[sandbox_id], state=SandboxState.NOT_READY)

    async def remove_pod_sandbox(self, sandbox_id: str) -> None:
        await self._called("remove_pod_sandbox")
        for status in self.list_containers(sandbox_id):
            await self.remove_container(status.id)
        self.sandboxes.pop(sandbox_id, None)

    def list_pod_sandboxes(self, pod_uid: str | None = None) -> list[SandboxStatus]:
        return [found for found in self.sandboxes.values() if pod_uid in (None, found.config.uid)]

    def pod_sandbox_status(self, sandbox_id: str) -> SandboxStatus:
        try:
            return self.sandboxes[sandbox_id]
        except KeyError:
            raise NotFoundError("no such sandbox") from None

    def cpu_requests(self, group: str) -> int:
        return 0

    async def create_container(self, sandbox_id: str, config: ContainerConfig) -> ContainerStatus:
        await self._called("create_container", config.name)
        status = ContainerStatus(
            id=config.id, sandbox_id=sandbox_id, config=config, state=ContainerState.CREATED, created_at_ns=_ns()
        )
        self.containers[config.id] = status
        return status

    async def start_container(self, container_id: str) -> ContainerStatus:
        await self._called("start_container", self.containers[container_id].config.name)
        return self._set(container_id, state=ContainerState.RUNNING, started_at_ns=_ns(), pid=4242)

    async def stop_container(self, container_id: str, timeout_s: float, signal: str = "") -> ContainerStatus:
        await self._called("stop_container", f"{timeout_s:g}")
        if container_id not in self.containers:
            raise NotFoundError("no such container")
        if self.containers[container_id].state == ContainerState.RUNNING:
            await asyncio.sleep(min(self.stop_takes_s, timeout_s))
            self.end(container_id, 137 if self.stop_takes_s > timeout_s else 143)
        return self.containers[container_id]

    async def remove_container(self, container_id: str) -> None:
        await self._called("remove_container")
        self.containers.pop(container_id, None)

    def container_status(self, container_id: str) -> ContainerStatus:
        return self.containers[container_id]

    def list_containers(self, sandbox_id: str | None = None) -> list[ContainerStatus]:
        return [found for found in self.containers.values() if sandbox_id in (None, found.sandbox_id)]

    async def find_leftovers(self) -> list[Leftover]:
        return self.leftovers

    async def exec_sync(
        self, container_id: str, command: Sequence[str], timeout_s: float = 0, output_limit: int = 0
    ) -> ExecResult:
        await self._called("exec_sync", " ".join(command))
        return ExecResult(0, b"", b"")

    async def exec(self, container_id: str, command: Sequence[str], **streams: Any) -> FakeSession:
        await self._called("exec", " ".join(command))
        session = FakeSession()
        self.sessions.append(session)
        return session

    async def attach(self, container_id: str, whole: bool = False) -> Any:
        raise ContainerError(f"container {container_id}: the fake has no streams")

    # -- what the kernel would do

    def _set(self, container_id: str, **fields: Any) -> ContainerStatus:
        status = msgspec.structs.replace(self.containers[container_id], **fields)
        self.containers[container_id] = status
        return status

    def find(self, name: str) -> ContainerStatus:
        """The newest instance of the container of that name."""
        found = [status for status in self.containers.values() if status.config.name == name]
        return max(found, key=lambda status: status.config.attempt)

    def end(self, container_id: str, code: int, reason: str = "") -> None:
        """The process ends by itself."""
        if self.containers[container_id].state != ContainerState.RUNNING:
            return
        status = self._set(
            container_id,
            state=ContainerState.EXITED,
            exit_code=code,
            finished_at_ns=_ns(),
            reason=reason or ("Completed" if code == 0 else "Error"),
        )
        if self.on_exit is not None:
            self.on_exit(status)

    def is_running(self, name: str) -> bool:
        return any(s.config.name == name and s.state == ContainerState.RUNNING for s in self.containers.values())


def _ns() -> int:
    try:
        return int(now_s() * 1e9)
    except RuntimeError:
        return int(START_S * 1e9)


class Noted(HostOperation, frozen=True):
    """A volume that only exists in a file's existence."""

    path: str

    def describe(self) -> str:
        return f"note {self.path}"

    def execute(self) -> None:
        Path(self.path).touch()

    def undo(self) -> None:
        Path(self.path).unlink(missing_ok=True)


class FakePlanner:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def sandbox_config(self, pod: Pod, attempt: int) -> SandboxConfig:
        metadata = pod.metadata
        return SandboxConfig(
            id=secrets.token_hex(32),
            name=metadata.name,
            namespace=metadata.namespace,
            uid=metadata.uid,
            attempt=attempt,
            hostname=metadata.name,
            log_directory=f"{self._folder}/log",
            cgroup_parent="/x",
        )

    def container_config(
        self, pod: Pod, name: str, attempt: int, image: Image, sandbox: SandboxStatus, sources: Sources
    ) -> ContainerConfig:
        return ContainerConfig(
            id=secrets.token_hex(32),
            name=name,
            attempt=attempt,
            image=image.reference,
            directory=f"{self._folder}/{name}",
        )

    def volume_operations(self, pod: Pod, found: FoundSources) -> tuple[HostOperation, ...]:
        return tuple(Noted(f"{self._folder}/volume-{volume.name}") for volume in pod.spec.volumes)

    def encode_operations(self, operations: tuple[HostOperation, ...]) -> bytes:
        return msgspec.json.encode(operations)

    def decode_operations(self, data: bytes) -> tuple[HostOperation, ...]:
        return msgspec.json.decode(data, type=tuple[Noted, ...])


FACTS = HostFacts(node_name="node-1", node_ips=("192.0.2.7",), cpus=2, memory_bytes=1 << 30, cgroup_version=2)


def make_node(folder: Path, runtime: FakeRuntime | None = None, config: Config | None = None) -> Node:
    """A node on a fake runtime, its store in `folder`; several one after the other share store and runtime."""
    paths = Paths(f"{folder}/root", f"{folder}/state")
    Path(paths.state).mkdir(parents=True, exist_ok=True)
    Path(paths.root).mkdir(parents=True, exist_ok=True)
    _stores.append(Store(f"{paths.state}/minipod.db"))
    return Node(
        paths,
        config or Config(),
        FACTS,
        _stores[-1],
        cast(Any, runtime or FakeRuntime()),
        FakePlanner(folder),
        clock=now_s,
        since_boot=lambda: asyncio.get_running_loop().time(),
    )


def make_pod(name: str = "web", *containers: str, init: Sequence[str] = (), **spec: Any) -> Pod:
    """A pod as it comes out of defaulting, as far as the agent and the lifecycle look at it."""

    def container(name: str) -> Container:
        return Container(
            name=name,
            image="busybox",
            image_pull_policy="IfNotPresent",
            termination_message_path="/dev/termination-log",
            termination_message_policy="File",
        )

    defaults: dict[str, Any] = {
        "restart_policy": "Always",
        "termination_grace_period_seconds": 30,
        "dns_policy": "ClusterFirst",
    }
    return Pod(
        metadata=ObjectMeta(name=name, namespace="default"),
        spec=PodSpec(
            containers=tuple(container(name) for name in containers or ("main",)),
            init_containers=tuple(container(name) for name in init),
            **(defaults | spec),
        ),
    )
