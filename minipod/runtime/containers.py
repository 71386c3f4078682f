"""The containers of one instance (layer 3): creates, starts, stops, removes them; takes over those of an earlier agent.

    CREATED ──start──▶ RUNNING ──the process ends──▶ EXITED ──remove──▶ gone
       └──────────────start fails──────────────────────▲

`report` is called once for each exit of a running container, after its last log line was written; by `open` also for
those that exited while no agent ran. No policy: nothing is restarted here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import msgspec

from minipod.config import Config
from minipod.errors import ContainerError, ImageError, MinipodError, NotFoundError
from minipod.failpoint import reached
from minipod.kernel.error_text import text_of
from minipod.paths import Paths
from minipod.plan.cgroup import container_cgroup_path
from minipod.plan.configs import ContainerConfig, HostFacts, Image, SandboxConfig
from minipod.plan.container import ContainerPlan
from minipod.plan.process.identity import Exec
from minipod.runtime import cgroup, host_work, records, respawn
from minipod.runtime.cgroup import kept_thawed
from minipod.runtime.container import Container, checked_plan, discard, end_of, signal_number, start_plan
from minipod.runtime.descriptors import ROOM, once_possible
from minipod.runtime.index import Index
from minipod.runtime.joined import joined_process
from minipod.runtime.kept import Kept
from minipod.runtime.logs import ContainerLog
from minipod.runtime.offload import slowly_off_loop
from minipod.runtime.orphans import Orphans
from minipod.runtime.records import ContainerRecord, decode_operations, encode_operations, load_all
from minipod.runtime.regained import pipe_numbers
from minipod.runtime.sandboxes import Sandboxes
from minipod.runtime.spawner.client import ChildExit, Spawned, SpawnError
from minipod.runtime.spawner.versions import Spawners
from minipod.runtime.staged import Stages, recover, staged_folder
from minipod.runtime.start_failure import described
from minipod.runtime.status import ContainerState, ContainerStatus, ContainerUser
from minipod.runtime.tasks import Tasks

_KILL_TIMEOUT_S = 10.0
_DRAIN_TIMEOUT_S = 2.0
_ADOPT_S = 5.0  # for a child to get to exec: an agent that starts waits so long for it

log = logging.getLogger(__name__)


class Images(Protocol):
    """Where a container's image is found."""

    def resolve(self, reference: str) -> Image | None: ...


class Containers:
    """All methods run on the event loop of `open`."""

    def __init__(
        self,
        paths: Paths,
        config: Config,
        facts: HostFacts,
        images: Images,
        sandboxes: Sandboxes,
        spawners: Spawners,
        report: Callable[[ContainerStatus], None],
        forget_commands: Callable[[str], None],
        lose: Callable[[Container, str], None],
        kept: Kept,
    ) -> None:
        """`forget_commands`: called with the id of a container in which no command can run any more. `lose`: with what
        of a container is lost for good.
        """
        self._paths = paths
        self._config = config
        self._facts = facts
        self._images = images
        self._sandboxes = sandboxes
        self._spawners = spawners
        self._report = report
        self._forget_commands = forget_commands
        self._lose = lose
        self._kept = kept
        self._stages = Stages(staged_folder(paths))
        self._tasks = Tasks()
        self._lingering = Tasks()  # until there is space for the last lines of a container
        self._orphans = Orphans(spawners, self._tasks.begin, self._finish, lose)
        self._index: Index[Container] = Index(lambda container: container.status.sandbox_id)
        self._making: set[str] = set()  # ids

    # --- lookup ------------------------------------------------------------------------------------------------------

    def get(self, container_id: str) -> Container:
        """Raises NotFoundError."""
        try:
            return self._index[container_id]
        except KeyError:
            raise NotFoundError(f'container "{container_id[:12]}" is not known') from None

    def __iter__(self) -> Iterator[Container]:
        return iter(self._index)

    def of(self, sandbox_id: str) -> list[Container]:
        return self._index.of(sandbox_id)

    def ids(self) -> frozenset[str]:
        """The ids of all, including those that are being created."""
        return self._index.keys() | self._making

    def statuses(self, sandbox_id: str | None = None) -> list[ContainerStatus]:
        """The containers of a sandbox, or all."""
        found = self._index if sandbox_id is None else self._index.of(sandbox_id)
        return [container.status for container in found]

    def cgroup(self, container: Container) -> str:
        return container_cgroup_path(container.record.sandbox.cgroup_parent, container.status.id)

    # --- recovery ----------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Load the records, follow running containers, report those that have exited since."""
        recover(staged_folder(self._paths))
        folder = f"{self._paths.root}/containers"
        for container_id, record in load_all(folder, "container.json", ContainerRecord).items():
            self._index[container_id] = Container(record, f"{folder}/{container_id}")
        children = await self._spawners.children()
        recorded = records.recorded_exits(self._paths)
        for container in self._index:
            if container.status.state == ContainerState.RUNNING:
                await self._take_over(container, children)
            elif container.status.state == ContainerState.CREATED:
                self._tasks.begin(self._adopt(container, children))
            elif container.status.id in children or container.status.id in recorded:
                self._tasks.begin(self._write_rest(container))
        for key, ended in children.items():
            if ended is not None and "." not in key and key not in self._index:
                self._tasks.begin(self._spawners.forget(key))  # the container is removed
        if any(c.pidfd >= 0 and c.status.id not in children for c in self._index):
            await self._orphans.hold(self._index)
        self._kept.close_others({c.status.id for c in self._index if c.status.state == ContainerState.RUNNING})
        await self._tasks.done()  # before the first request, so that it sees these starts and exits

    async def close(self) -> None:
        """The agent exits: containers, their pipes and their spawner stay."""
        await self._tasks.cancel()
        await self._lingering.cancel()
        for container in self._index:
            container.release()
            self._forget_commands(container.status.id)
        self._stages.remove()

    async def _take_over(self, container: Container, children: Mapping[str, ChildExit | None]) -> None:
        """Follow a container that ran when the last agent ended. `children`: those of the spawners."""
        container_id = container.status.id
        ended = children.get(container_id)
        fds = await self._spawners.reattach(container_id)
        if ended is None:
            ended = records.recorded_exit(self._paths, container_id)
        if not fds:
            fds = self._kept.take(container_id, container.record.pipes)
            if ended is None and container.status.pid in (pids := self._pids(container)):
                self._orphans.regain(container, pids, fds)
        self._attach(container, fds)
        if ended is not None:
            self._tasks.begin(self._finish(container, ended))
        elif container.pidfd < 0:
            self._tasks.begin(self._finish(container, None))
        else:
            cgroup.complete(self.cgroup(container), self._facts)

    async def _adopt(self, container: Container, children: Mapping[str, ChildExit | None]) -> None:
        """A container that the last agent created: completes its start, where a spawner has the process or its end.

        Where none has, it was never started and stays created. What does not get to exec in time, as on a mount that
        never answers, has not run yet: it is killed, and stays created too.
        """
        container_id = container.status.id
        if container_id not in children:
            await self._adopt_end(container)
            return
        try:
            async with asyncio.timeout(_ADOPT_S):
                spawned = await self._spawners.adopt(container_id)
        except (SpawnError, TimeoutError) as error:
            log.warning(
                "container %s: its start was interrupted: %s", container_id[:12], text_of(error) or "no exec yet"
            )
            cgroup.kill_each(self.cgroup(container), self._facts)
            await self._spawners.forget(container_id)
            return
        container.early_exit = container.early_exit or children[container_id]
        self._started(container, spawned)
        cgroup.complete(self.cgroup(container), self._facts)

    async def _adopt_end(self, container: Container) -> None:
        """Its spawner is gone as well: a record of its end is all that can be known of it."""
        ended = records.recorded_exit(self._paths, container.status.id)
        path = self.cgroup(container)
        if ended is not None:
            container.update(state=ContainerState.RUNNING, pid=ended.pid, started_at_ns=ended.started_at_ns)
            await self._finish(container, ended)
        elif cgroup.populated(path, self._facts):
            cgroup.kill_each(path, self._facts)

    def _pids(self, container: Container) -> list[int]:
        """A pid that is in the container's cgroup was not reused."""
        return cgroup.pids(self.cgroup(container), self._facts)

    # --- creation ----------------------------------------------------------------------------------------------------

    async def create(self, sandbox_id: str, config: ContainerConfig) -> ContainerStatus:
        """Prepare the host for the container. Raises ImageError; ContainerError, also if the image lacks its user.

        After an error everything is undone; failures of that are in the error's notes.
        """
        ROOM.expect(config.id)
        try:
            return await self._create(sandbox_id, config)
        except BaseException:
            ROOM.settle(config.id)
            raise

    async def _create(self, sandbox_id: str, config: ContainerConfig) -> ContainerStatus:
        sandbox = self._sandboxes.get(sandbox_id).config
        image, plan = await host_work.look_at_image(config.image, self._plan_of_new, config, sandbox)
        launch = plan.child[-1]
        assert isinstance(launch, Exec)
        status = ContainerStatus(
            id=config.id,
            sandbox_id=sandbox_id,
            config=config,
            state=ContainerState.CREATED,
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
        self._making.add(config.id)
        try:
            container.save()
            reached("container.saved")
            await host_work.execute(plan.host)
            reached("container.made")
        except (OSError, MinipodError) as error:
            reason = error.reason if isinstance(error, ContainerError) else "CreateContainerError"
            failure = ContainerError(text_of(error), reason)
            notes = await slowly_off_loop(_undo, container)
            discard(container, notes)
            for note in notes:
                failure.add_note(note)
            raise failure from error
        finally:
            self._making.discard(config.id)
        self._index[config.id] = container
        return status

    def _plan_of_new(self, config: ContainerConfig, sandbox: SandboxConfig) -> tuple[Image, ContainerPlan]:
        image = self._image(config.image)
        return image, checked_plan(config, sandbox, image, self._facts, self._paths)

    def _plan_of_start(self, record: ContainerRecord) -> ContainerPlan:
        image = self._image(record.status.image_id)  # by its id: since create the name may have come to mean another
        return start_plan(record, image, self._facts, self._paths)

    def _image(self, reference: str) -> Image:
        image = self._images.resolve(reference)
        if image is None:
            raise ImageError(f'image "{reference}" is not in the store')
        return image

    # --- start -------------------------------------------------------------------------------------------------------

    async def start(self, container_id: str) -> ContainerStatus:
        """Fork and exec. Raises ContainerError (RunContainerError): the container is then exited, StartError, 128."""
        container = self.get(container_id)
        if container.status.state != ContainerState.CREATED:
            raise ContainerError(f'container "{container_id[:12]}" was started already', "RunContainerError")
        try:
            plan = await host_work.look_at_image(container.status.image_id, self._plan_of_start, container.record)
            container.log = self._log_of(container)
            await container.log.open()
            losses = self._spawners.losses
            spawned = await respawn.spawned(
                lambda: self._spawn(container, plan),
                self.cgroup(container),
                self._facts,
                has_terminal=container.status.config.tty,
            )
        except (SpawnError, ContainerError, ImageError, OSError) as error:
            ROOM.settle(container_id)
            message = described(error, self.cgroup(container), self._facts)
            if cgroup.oom_kills(self.cgroup(container), self._facts):
                message += ": out of memory, its memory limit is too low: raise resources.limits.memory"
            container.release()
            container.fail_to_start(message)
            if isinstance(error, SpawnError) and not error.operation:
                await self._kill_unreported(container)
            reason = error.reason if isinstance(error, ContainerError) else "RunContainerError"
            raise ContainerError(message, reason) from error
        reached("container.spawned")
        self._started(container, spawned)
        ROOM.settle(container_id)
        if self._spawners.losses != losses:  # it died after its answer: `spawner_lost` came before this one ran
            if container.status.config.stdin and "stdin" not in container.held:
                self._lose(container, "the spawner died while it started: its standard input has ended")
            self._tasks.begin(self._orphans.hold([container]))
        reached("container.started")
        return container.status

    async def _spawn(self, container: Container, plan: ContainerPlan) -> Spawned:
        status, config = container.status, container.status.config
        ROOM.expect(status.id)
        with joined_process(config, status.sandbox_id, self._sandboxes, self._index) as fds:
            return await self._spawners.current.spawn(
                status.id,
                plan.clone,
                list(plan.child),
                stdio="terminal" if config.tty else "pipes",
                stdin=config.stdin,
                fds=fds,
            )

    def _started(self, container: Container, spawned: Spawned) -> None:
        """Records the start of its process and follows it."""
        facts = spawned.facts
        user = ContainerUser(facts["uid"], facts["gid"], tuple(facts["groups"]))
        container.record = msgspec.structs.replace(
            container.record, home=facts["home"], root=tuple(facts["root"]), pipes=pipe_numbers(spawned.fds)
        )
        container.update(state=ContainerState.RUNNING, pid=spawned.pid, started_at_ns=spawned.started_at_ns, user=user)
        reached("container.running")
        self._kept.store(container.status.id, spawned.fds)
        self._attach(container, spawned.fds)
        if container.early_exit is not None:
            self._tasks.begin(self._finish(container, container.early_exit))

    async def _kill_unreported(self, container: Container) -> None:
        """The child may run although the start failed: its answer came without its descriptors (MSG_CTRUNC)."""
        cgroup.kill(self.cgroup(container), self._facts)
        await self._spawners.forget(container.status.id)

    def _log_of(self, container: Container) -> ContainerLog:
        config, path = self._config, container.status.log_path
        return ContainerLog(path, config.log_max_size, config.log_max_files, container.directory, self._stages)

    def _attach(self, container: Container, fds: dict[str, int]) -> None:
        """Take over what the spawner holds of a running container and follow its output."""
        container.pidfd = fds.pop("pidfd", -1)
        if container.log is None:
            container.log = self._log_of(container)
        if "terminal" in fds:
            container.held["terminal"] = os.dup(fds["terminal"])
            container.log.add(fds.pop("terminal"), "stdout")
        for stream in ("stdout", "stderr"):
            if stream in fds:
                container.log.add(fds.pop(stream), stream)
            elif "terminal" not in container.held:
                container.log.add_rest(stream)
        container.held.update(fds)

    # --- stop and removal --------------------------------------------------------------------------------------------

    async def stop(self, container_id: str, timeout_s: float, signal: str = "") -> ContainerStatus:
        """Send the stop signal, after `timeout_s` SIGKILL. Returns once it has exited. No effect on exited ones."""
        container = self.get(container_id)
        if container.status.state == ContainerState.RUNNING and timeout_s > 0:
            container.send_signal(signal_number(signal or container.record.stop_signal))
            reached("container.signalled")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await container.ended.wait()
        return await self.kill(container_id)

    async def kill(self, container_id: str) -> ContainerStatus:
        """SIGKILL at once; returns when it has ended. Raises ContainerError for a process that can't be killed."""
        container = self.get(container_id)
        if container.status.state == ContainerState.RUNNING:
            container.send_signal(9)
            try:
                async with kept_thawed(self.cgroup(container), self._facts), asyncio.timeout(_KILL_TIMEOUT_S):
                    await container.ended.wait()
            except TimeoutError:
                raise ContainerError(
                    f"process {container.status.pid} does not end by SIGKILL: see /proc/{container.status.pid}/stack",
                    "FailedKillPod",
                ) from None
        return container.status

    async def remove(self, container_id: str) -> None:
        """Kill it if need be and remove everything of it but its log. Idempotent."""
        ROOM.settle(container_id)
        container = self._index.get(container_id)
        if container is None:
            return
        await self.kill(container_id)
        if container.unsaved:
            await self._spawners.forget(container_id)
        failures = await slowly_off_loop(_undo, container)
        reached("container.undone")
        discard(container, failures)
        reached("container.removed")
        if failures:
            raise ContainerError("removing the container: " + "; ".join(failures), "FailedKillPod")
        self._index.pop(container_id)

    # --- ends --------------------------------------------------------------------------------------------------------

    def child_ended(self, ended: ChildExit) -> bool:
        """Handles an exit that a spawner reports; False if it is of no container."""
        container = self._index.get(ended.key)
        if container is None:
            return False
        reached("container.exit-seen")
        if container.status.state == ContainerState.RUNNING:
            self._tasks.begin(self._finish(container, ended))
        else:
            container.early_exit = ended
        return True

    async def _finish(self, container: Container, ended: ChildExit | None) -> None:
        """Complete an exit: log, reason, record, then the report. `ended` None: the exit status is unknown."""
        out_of_memory = await once_possible(lambda: self._end_group(self.cgroup(container)))
        log = await self._end_log(container)
        reached("container.exit-logged")
        self._forget_commands(container.status.id)
        container.update(**end_of(ended, out_of_memory, time.time_ns()))
        if container.status.reason == "ContainerStatusUnknown":
            lost = "is lost" if self._kept.has(container.status.id) else "and last output are lost"
            self._lose(container, f"agent and spawner were dead when it ended: exit code {lost}")
        self._kept.forget(container.status.id)
        reached("container.exit-saved")
        container.ended.set()
        await self._forget(container, log)
        reached("container.exit-forgotten")
        self._report(container.status)
        reached("container.exit-reported")

    def _end_group(self, path: str) -> bool:
        """Kills what outlived the first process, in a shared PID namespace. Returns whether it was out of memory."""
        out_of_memory = cgroup.oom_kills(path, self._facts) > 0
        if cgroup.populated(path, self._facts):
            cgroup.kill(path, self._facts)
        return out_of_memory

    async def _end_log(self, container: Container) -> ContainerLog | None:
        """Writes its last lines and releases what it holds. Returns the log where there is no space for them yet."""
        log, container.log = container.log, None
        written = log is None or await log.finish(_DRAIN_TIMEOUT_S)
        container.release()
        return None if written else log

    async def _forget(self, container: Container, log: ContainerLog | None) -> None:
        """The spawner keeps exit and output for the next agent as long as the disk has room for neither."""
        if log is not None:
            self._lingering.begin(self._forget_when_written(container, log))
        elif not container.unsaved:
            await self._spawners.forget(container.status.id)

    async def _forget_when_written(self, container: Container, log: ContainerLog) -> None:
        await log.until_written()
        await self._forget(container, None)

    async def _write_rest(self, container: Container) -> None:
        """Its end is saved; the last agent may have ended before there was space for its last lines."""
        self._attach(container, await self._spawners.reattach(container.status.id))
        await self._forget(container, await self._end_log(container))

    def spawner_lost(self) -> None:
        """A spawner has died: its children are init's now."""
        self._tasks.begin(self._orphans.hold(self._index))


def _undo(container: Container) -> list[str]:
    """Undo its operations, last first. Returns the failures."""
    failures = []
    for operation in reversed(decode_operations(container.record.operations)):
        try:
            operation.undo()
            reached("undone", operation)
        except OSError as error:
            failures.append(f"{type(operation).__name__}: {text_of(error)}")
    return failures
