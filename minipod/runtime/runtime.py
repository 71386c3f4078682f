"""The runtime's face (layer 3): CRI's verbs over sandboxes, containers and images. Knows no Pod and no restart policy.

`on_exit` is called once for every end of a container that was told as running, when its last log line is in the file;
also, by `open`, for those that ended while no agent ran.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import msgspec

from minipod.config import Config
from minipod.errors import ContainerError, ImageError, MinipodError, NotFoundError, utf8
from minipod.kernel import process
from minipod.paths import Paths
from minipod.plan.cgroup import container_cgroup_path
from minipod.plan.configs import CgroupResources, ContainerConfig, HostFacts, Image, SandboxConfig
from minipod.plan.process.identity import Exec
from minipod.runtime import cgroup, host_work, resize
from minipod.runtime.attachment import Attachment
from minipod.runtime.cgroup import CgroupStats, kept_thawed
from minipod.runtime.container import (
    CREATED,
    EXITED,
    RUNNING,
    Container,
    checked_plan,
    signal_number,
    start_plan,
)
from minipod.runtime.execs import OUTPUT_LIMIT, Execs, ExecSession
from minipod.runtime.images.store import ImageStore
from minipod.runtime.index import Index
from minipod.runtime.joined import joined_process
from minipod.runtime.leftovers import Leftover, find_leftovers
from minipod.runtime.logs import ContainerLog
from minipod.runtime.network import Network
from minipod.runtime.offload import off_loop, slowly_off_loop
from minipod.runtime.records import ContainerRecord, decode_operations, encode_operations, load_all
from minipod.runtime.sandboxes import Sandboxes
from minipod.runtime.spawner.client import ChildExit, SpawnError
from minipod.runtime.spawner.versions import Spawners
from minipod.runtime.status import ContainerStatus, ContainerUser, ExecResult, SandboxStatus

_KILL_TIMEOUT_S = 10.0
_DRAIN_TIMEOUT_S = 2.0
_REAP_ATTEMPTS, _REAP_PAUSE_S = 25, 0.02

log = logging.getLogger(__name__)


class Runtime:
    """One instance's runtime. All methods run on the event loop of `open`."""

    def __init__(self, paths: Paths, config: Config, facts: HostFacts) -> None:
        self.on_exit: Callable[[ContainerStatus], None] | None = None
        self.images = ImageStore(paths, config.image_directories)
        self._paths = paths
        self._config = config
        self._facts = facts
        self._network = Network(paths, config)
        self._spawners = Spawners(paths, self._child_ended, self._spawner_lost)
        self._sandboxes = Sandboxes(paths, facts, self._network, self._spawners)
        self._execs = Execs(self._spawners, facts, paths)
        self._containers: Index[Container] = Index(lambda container: container.status.sandbox_id)
        self._tasks: set[asyncio.Task[None]] = set()

    # --- coming and going --------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect to the spawners, load what is saved, go on with what runs, tell what ended meanwhile."""
        self._spawners.open()
        self._sandboxes.load()
        folder = f"{self._paths.root}/containers"
        for container_id, record in load_all(folder, "container.json", ContainerRecord).items():
            self._containers[container_id] = Container(record, f"{folder}/{container_id}")
        children = await self._spawners.children()
        for container in self._containers:
            if container.status.state == RUNNING:
                await self._take_up(container, children)
            elif container.status.state == CREATED and container.status.id in children:
                self._start_was_interrupted(container)
        if self._tasks:  # whoever asks first is told of the ends that came meanwhile
            await asyncio.wait(self._tasks)

    async def close(self) -> None:
        """The agent leaves: containers, their pipes and their spawner go on."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for container in self._containers:
            container.release()
            self._execs.forget(container.status.id)
        self._spawners.close()

    async def _take_up(self, container: Container, children: Mapping[str, ChildExit | None]) -> None:
        """A container that ran when the last agent went. `children`: those that a spawner has."""
        container_id = container.status.id
        ended = children.get(container_id)
        fds = await self._spawners.reattach(container_id)
        if ended is None:
            ended = self._recorded_exit(container_id)
        if not fds and ended is None and self._is_alive(container):
            with contextlib.suppress(ProcessLookupError):
                fds = {"pidfd": os.pidfd_open(container.status.pid)}
        self._attach(container, fds)
        if ended is not None:
            self._begin(self._finish(container, ended))
        elif container.pidfd < 0:
            self._begin(self._finish(container, None))
        else:
            cgroup.complete(self._cgroup(container), self._facts)
            if container_id not in children:
                self._watch(container)

    def _start_was_interrupted(self, container: Container) -> None:
        """The agent died between the fork and the note of it: nobody knows this process, so it ends."""
        cgroup.kill(self._cgroup(container), self._facts)
        container.fail_to_start("the agent ended while the container was being started")
        self._begin(self._spawners.forget(container.status.id))

    def _recorded_exit(self, container_id: str) -> ChildExit | None:
        try:
            with open(f"{self._paths.root}/exits/{container_id}", "rb") as file:
                return msgspec.json.decode(file.read(), type=ChildExit)
        except (FileNotFoundError, msgspec.MsgspecError):
            return None

    def _is_alive(self, container: Container) -> bool:
        """Whether its pid is still its own: the process is in the container's cgroup."""
        return container.status.pid in cgroup.pids(self._cgroup(container), self._facts)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- sandboxes ---------------------------------------------------------------------------------------------------

    async def run_pod_sandbox(self, config: SandboxConfig, warn: Callable[[str], None] | None = None) -> SandboxStatus:
        """`warn` is told what its user should know. Raises SandboxError; then nothing of it is left."""
        return await self._sandboxes.run(config, warn)

    async def stop_pod_sandbox(self, sandbox_id: str) -> None:
        """Kill what runs in it, then take its namespaces, network and mounts away. Idempotent."""
        if self._sandboxes.is_stopped(sandbox_id):
            return
        running = [c for c in self._containers.of(sandbox_id) if c.status.state == RUNNING]
        await asyncio.gather(*(self.kill_container(c.status.id) for c in running))
        for container in self._containers.of(sandbox_id):
            await off_loop(cgroup.remove, self._cgroup(container), self._facts)
        await self._sandboxes.stop(sandbox_id)

    async def remove_pod_sandbox(self, sandbox_id: str) -> None:
        """Stop it if need be, remove its containers and its record. Idempotent."""
        await self.stop_pod_sandbox(sandbox_id)
        for container in self._containers.of(sandbox_id):
            await self.remove_container(container.status.id)
        await self._sandboxes.remove(sandbox_id)

    def pod_sandbox_status(self, sandbox_id: str) -> SandboxStatus:
        return self._sandboxes.get(sandbox_id)

    def list_pod_sandboxes(self, pod_uid: str | None = None) -> list[SandboxStatus]:
        """Those of a pod, or all."""
        return self._sandboxes.statuses(pod_uid)

    def cpu_requests(self, group: str) -> int:
        """What the sandboxes that are ready below this cgroup request together, in thousandths of a CPU."""
        return self._sandboxes.cpu_requests(group)

    # --- containers --------------------------------------------------------------------------------------------------

    async def create_container(self, sandbox_id: str, config: ContainerConfig) -> ContainerStatus:
        """Prepare what is on the host. Raises ImageError, ContainerError: also where the image has no such user."""
        sandbox = self._sandboxes.get(sandbox_id).config
        image = self._image(config.image)
        plan = await off_loop(checked_plan, config, sandbox, image, self._facts, self._paths)
        launch = plan.child[-1]
        assert isinstance(launch, Exec)
        status = ContainerStatus(
            id=config.id,
            sandbox_id=sandbox_id,
            config=config,
            state=CREATED,
            image_id=image.id,
            image_ref=image.repo_digest or image.digest or image.reference,
            created_at_ns=time.time_ns(),
            log_path=f"{sandbox.log_directory}/{config.log_path}",
        )
        record = ContainerRecord(
            status=status,
            sandbox=sandbox,
            operations=msgspec.Raw(encode_operations(plan.host)),
            environment=launch.env,
            cwd=config.working_dir or image.config.working_dir or "/",
            stop_signal=config.stop_signal or image.config.stop_signal,
        )
        container = Container(record, f"{self._paths.root}/containers/{config.id}")
        try:
            container.save()
            await host_work.execute(plan.host)
        except (OSError, MinipodError) as error:
            words = _words(error) if isinstance(error, OSError) else str(error)
            reason = error.reason if isinstance(error, ContainerError) else "CreateContainerError"
            failure = ContainerError(words, reason)
            notes = await slowly_off_loop(self._undo, container)
            self._forget(container, notes)
            for note in notes:
                failure.add_note(note)
            raise failure from error
        self._containers[config.id] = container
        return status

    def _image(self, reference: str) -> Image:
        image = self.images.resolve(reference)
        if image is None:
            raise ImageError(f'image "{reference}" is not in the store')
        return image

    async def start_container(self, container_id: str) -> ContainerStatus:
        """Fork and exec. Raises ContainerError (RunContainerError): the container is then exited, StartError, 128."""
        container = self._get(container_id)
        if container.status.state != CREATED:
            raise ContainerError(f'container "{container_id[:12]}" was started already', "RunContainerError")
        config, status = container.status.config, container.status
        try:
            image = self._image(status.image_id)  # by its id: since create the name may have come to mean another
            plan = await off_loop(start_plan, container.record, image, self._facts, self._paths)
            container.log = self._open_log(container)
            with joined_process(config, status.sandbox_id, self._sandboxes, self._containers) as fds:
                spawned = await self._spawners.current.spawn(
                    container_id,
                    plan.clone,
                    list(plan.child),
                    stdio="terminal" if config.tty else "pipes",
                    stdin=config.stdin,
                    fds=fds,
                )
        except (SpawnError, ContainerError, ImageError, OSError) as error:
            message = _words(error) if isinstance(error, OSError) else str(error)
            if cgroup.oom_kills(self._cgroup(container), self._facts):
                message += ": out of memory, its memory limit is too low"
            container.release()
            container.fail_to_start(message)
            reason = error.reason if isinstance(error, ContainerError) else "RunContainerError"
            raise ContainerError(message, reason) from error
        facts = spawned.facts
        user = ContainerUser(facts["uid"], facts["gid"], tuple(facts["groups"]))
        container.record = msgspec.structs.replace(container.record, home=facts["home"], root=tuple(facts["root"]))
        container.update(state=RUNNING, pid=spawned.pid, started_at_ns=spawned.started_at_ns, user=user)
        self._attach(container, spawned.fds)
        status = container.status
        if container.early_exit is not None:
            self._begin(self._finish(container, container.early_exit))
        return status

    async def update_container_resources(self, container_id: str, resources: CgroupResources) -> None:
        """New limits and weights while it runs. Raises NotFoundError, ContainerError."""
        resize.update_container(self._get(container_id), resources, self._facts)

    async def update_pod_sandbox_resources(self, sandbox_id: str, config: SandboxConfig) -> None:
        """The same for the pod's own group: `config` says how it is to be. Raises NotFoundError, ContainerError."""
        before = self._sandboxes.get(sandbox_id).config
        resize.update_pod(before.cgroup_parent, before.cgroup_resources, config.cgroup_resources, self._facts)
        self._sandboxes.update_resources(sandbox_id, config)

    def container_stats(self, container_id: str) -> CgroupStats:
        """What its group uses now. Raises NotFoundError."""
        return cgroup.stats(self._cgroup(self._get(container_id)), self._facts)

    def pod_sandbox_stats(self, sandbox_id: str) -> CgroupStats:
        """The same of the whole pod. Raises NotFoundError."""
        return cgroup.stats(self._sandboxes.get(sandbox_id).config.cgroup_parent, self._facts)

    def attach(self, container_id: str) -> Attachment:
        """Its standard streams as they go on. Raises NotFoundError, ContainerError: it is not running."""
        return Attachment(self._get(container_id), self._spawners.close_stdin)

    def _open_log(self, container: Container) -> ContainerLog:
        return ContainerLog(
            container.status.log_path, self._config.log_max_size, self._config.log_max_files, container.directory
        )

    def _attach(self, container: Container, fds: dict[str, int]) -> None:
        """Take over what the spawner holds of a running container and follow its output."""
        container.pidfd = fds.pop("pidfd", -1)
        if container.log is None:
            container.log = self._open_log(container)
        if "terminal" in fds:
            container.held["terminal"] = os.dup(fds["terminal"])
            container.log.add(fds.pop("terminal"), "stdout")
        for stream in ("stdout", "stderr"):
            if stream in fds:
                container.log.add(fds.pop(stream), stream)
        container.held.update(fds)

    async def stop_container(self, container_id: str, timeout_s: float, signal: str = "") -> ContainerStatus:
        """The stop signal, `timeout_s` of patience, KILL. Returns when it has ended; one that has is left alone."""
        container = self._get(container_id)
        if container.status.state == RUNNING and timeout_s > 0:
            container.send_signal(signal_number(signal or container.record.stop_signal))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await container.ended.wait()
        return await self.kill_container(container_id)

    async def kill_container(self, container_id: str) -> ContainerStatus:
        """KILL at once; returns when it has ended. Raises ContainerError for a process that can't be killed."""
        container = self._get(container_id)
        if container.status.state == RUNNING:
            container.send_signal(9)
            try:
                async with kept_thawed(self._cgroup(container), self._facts), asyncio.timeout(_KILL_TIMEOUT_S):
                    await container.ended.wait()
            except TimeoutError:
                raise ContainerError(
                    f"process {container.status.pid} does not end by SIGKILL: see /proc/{container.status.pid}/stack",
                    "FailedKillPod",
                ) from None
        return container.status

    async def remove_container(self, container_id: str) -> None:
        """Kill it if need be and take everything of it away but its log. Idempotent."""
        container = self._containers.get(container_id)
        if container is None:
            return
        await self.kill_container(container_id)
        if container.unsaved:
            await self._spawners.forget(container_id)
        failures = await slowly_off_loop(self._undo, container)
        self._forget(container, failures)
        if failures:
            raise ContainerError("removing the container: " + "; ".join(failures), "FailedKillPod")
        self._containers.pop(container_id)

    @staticmethod
    def _undo(container: Container) -> list[str]:
        """Undo its operations; gives what could not be taken away."""
        failures = []
        for operation in reversed(decode_operations(container.record.operations)):
            try:
                operation.undo()
            except OSError as error:
                failures.append(f"{type(operation).__name__}: {_words(error)}")
        return failures

    @staticmethod
    def _forget(container: Container, failures: Sequence[str]) -> None:
        """Close what it holds; its record stays while something of it could not be taken away."""
        container.release()
        if not failures:
            for name in ("container.json", "stdout.partial", "stderr.partial"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(f"{container.directory}/{name}")
            with contextlib.suppress(OSError):
                os.rmdir(container.directory)

    def container_status(self, container_id: str) -> ContainerStatus:
        return self._get(container_id).status

    def list_containers(self, sandbox_id: str | None = None) -> list[ContainerStatus]:
        """Those of a sandbox, or all."""
        found = self._containers if sandbox_id is None else self._containers.of(sandbox_id)
        return [container.status for container in found]

    async def reopen_container_log(self, container_id: str) -> None:
        container = self._get(container_id)
        if container.log is not None:
            container.log.reopen()

    def _get(self, container_id: str) -> Container:
        try:
            return self._containers[container_id]
        except KeyError:
            raise NotFoundError(f'container "{container_id[:12]}" is not known') from None

    def _cgroup(self, container: Container) -> str:
        return container_cgroup_path(container.record.sandbox.cgroup_parent, container.status.id)

    # --- ends --------------------------------------------------------------------------------------------------------

    def _child_ended(self, ended: ChildExit) -> None:
        container = self._containers.get(ended.key)
        if container is None:
            self._execs.ended(ended)
        elif container.status.state == RUNNING:
            self._begin(self._finish(container, ended))
        else:
            container.early_exit = ended

    async def _finish(self, container: Container, ended: ChildExit | None) -> None:
        """Make an end known: the last log lines, the reason, the record, then the caller. None: nobody knows how."""
        path = self._cgroup(container)
        out_of_memory = cgroup.oom_kills(path, self._facts) > 0
        if cgroup.populated(path, self._facts):
            cgroup.kill(path, self._facts)  # what outlived its first process in a shared PID namespace
        if container.log is not None:
            await container.log.finish(_DRAIN_TIMEOUT_S)
            container.log = None
        container.release()
        self._execs.forget(container.status.id)
        if ended is None:
            code, number, finished_at_ns = 137, 0, time.time_ns()
            reason, message = "ContainerStatusUnknown", "it ended while nobody could see how"
        else:
            code, number, finished_at_ns, message = ended.code, ended.signal, ended.finished_at_ns, ""
            reason = "OOMKilled" if out_of_memory else "Completed" if code == 0 else "Error"
        end = {"exit_code": code, "signal": number, "reason": reason, "message": message}
        container.update(state=EXITED, finished_at_ns=finished_at_ns, **end)
        container.ended.set()
        if not container.unsaved:  # else the next agent has to ask how it ended
            await self._spawners.forget(container.status.id)
        if self.on_exit is not None:
            self.on_exit(container.status)

    def _spawner_lost(self) -> None:
        """Its children live on as init's: hand what we hold to the new spawner, and see their ends by pidfd."""
        for container in self._containers:
            if container.status.state == RUNNING and container.pidfd >= 0 and not container.watched:
                self._watch(container)

    def _watch(self, container: Container) -> None:
        container.watched = True
        loop = asyncio.get_running_loop()
        loop.add_reader(container.pidfd, self._orphan_ended, container)
        log.warning("container %s has lost its spawner and is watched by its pidfd", container.status.id[:12])

    def _orphan_ended(self, container: Container) -> None:
        asyncio.get_running_loop().remove_reader(container.pidfd)
        self._begin(self._finish_orphan(container))

    async def _finish_orphan(self, container: Container) -> None:
        """Between its end and its being reaped by init there may be a moment in which nothing tells the status."""
        ended_at_ns, ended = time.time_ns(), None
        for _ in range(_REAP_ATTEMPTS):
            status = process.exit_status(container.pidfd, container.status.pid)
            if status is not None:
                number = status & 0x7F
                code = 128 + number if number else status >> 8
                ended = ChildExit(container.status.id, container.status.pid, code, number, 0, ended_at_ns)
                break
            await asyncio.sleep(_REAP_PAUSE_S)
        await self._finish(container, ended)

    # --- exec --------------------------------------------------------------------------------------------------------

    async def exec_sync(
        self, container_id: str, command: Sequence[str], timeout_s: float = 0, output_limit: int = OUTPUT_LIMIT
    ) -> ExecResult:
        """Run a command to its end. Raises TimeoutError (the command is killed), ContainerError.

        What it has left running may hold its streams open: that is waited for only shortly. `output_limit`: bytes of
        each stream that are kept.
        """
        container = self._get(container_id)
        return await self._execs.run(container, tuple(command), timeout_s, output_limit)

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
        """Start a command with these descriptors (pipes or sockets; not taken over), or with a pty of its own."""
        container = self._get(container_id)
        streams = (("stdin", stdin_fd), ("stdout", stdout_fd), ("stderr", stderr_fd))
        fds = {name: fd for name, fd in streams if fd is not None}
        return await self._execs.start(container, tuple(command), fds, tty)

    # --- leftovers ---------------------------------------------------------------------------------------------------

    def find_leftovers(self) -> Sequence[Leftover]:
        """What a killed machine left on the host that belongs to no sandbox known here; each can be undone."""
        return find_leftovers(
            self._paths, self._facts, self._network, self._sandboxes.statuses(), self.list_containers()
        )


def _words(error: OSError) -> str:
    text = (error.strerror or str(error)).lower()
    return utf8(f"{error.filename}: {text}" if error.filename else text)
