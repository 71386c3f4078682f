"""The runtime (layer 3): CRI's verbs over sandboxes, containers and images, as `face.Runtime` lists them.

Knows no Pod and no restart policy. Each part does its own: `sandboxes`, `containers`, `execs`, `resize`, `images`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from minipod.config import Config
from minipod.failpoint import reached
from minipod.kernel.sd_notify import ServiceManager
from minipod.names.table import Gone, Pod
from minipod.paths import Paths
from minipod.plan.cgroup import hierarchies
from minipod.plan.configs import CgroupResources, ContainerConfig, HostFacts, SandboxConfig
from minipod.plan.sandbox import namespace_pins
from minipod.runtime import cgroup, leftovers, resize
from minipod.runtime.attachment import Attachment
from minipod.runtime.cgroup import CgroupStats
from minipod.runtime.container import Container
from minipod.runtime.containers import Containers
from minipod.runtime.ended import settle
from minipod.runtime.execs import OUTPUT_LIMIT, Execs, ExecSession
from minipod.runtime.images.store import ImageStore
from minipod.runtime.kept import Kept
from minipod.runtime.leftovers import Leftover
from minipod.runtime.network import Network
from minipod.runtime.offload import off_loop, slowly_off_loop
from minipod.runtime.sandboxes import Sandboxes
from minipod.runtime.spawner.client import ChildExit
from minipod.runtime.spawner.versions import Spawners
from minipod.runtime.status import ContainerState, ContainerStatus, ExecResult, SandboxStatus

if TYPE_CHECKING:
    from minipod.runtime.inspection import ContainerInspection, SandboxInspection

log = logging.getLogger(__name__)


class Runtime:
    """One instance's runtime. All methods run on the event loop of `open`."""

    def __init__(self, paths: Paths, config: Config, facts: HostFacts, manager: ServiceManager | None = None) -> None:
        """`manager`: the service manager that keeps the output of containers, where there is one."""
        self.on_exit: Callable[[ContainerStatus], None] | None = None
        self.on_loss: Callable[[SandboxConfig, str, str], None] | None = None
        self.images = ImageStore(paths, config.image_directories)
        self._paths = paths
        self._facts = facts
        self._spawners = Spawners(paths, self._child_ended, self._spawner_lost, hierarchies(facts))
        self._network = Network(paths, config, on_names=self._spawners.separate)
        self._sandboxes = Sandboxes(paths, facts, self._network, self._spawners)
        self._execs = Execs(self._spawners, facts, paths)
        self._containers = Containers(
            paths,
            config,
            facts,
            self.images,
            self._sandboxes,
            self._spawners,
            self._report,
            self._execs.forget,
            self._lose,
            Kept(manager or ServiceManager()),
        )

    async def open(self) -> None:
        self._spawners.open()
        self._sandboxes.load()
        await self._containers.open()
        reached("agent.adopted")

    async def close(self) -> None:
        await self._containers.close()
        await self._execs.close()
        self._spawners.close()

    def _child_ended(self, ended: ChildExit) -> None:
        if not self._containers.child_ended(ended):
            self._execs.ended(ended)

    def _report(self, status: ContainerStatus) -> None:
        if self.on_exit is not None:
            self.on_exit(status)

    def _spawner_lost(self) -> None:
        self._containers.spawner_lost()
        self._execs.spawner_lost()

    def _lose(self, container: Container, what: str) -> None:
        log.warning("container %s: %s", container.status.id[:12], what)
        if self.on_loss is not None:
            self.on_loss(container.record.sandbox, container.status.config.name, what)

    # --- sandboxes ---------------------------------------------------------------------------------------------------

    async def run_pod_sandbox(self, config: SandboxConfig, warn: Callable[[str], None] | None = None) -> SandboxStatus:
        return await self._sandboxes.run(config, warn)

    async def stop_pod_sandbox(self, sandbox_id: str) -> None:
        if self._sandboxes.is_stopped(sandbox_id):
            return
        containers = self._containers.of(sandbox_id)
        running = [c.status.id for c in containers if c.status.state == ContainerState.RUNNING]
        await asyncio.gather(*map(self._containers.kill, running))
        for container in self._containers.of(sandbox_id):
            await off_loop(cgroup.remove, self._containers.cgroup(container), self._facts)
        await self._sandboxes.stop(sandbox_id)

    async def remove_pod_sandbox(self, sandbox_id: str) -> None:
        await self.stop_pod_sandbox(sandbox_id)
        for container in self._containers.of(sandbox_id):
            await self._containers.remove(container.status.id)
        await self._sandboxes.remove(sandbox_id)

    def pod_sandbox_status(self, sandbox_id: str) -> SandboxStatus:
        return self._sandboxes.get(sandbox_id)

    def list_pod_sandboxes(self, pod_uid: str | None = None) -> list[SandboxStatus]:
        return self._sandboxes.statuses(pod_uid)

    def pod_sandbox_stats(self, sandbox_id: str) -> CgroupStats:
        return cgroup.stats(self._sandboxes.get(sandbox_id).config.cgroup_parent, self._facts)

    async def inspect_pod_sandbox(self, sandbox_id: str) -> SandboxInspection:
        from minipod.runtime import inspection  # imported late: few are inspected

        status = self._sandboxes.get(sandbox_id)
        pins, pause_pid = namespace_pins(status.config, self._paths), self._sandboxes.pause_pid(sandbox_id)
        group = status.config.cgroup_parent
        return await off_loop(inspection.sandbox, group, pins, pause_pid, status.network, self._facts)

    async def update_pod_sandbox_resources(self, sandbox_id: str, config: SandboxConfig) -> None:
        before = self._sandboxes.get(sandbox_id).config
        resize.update_pod(before.cgroup_parent, before.cgroup_resources, config.cgroup_resources, self._facts)
        self._sandboxes.update_resources(sandbox_id, config)

    def cpu_requests(self, group: str) -> int:
        return self._sandboxes.cpu_requests(group)

    async def keep_names(self) -> None:
        await self._sandboxes.keep_names()

    async def publish_names(self, changes: Sequence[Pod | Gone], *, whole: bool = False) -> None:
        await off_loop(self._network.publish_names, changes, whole)

    # --- containers --------------------------------------------------------------------------------------------------

    async def create_container(self, sandbox_id: str, config: ContainerConfig) -> ContainerStatus:
        return await self._containers.create(sandbox_id, config)

    async def start_container(self, container_id: str) -> ContainerStatus:
        return await self._containers.start(container_id)

    async def stop_container(self, container_id: str, timeout_s: float, signal: str = "") -> ContainerStatus:
        return await self._containers.stop(container_id, timeout_s, signal)

    async def remove_container(self, container_id: str) -> None:
        await self._containers.remove(container_id)

    def container_status(self, container_id: str) -> ContainerStatus:
        return self._containers.get(container_id).status

    def list_containers(self, sandbox_id: str | None = None) -> list[ContainerStatus]:
        return self._containers.statuses(sandbox_id)

    def container_stats(self, container_id: str) -> CgroupStats:
        return cgroup.stats(self._containers.cgroup(self._containers.get(container_id)), self._facts)

    async def inspect_container(self, container_id: str) -> ContainerInspection:
        from minipod.runtime import inspection

        container = self._containers.get(container_id)
        pid = container.status.pid if container.status.state == ContainerState.RUNNING else 0
        return await off_loop(inspection.container, self._containers.cgroup(container), pid, self._facts)

    async def update_container_resources(self, container_id: str, resources: CgroupResources) -> None:
        resize.update_container(self._containers.get(container_id), resources, self._facts)

    # --- what runs in them -------------------------------------------------------------------------------------------

    async def attach(self, container_id: str, whole: bool = False) -> Attachment:
        container = self._containers.get(container_id)
        await settle(container)
        return Attachment(container, self._spawners.close_stdin, whole)

    async def exec_sync(
        self, container_id: str, command: Sequence[str], timeout_s: float = 0, output_limit: int = OUTPUT_LIMIT
    ) -> ExecResult:
        return await self._execs.run(self._containers.get(container_id), tuple(command), timeout_s, output_limit)

    async def exec(
        self,
        container_id: str,
        command: Sequence[str],
        *,
        stdin_fd: int | None,
        stdout_fd: int | None,
        stderr_fd: int | None,
        tty: tuple[int, int] | None = None,
    ) -> ExecSession:
        streams = (("stdin", stdin_fd), ("stdout", stdout_fd), ("stderr", stderr_fd))
        fds = {name: fd for name, fd in streams if fd is not None}
        return await self._execs.start(self._containers.get(container_id), tuple(command), fds, tty)

    # --- leftovers ---------------------------------------------------------------------------------------------------

    async def find_leftovers(self) -> Sequence[Leftover]:
        found = await slowly_off_loop(leftovers.candidates, self._paths, self._facts)
        places = frozenset(self._sandboxes.places())
        owners = leftovers.Owners(self._sandboxes.ids(), self._containers.ids(), places)
        of_network = await slowly_off_loop(leftovers.of_network, self._network, self._sandboxes.ids)
        return [*leftovers.unowned(found, owners), *of_network]
