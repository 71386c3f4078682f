"""Executes the lifecycle's actions for one pod (layer 5): volumes, sandbox, containers. Decides nothing.

Each action is answered by the events that `lifecycle.model` names in its docstring, errors included. The state of the
host is read from the runtime and not kept here, so that the same code works after a restart of the agent.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

import msgspec

from minipod.agent.events import PodReference
from minipod.agent.node import Node
from minipod.agent.pods import pulls, termination
from minipod.agent.pods.steps import Step
from minipod.agent.probes import hooks
from minipod.agent.specs import container_spec
from minipod.api.types import EphemeralContainer, Pod
from minipod.errors import ContainerError, HostError, ImageError, MinipodError, NotFoundError
from minipod.failpoint import reached
from minipod.kernel.error_text import text_of
from minipod.lifecycle import model
from minipod.lifecycle.values import User
from minipod.plan.cgroup import burstable_cgroup, set_burstable_shares
from minipod.plan.configs import ContainerConfig, Image
from minipod.plan.operation import HostOperation
from minipod.plan.pod import pod_warnings
from minipod.plan.resources import shares
from minipod.plan.volumes.mounted import MountImage
from minipod.plan.volumes.sources import host_paths, volume_path
from minipod.runtime import host_work
from minipod.runtime.offload import slowly_off_loop
from minipod.runtime.status import ContainerState, ContainerStatus, SandboxState, SandboxStatus

log = logging.getLogger("minipod.agent")

NS = 1e9


class Executor:
    """Executes the actions of one pod. `report` takes the results as events; `pod` returns the current object."""

    def __init__(self, node: Node, uid: str, pod: Callable[[], Pod], report: Callable[[model.Event], None]) -> None:
        self._node = node
        self._uid = uid
        self._pod = pod
        self._report = report
        self._reading: set[asyncio.Future[None]] = set()  # ends whose message is being read from the log

    async def execute(self, action: model.Action) -> None:
        """Runs one action to its end and reports its result. Raises nothing but CancelledError."""
        try:
            await self._do(action)
        except Exception as error:
            if not isinstance(error, (MinipodError, OSError)):
                log.exception("pod %s: %s", self._pod().metadata.name, type(action).__name__)
            answer = _failure(action, text_of(error), self._node.clock())
            if answer is not None:
                self._report(answer)

    def _do(self, action: model.Action) -> Awaitable[None]:
        match action:
            case model.SetUpVolumes():
                return self._set_up_volumes()
            case model.CreateSandbox(attempt=attempt):
                return self._create_sandbox(attempt)
            case model.StartContainer():
                return self._start_container(action)
            case model.KillContainer(name=name, container_id=container_id, grace_s=grace_s):
                return self._kill_container(name, container_id, grace_s)
            case model.RunHook():
                return self._run_hook(action)
            case model.ResizePod():
                return self._resize()
            case model.RemoveContainer(container_id=container_id):
                return self._node.runtime.remove_container(container_id)
            case model.StopSandbox(id=sandbox_id):
                return self._stop_sandbox(sandbox_id)
            case model.TearDown():
                return self._tear_down()
            case _:
                raise TypeError(f"no such action: {action!r}")

    # -- the pod's sandboxes and containers ---------------------------------------------------------------------

    def sandboxes(self) -> list[SandboxStatus]:
        """The runtime's sandboxes of the pod, newest attempt last."""
        return sorted(self._node.runtime.list_pod_sandboxes(self._uid), key=lambda found: found.config.attempt)

    def containers(self) -> list[ContainerStatus]:
        """The runtime's containers of the pod, newest attempt last."""
        sandboxes = self._node.runtime.list_pod_sandboxes(self._uid)
        found = [status for sandbox in sandboxes for status in self._node.runtime.list_containers(sandbox.id)]
        return sorted(found, key=lambda status: (status.config.attempt, status.created_at_ns))

    def _sandbox(self) -> SandboxStatus:
        ready = [found for found in self.sandboxes() if found.state == SandboxState.READY]
        if not ready:
            raise NotFoundError(f"pod {self._pod().metadata.name}: its sandbox is gone")
        return ready[-1]

    # -- volumes ------------------------------------------------------------------------------------------------

    async def _set_up_volumes(self) -> None:
        pod = self._pod()
        found = await self._node.find_sources(pod)
        operations = self._node.planner.volume_operations(pod, found)
        # Saved before they are executed: an interrupted set-up is undone completely, as undo is idempotent.
        # After a reboot they are there already, and a full disk prevents nothing.
        data = self._node.planner.encode_operations(operations)
        if data != self._node.store.operations(self._uid):
            self._node.store.put_operations(self._uid, data)
        reached("volumes.recorded")
        await host_work.execute(operations)
        reached("volumes.made")
        await self._node.configuration.write(pod)
        reached("volumes.ready")
        self._report(model.VolumesReady())

    def _operations(self) -> tuple[HostOperation, ...]:
        data = self._node.store.operations(self._uid)
        return () if data is None else self._node.planner.decode_operations(data)

    async def _to_undo(self) -> tuple[HostOperation, ...]:
        """The operations for the volumes; planned anew where the store is damaged. Raises MinipodError."""
        try:
            return self._operations()
        except HostError:
            pod = self._pod()
            return self._node.planner.volume_operations(pod, await self._node.find_sources(pod))

    # -- sandbox ------------------------------------------------------------------------------------------------

    async def _create_sandbox(self, attempt: int) -> None:
        for old in self.sandboxes():
            await self._remove_sandbox(old.id)
        self._warn()
        config = self._node.planner.sandbox_config(self._pod(), attempt)
        status = await self._node.runtime.run_pod_sandbox(config, lambda text: self._report_warning("Network", text))
        self._weigh_burstable()
        self._report(model.SandboxReady(id=status.id, ips=status.ips))

    def _warn(self) -> None:
        """Reports the warnings that the kubelet has for a pod that it starts all the same."""
        for warning in pod_warnings(self._pod(), self._node.config, self._node.facts):
            self._report_warning(warning.reason, warning.message)

    def _report_warning(self, reason: str, message: str) -> None:
        """Records an event, and warns a `run` that waits for the pod."""
        node, metadata = self._node, self._pod().metadata
        reference = PodReference(metadata.namespace, metadata.name, self._uid)
        node.events.note(reference, "Warning", reason, message, node.clock())
        node.pod_steps.publish(self._uid, Step(step="warning", message=message))

    def _weigh_burstable(self) -> None:
        """Gives the Burstable cgroup the CPU shares of all its pods' requests (the kubelet's QoS container manager)."""
        node = self._node
        requested = node.runtime.cpu_requests(burstable_cgroup(node.paths))
        set_burstable_shares(node.paths, node.facts, shares(requested))

    async def _stop_sandbox(self, sandbox_id: str) -> None:
        with contextlib.suppress(NotFoundError):
            await self._node.runtime.stop_pod_sandbox(sandbox_id)
        self._report(model.SandboxStopped(id=sandbox_id))

    async def _remove_sandbox(self, sandbox_id: str) -> None:
        with contextlib.suppress(NotFoundError):
            await self._node.runtime.stop_pod_sandbox(sandbox_id)
            await self._node.runtime.remove_pod_sandbox(sandbox_id)
            self._weigh_burstable()

    async def _tear_down(self) -> None:
        for found in self.sandboxes():
            await self._remove_sandbox(found.id)
        operations = await self._to_undo()
        if operations:
            # In a thread: an emptyDir may contain very many files.
            await slowly_off_loop(_undo, operations)
            reached("volumes.undone")
        with contextlib.suppress(HostError):  # a full disk: what is undone may be undone again
            self._node.store.delete_operations(self._uid)
        reached("volumes.forgotten")
        self._report(model.TornDown())

    # -- containers ---------------------------------------------------------------------------------------------

    async def _start_container(self, action: model.StartContainer) -> None:
        """Images, configuration, creation, start. Each step reports its own failure, after which no other step runs."""
        if not await self._mount_images(action):
            return
        spec = container_spec(self._pod(), action.name)
        own = pulls.Wanted(action.name, spec.image, spec.image_pull_policy)
        image = await self._image(own, action.pull_allowed)
        wanted = None if image is None else self._configure(action, image)
        created = None if wanted is None else await self._create(*wanted)
        if image is None or created is None:
            return
        self._report(
            model.ContainerCreated(
                name=action.name, container_id=created.id, image=image.reference, image_id=image_id(created)
            )
        )
        reached("container.created")
        await self._start(action.name, created.id)

    def _configure(self, action: model.StartContainer, image: Image) -> tuple[SandboxStatus, ContainerConfig] | None:
        try:
            sandbox, pod = self._sandbox(), self._pod()
            sources = self._node.configuration.sources(pod)
            config = self._node.planner.container_config(pod, action.name, action.attempt, image, sandbox, sources)
            return sandbox, self._in_target(config)
        except (MinipodError, OSError, ValueError) as error:
            self._report(_create_failed(action.name, "CreateContainerConfigError", error))
            return None

    async def _create(self, sandbox: SandboxStatus, config: ContainerConfig) -> ContainerStatus | None:
        pod = self._pod()
        try:
            await host_work.execute(host_paths(pod, container_spec(pod, config.name)))
            return await self._node.runtime.create_container(sandbox.id, config)
        except ImageError as error:
            self._report(model.ImageFailed(name=config.name, reason=error.reason, message=text_of(error)))
        except (MinipodError, OSError) as error:
            reason = error.reason if isinstance(error, ContainerError) else "CreateContainerError"
            if reason == ContainerError.reason:
                reason = "CreateContainerError"
            self._report(_create_failed(config.name, reason, error))
        return None

    async def _start(self, name: str, container_id: str) -> None:
        try:
            started = await self._node.runtime.start_container(container_id)
        except (MinipodError, OSError) as error:
            now = self._node.clock()
            self._report(
                model.ContainerStartFailed(name=name, container_id=container_id, at=now, message=text_of(error))
            )
            return
        self._report(
            model.ContainerStarted(
                name=name,
                container_id=started.id,
                pid=started.pid,
                at=started.started_at_ns / NS,
                user=user_of(started),
                image_id=image_id(started),
            )
        )

    async def _resize(self) -> None:
        from minipod.agent.pods import resizing  # imported late: few pods are resized

        reached("resize.began")

        running = [status for status in self.containers() if status.state == ContainerState.RUNNING]
        done = await resizing.resize(self._node, self._pod(), self._sandbox(), running)
        self._weigh_burstable()
        self._report(model.ResizeDone(resized=done))

    def _in_target(self, config: ContainerConfig) -> ContainerConfig:
        """An ephemeral container with targetContainerName starts in the PID namespace of that container."""
        spec = container_spec(self._pod(), config.name)
        target = spec.target_container_name if isinstance(spec, EphemeralContainer) else ""
        security = config.security
        if not target or security.namespaces.pid != "container":
            return config
        containers = [status for status in self.containers() if status.config.name == target]
        found = [status for status in containers if status.state == ContainerState.RUNNING]
        if not found:
            raise NotFoundError(f'unable to find target container "{target}"')
        namespaces = msgspec.structs.replace(security.namespaces, pid="target", target_id=found[-1].id)
        return msgspec.structs.replace(config, security=msgspec.structs.replace(security, namespaces=namespaces))

    async def _image(self, wanted: pulls.Wanted, pull_allowed: bool) -> Image | None:
        """The image, or None once its failure has been reported."""
        try:
            return await pulls.find_image(self._node, self._pod, wanted, pull_allowed, self._report)
        except ImageError as error:
            volume = wanted.reference if wanted.is_volume else ""
            failed = model.ImageFailed(
                name=wanted.container, reason=error.reason, message=text_of(error), reference=volume
            )
            self._report(failed)
            return None

    async def _mount_images(self, action: model.StartContainer) -> bool:
        """Mounts the container's image volumes that are not mounted yet; returns whether the start can continue."""
        mounted = {mount.name for mount in container_spec(self._pod(), action.name).volume_mounts}
        for volume in self._pod().spec.volumes:
            if volume.image is None or volume.name not in mounted:
                continue
            known, path = self._operations(), volume_path(self._pod(), volume, self._node.paths)
            if any(isinstance(operation, MountImage) and operation.path == path for operation in known):
                continue
            source = volume.image
            wanted = pulls.Wanted(action.name, source.reference, source.pull_policy, is_volume=True)
            image = await self._image(wanted, source.reference not in action.no_pull)
            if image is None:
                return False
            operation = MountImage(path, source.reference, image.layers)
            operations = self._node.planner.encode_operations((*known, operation))
            self._node.store.put_operations(self._uid, operations)
            try:
                await host_work.execute([operation])
            except (MinipodError, OSError) as error:
                self._report(_create_failed(action.name, "CreateContainerError", error))
                return False
        return True

    async def _kill_container(self, name: str, container_id: str, grace_s: float) -> None:
        try:
            status = await self._node.runtime.stop_container(container_id, grace_s)
        except NotFoundError:
            # How it ended is unknown (the kubelet's ContainerStatusUnknown).
            self._report(
                model.ContainerExited(
                    name=name,
                    container_id=container_id,
                    exit_code=137,
                    reason="ContainerStatusUnknown",
                    message="The container could not be located when the pod was terminated",
                    finished_at=self._node.clock(),
                )
            )
            return
        if status.state == ContainerState.EXITED:
            self._report_end(status, await termination.message_of(self._pod(), status))

    def report_exit(self, status: ContainerStatus) -> None:
        """Reports the end of a container. It may be reported twice; the core uses the first."""
        if status.state != ContainerState.EXITED:
            return
        message = termination.message_in_file(self._pod(), status)
        if message is not None:
            self._report_end(status, message)
            return
        reading = asyncio.ensure_future(self._report_with_log(status))
        self._reading.add(reading)
        reading.add_done_callback(self._reading.discard)

    async def _report_with_log(self, status: ContainerStatus) -> None:
        self._report_end(status, await termination.message_of(self._pod(), status))

    def _report_end(self, status: ContainerStatus, message: str) -> None:
        self._report(
            model.ContainerExited(
                name=status.config.name,
                container_id=status.id,
                exit_code=status.exit_code,
                signal=status.signal,
                reason=status.reason,
                message=message,
                started_at=status.started_at_ns / NS,
                finished_at=status.finished_at_ns / NS,
            )
        )

    async def _run_hook(self, action: model.RunHook) -> None:
        reached("hook.begun")
        failure = await hooks.run(self._node, self._pod(), self._sandbox(), action)
        reached("hook.ended")
        self._report(
            model.HookDone(
                name=action.name,
                container_id=action.container_id,
                hook=action.hook,
                ok=not failure,
                message=failure,
            )
        )


def _failure(action: model.Action, message: str, now: float) -> model.Event | None:
    """The event that reports an error that no step of the action has reported."""
    match action:
        case model.SetUpVolumes():
            return model.VolumesFailed(message=message)
        case model.CreateSandbox():
            return model.SandboxFailed(message=message)
        case model.StartContainer(name=name):
            return model.ContainerCreateFailed(name=name, reason="CreateContainerError", message=message)
        case model.KillContainer(name=name, container_id=container_id):
            return model.ContainerKillFailed(name=name, container_id=container_id, message=message)
        case model.RunHook(name=name, container_id=container_id, hook=hook):
            return model.HookDone(name=name, container_id=container_id, hook=hook, ok=False, message=message)
        case model.ResizePod():
            return model.ResizeDone(message=message)
        case model.StopSandbox(id=sandbox_id):
            # The removal, which always follows, reports and removes the rest.
            log.warning("sandbox %s: stop: %s", sandbox_id[:12], message)
            return model.SandboxStopped(id=sandbox_id)
        case model.TearDown():
            return model.TearDownFailed(message=message)
        case _:
            log.warning("%s: %s", type(action).__name__, message)
            return None


def _create_failed(name: str, reason: str, error: BaseException) -> model.ContainerCreateFailed:
    return model.ContainerCreateFailed(name=name, reason=reason, message=text_of(error))


def _undo(operations: tuple[HostOperation, ...]) -> None:
    """Undoes all of them, last first, also after failures. Raises the first failure, the others as its notes."""
    errors: list[Exception] = []
    for operation in reversed(operations):
        try:
            operation.undo()
            reached("undone", operation)
        except (MinipodError, OSError) as error:
            errors.append(error)
    if errors:
        for other in errors[1:]:
            errors[0].add_note(str(other))
        raise errors[0]


def image_id(status: ContainerStatus) -> str:
    return status.image_ref or status.image_id


def user_of(status: ContainerStatus) -> User | None:
    user = status.user
    if user is None:
        return None
    return User(uid=user.uid, gid=user.gid, supplemental_groups=user.supplemental_groups)


def run_of(status: ContainerStatus, message: str) -> model.Run:
    """The lifecycle's view of a container's status. `message`: its termination message."""
    states = {
        ContainerState.CREATED: "created",
        ContainerState.RUNNING: "running",
        ContainerState.EXITED: "exited",
    }
    return model.Run(
        id=status.id,
        attempt=status.config.attempt,
        state=states.get(status.state, "unknown"),
        image=status.config.image,
        image_id=image_id(status),
        pid=status.pid,
        user=user_of(status),
        created_at=status.created_at_ns / NS,
        started_at=status.started_at_ns / NS,
        finished_at=status.finished_at_ns / NS,
        exit_code=status.exit_code,
        signal=status.signal,
        reason=status.reason,
        message=message,
    )
