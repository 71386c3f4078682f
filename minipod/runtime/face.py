"""What a face or the agent may ask of the runtime (layer 3), once: CRI's verbs, as protocols. Does nothing.

`runtime.Runtime` is the one on a real host; the agent's tests have their own. Verbs that have no counterpart in CRI
(`cpu_requests`, `keep_names`, `inspect_…`, `find_leftovers`, `Images`) are at the end of their part.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from minipod.names.table import Gone, Pod
from minipod.plan.configs import CgroupResources, ContainerConfig, Image, SandboxConfig
from minipod.runtime.cgroup import CgroupStats
from minipod.runtime.status import ContainerStatus, ExecResult, SandboxStatus

if TYPE_CHECKING:
    from minipod.runtime.images.ingest import Progress
    from minipod.runtime.images.registry.credentials import AuthFile
    from minipod.runtime.images.registry.pull import Pulled
    from minipod.runtime.inspection import ContainerInspection, SandboxInspection


class Images(Protocol):
    """The image store. The rules are `images.store`'s."""

    def resolve(self, reference: str) -> Image | None: ...

    def present(self, reference: str, pull_policy: str = "IfNotPresent") -> Image | None: ...

    def is_default(self, reference: str) -> bool: ...

    def fetch(
        self,
        reference: str,
        secrets: Sequence[tuple[str, AuthFile]] = (),
        report: Progress = ...,
        *,
        stop: threading.Event | None = None,
    ) -> Pulled: ...

    def require(
        self, reference: str, pull_policy: str = "IfNotPresent", secrets: Sequence[tuple[str, AuthFile]] = ()
    ) -> Image: ...

    def collect(self, high_percent: int, low_percent: int) -> Sequence[str]: ...


class Session(Protocol):
    """A command that was started in a container. `tty_fd`: the pty's master, the caller's to close; -1 without one."""

    @property
    def tty_fd(self) -> int: ...

    @property
    def pid(self) -> int: ...

    async def wait(self) -> int:
        """Its exit status; 128+n for an end by signal n."""

    def signal(self, number: int) -> None:
        """To the command; no error if it has ended."""


class Attachment(Protocol):
    """A running container's streams."""

    @property
    def tty(self) -> bool: ...

    async def take_input(self) -> int:
        """A descriptor to write its input into, the caller's to close; -1: it reads nothing."""

    def tap(self, stream: str, tap: Callable[[bytes], None], is_full: Callable[[], bool] = ...) -> Callable[[], None]:
        """Calls `tap` with what is written to stdout or stderr from now on, at the end with nothing.

        While `is_full()` the container waits. Returns what ends it.
        """

    async def wait(self) -> int:
        """The container's exit code."""


class Leftover(Protocol):
    """Something on the host that no sandbox owns."""

    def describe(self) -> str: ...

    def undo(self) -> None: ...


class Runtime(Protocol):
    """All methods run on the event loop of `open`.

    `on_exit` is called once for every end of a container that was running, when its last log line is in the file; also,
    by `open`, for those that ended while no agent ran. `on_loss`: with the sandbox, the container's name and what of it
    is lost for good, as its exit code.
    """

    on_exit: Callable[[ContainerStatus], None] | None
    on_loss: Callable[[SandboxConfig, str, str], None] | None

    @property
    def images(self) -> Images: ...

    async def open(self) -> None:
        """Connect to the spawners, load the records, follow what runs, report what has ended since."""

    async def close(self) -> None:
        """The caller exits: containers, their pipes and their spawner stay."""

    # --- sandboxes

    async def run_pod_sandbox(self, config: SandboxConfig, warn: Callable[[str], None] | None = None) -> SandboxStatus:
        """`warn` is called with what its user should know. Raises SandboxError; then nothing of it is left."""

    async def stop_pod_sandbox(self, sandbox_id: str) -> None:
        """Kill what runs in it, then remove its namespaces, network and mounts. Idempotent. Raises SandboxError."""

    async def remove_pod_sandbox(self, sandbox_id: str) -> None:
        """Stop it if need be, remove its containers and its record. Idempotent. Raises SandboxError, ContainerError."""

    def pod_sandbox_status(self, sandbox_id: str) -> SandboxStatus:
        """Raises NotFoundError."""

    def list_pod_sandboxes(self, pod_uid: str | None = None) -> list[SandboxStatus]:
        """Those of a pod, or all."""

    def pod_sandbox_stats(self, sandbox_id: str) -> CgroupStats:
        """What its group uses now. Raises NotFoundError."""

    async def inspect_pod_sandbox(self, sandbox_id: str) -> SandboxInspection:
        """What it is on the host now, for people who look. Raises NotFoundError."""

    async def update_pod_sandbox_resources(self, sandbox_id: str, config: SandboxConfig) -> None:
        """New limits and weights of the pod's own group, as in `config`. Raises NotFoundError, ContainerError."""

    def cpu_requests(self, group: str) -> int:
        """What the sandboxes that are ready directly below this cgroup request together, in thousandths of a CPU."""

    async def keep_names(self) -> None:
        """While a sandbox has an address the answerer of DNS questions runs. Raises HostError, OSError."""

    async def publish_names(self, changes: Sequence[Pod | Gone], *, whole: bool = False) -> None:
        """What it answers from now on: the pods with these changes, and the host's resolvers as they are now.

        `whole`: these are all pods. Raises OSError; then all have to be published again.
        """

    # --- containers

    async def create_container(self, sandbox_id: str, config: ContainerConfig) -> ContainerStatus:
        """Prepare the host for it. Raises NotFoundError, ImageError, ContainerError; then nothing of it is left."""

    async def start_container(self, container_id: str) -> ContainerStatus:
        """Fork and exec. Raises ContainerError (RunContainerError): the container is then exited, StartError, 128."""

    async def stop_container(self, container_id: str, timeout_s: float, signal: str = "") -> ContainerStatus:
        """The stop signal, after `timeout_s` SIGKILL. Returns when it has ended.

        Raises NotFoundError; ContainerError for a process that cannot be killed.
        """

    async def remove_container(self, container_id: str) -> None:
        """Kill it if need be and remove everything of it but its log. Idempotent. Raises ContainerError."""

    def container_status(self, container_id: str) -> ContainerStatus:
        """Raises NotFoundError."""

    def list_containers(self, sandbox_id: str | None = None) -> list[ContainerStatus]:
        """Those of a sandbox, or all."""

    def container_stats(self, container_id: str) -> CgroupStats:
        """What its group uses now. Raises NotFoundError."""

    async def inspect_container(self, container_id: str) -> ContainerInspection:
        """What it is on the host now, for people who look. Raises NotFoundError."""

    async def update_container_resources(self, container_id: str, resources: CgroupResources) -> None:
        """New limits and weights while it runs. Raises NotFoundError, ContainerError."""

    # --- what runs in them

    async def attach(self, container_id: str, whole: bool = False) -> Attachment:
        """Its standard streams from now on. `whole`: begin with what it has written, also if it has ended.

        Raises NotFoundError; ContainerError: it has not started or has ended.
        """

    async def exec_sync(
        self, container_id: str, command: Sequence[str], timeout_s: float, output_limit: int
    ) -> ExecResult:
        """Run a command to its end. Raises TimeoutError (the command is killed), ContainerError.

        Its children may hold its streams open: they are waited for only shortly. `output_limit`: bytes of each stream
        that are kept.
        """

    async def exec(
        self,
        container_id: str,
        command: Sequence[str],
        *,
        stdin_fd: int | None,
        stdout_fd: int | None,
        stderr_fd: int | None,
        tty: tuple[int, int] | None = None,
    ) -> Session:
        """Start a command with these descriptors (pipes or sockets; they stay the caller's), or with its own pty."""

    async def find_leftovers(self) -> Sequence[Leftover]:
        """What a killed machine left on the host that belongs to no sandbox known here; each can be undone."""
