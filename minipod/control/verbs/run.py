"""The verb `run` (layer 6): creates pods, reports their steps; unless detached, the connection owns them.

A foreground pod is deleted when it has ended, when the client asks for it, and when the client disconnects. Its logs
are kept until the client has closed the connection, because the client reads them from their files.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Literal

import msgspec

from minipod.agent import processes
from minipod.agent.manifests import Manifest, loaded
from minipod.agent.node import Node
from minipod.agent.pods import logtail
from minipod.agent.pods.outcome import Outcome, cancelled, failure_of, is_ready, outcome_of, outcome_of_killed, reached
from minipod.agent.pods.progress import PodStep, Progress
from minipod.agent.pods.steps import Step
from minipod.agent.pods.table import Pods
from minipod.agent.pods.worker import PodWorker
from minipod.agent.registry.history import Change
from minipod.api.load import FieldValidation
from minipod.api.types import Pod
from minipod.config import load_config
from minipod.control.server import error_body
from minipod.control.verbs.applier import CREATED, Applied, apply_other_kinds
from minipod.control.verbs.objects import forgotten
from minipod.control.verbs.requests import converted, or_gone
from minipod.control.verbs.unhealthy import Unhealthy
from minipod.control.wire import Connection, Message
from minipod.errors import FAILURE, RuntimeFailure
from minipod.lifecycle import model

NextChange = Callable[[], Awaitable[Change | PodStep]]


class StartFailure(RuntimeFailure):
    """The pod cannot start, or keeps failing. `exit_status` 1: because of its containers, 3: because of the runtime."""

    def __init__(self, message: str, exit_status: int = FAILURE) -> None:
        super().__init__(message)
        self.exit_status = exit_status


class RunRequest(msgspec.Struct, frozen=True):
    files: list[Manifest]
    namespace: str | None = None
    detach: bool = False
    until: Literal["created", "running", "ready", "succeeded"] | None = None
    config: str | None = None  # path of the configuration file that the client was started with
    validation: FieldValidation = "strict"
    replace: bool = False  # pods that have the names of these are deleted first
    dry_run: bool = False
    objects: bool = False  # of a dry run: whole objects


class _FollowedPod:
    """One pod of the request, and how much of its progress the client has seen."""

    def __init__(self, worker: PodWorker) -> None:
        self.worker = worker
        self.pod = worker.pod  # as of the last change that was handled
        self.phase = ""
        self.ready = False
        self.ended = False  # deleted: only its logs are left
        self.deletion_requested = False  # by this request
        self.has_started = False  # one of its containers
        self.pulling: set[str] = set()  # containers whose image is being pulled
        self.cancelled: Outcome | None = None  # interrupted before a container started


class Run:
    """One `run` request, from its manifests to the last line of the answer."""

    def __init__(self, node: Node, pods: Pods, connection: Connection, request: Message) -> None:
        self._node = node
        self._pods = pods
        self._connection = connection
        self._request = converted(request, RunRequest)
        self._until = self._request.until or ("running" if self._request.detach else None)
        self._begun = time.monotonic()
        self._followed: dict[str, _FollowedPod] = {}
        self._failure: StartFailure | None = None
        self._warned: set[tuple[str, str]] = set()  # (uid, text)
        self._unhealthy = Unhealthy(self._send_line)

    async def answer(self) -> dict[str, Any]:
        """Creates and follows the pods; returns the fields of the last line. Raises MinipodError."""
        request = self._request
        manifests = await loaded(request.files, request.namespace, validation=request.validation)
        for warning in manifests.warnings:
            self._connection.send({"event": "warning", "message": warning})
        if request.replace and not request.dry_run:
            if await or_gone(self._connection, self._make_room(manifests.pods)) is None:
                return {}
        elif not request.replace:
            self._pods.check_free(manifests.pods)
        for applied in apply_other_kinds(self._node.registry, manifests.other_kinds, request.dry_run):
            self._connection.send(applied.event(request.objects))
        if request.dry_run:
            for pod in manifests.pods:
                self._connection.send(Applied(self._pods.completed(pod), CREATED).event(request.objects))
            return {}
        self._compare_configuration()
        owner = "" if self._request.detach else processes.identity(self._connection.peer_pid)
        if not owner and not self._request.detach and self._connection.peer_pid:
            return {}  # the client has died: the pods would have no owner
        workers = await self._pods.create_many(manifests.pods, owner)
        self._followed = {worker.uid: _FollowedPod(worker) for worker in workers}
        # Workers act on later turns of the loop, so no change can have been missed so far.
        current = {worker.uid: partial(_current, worker) for worker in workers}
        with Progress(self._node.history, self._node.pod_steps, current) as progress:
            for worker in workers:
                self._connection.send(_pod_event(worker.pod, self._pods.log_directory(worker.pod)))
            try:
                if self._request.detach:
                    return await self._detached(progress.next)
                self._pods.keep_logs.update(self._followed)
                try:
                    return await self._foreground(progress.next)
                finally:
                    self._release()
            finally:
                self._unhealthy.close()

    async def _make_room(self, pods: Sequence[Pod]) -> bool:
        """Deletes the pods that have these names, and returns when they are gone: True."""
        places = dict.fromkeys((pod.metadata.namespace, pod.metadata.name) for pod in pods if pod.metadata.name)
        going = [self._pods.delete(*place) for place in places if self._pods.worker(*place) is not None]
        for worker in going:
            await forgotten(worker, self._connection)
            self._connection.send(
                {"event": "deleted", "kind": "Pod", "namespace": worker.namespace, "name": worker.name}
            )
        return True

    def _compare_configuration(self) -> None:
        """Warns that a running agent keeps the configuration it started with. Raises UsageError for an invalid file."""
        path = self._request.config
        if path is not None and load_config(path) != self._node.config:
            message = f"{path} is not used: the agent keeps the configuration it was started with until it exits"
            self._connection.send({"event": "warning", "message": message})

    # -- detached -----------------------------------------------------------------------------------------------

    async def _detached(self, next_change: NextChange) -> dict[str, Any]:
        while not all(reached(followed.pod, self._until) for followed in self._followed.values()):
            change = await or_gone(self._connection, next_change())
            if change is None:
                return {}
            self._record(change)
            await self._check_detached(change)
        return self._result()

    async def _check_detached(self, change: Change | PodStep) -> None:
        if isinstance(change, PodStep):
            if change.step.fatal:
                raise self._fatal(change)
            return
        followed = self._followed[change.uid]
        name = followed.worker.name
        if change.type == "DELETED":
            raise StartFailure(f'pod "{name}" was deleted before it was {self._until}', 1)
        failure = failure_of(followed.pod)
        if failure is not None and not reached(followed.pod, self._until):
            status = 3 if failure.by_runtime else 1
            last = await self._last_logs(followed.pod, failure.container)
            hint = f"; it keeps retrying: minipod describe pod {name}" if failure.retried else ""
            raise StartFailure(f'pod "{name}": {failure.message}{last}{hint}', status)

    # -- foreground ---------------------------------------------------------------------------------------------

    async def _foreground(self, next_change: NextChange) -> dict[str, Any]:
        listener = asyncio.get_running_loop().create_task(self._listen())
        try:
            while not all(followed.ended for followed in self._followed.values()):
                change = await or_gone(self._connection, next_change())
                if change is None:
                    return {}
                self._record(change)
                await self._check_foreground(change)
        finally:
            listener.cancel()
        answer = {"ok": True, **self._result()} if self._failure is None else error_body(self._failure)
        self._connection.send(answer)
        await self._connection.gone
        return {}

    async def _check_foreground(self, change: Change | PodStep) -> None:
        if isinstance(change, PodStep):
            if change.step.fatal:
                self._fail(self._fatal(change))
            return
        followed = self._followed[change.uid]
        if change.type == "DELETED":
            followed.ended = True
            return
        if followed.pod.status.phase in ("Succeeded", "Failed"):
            self._delete(followed)
            return
        failure = failure_of(followed.pod)
        if failure is not None and failure.by_runtime and not followed.deletion_requested:
            last = await self._last_logs(followed.pod, failure.container)
            self._fail(StartFailure(f'pod "{followed.worker.name}": {failure.message}{last}'))

    def _fail(self, failure: StartFailure) -> None:
        """One pod cannot start: deletes all of them; the failure is the answer once they are gone."""
        self._failure = self._failure or failure
        for followed in self._followed.values():
            self._delete(followed)

    def _fatal(self, change: PodStep) -> StartFailure:
        hint = "; it keeps retrying: minipod describe pod" if self._request.detach else ""
        return StartFailure(f'pod "{self._followed[change.uid].worker.name}": {change.step.message}{hint}')

    async def _listen(self) -> None:
        """Handles what the client sends while its pods run: interrupt and kill."""
        while (message := await self._connection.next_line()) is not None:
            verb = message.head.verb
            if verb in ("interrupt", "kill"):
                for followed in self._followed.values():
                    if not followed.deletion_requested and not followed.has_started:
                        followed.cancelled = cancelled(followed.pod, bool(followed.pulling))
                    followed.deletion_requested = False  # a second request may shorten the grace period
                    self._delete(followed, grace_period_s=0 if verb == "kill" else None)

    def _delete(self, followed: _FollowedPod, grace_period_s: int | None = None) -> None:
        if not followed.deletion_requested and not followed.ended:
            followed.deletion_requested = True
            followed.worker.post(model.DeleteRequested(grace_period_s=grace_period_s))

    def _release(self) -> None:
        """The client has disconnected: deletes the remaining pods gracefully, and the logs of those that are gone.

        Where it is the agent that leaves, the client continues with the next one, and the pods stay.
        """
        for uid, followed in self._followed.items():
            if followed.worker.forgotten.done():
                self._pods.remove_logs(followed.worker)
                continue
            self._pods.keep_logs.discard(uid)
            if self._connection.gone.done():
                self._delete(followed)

    # -- what the client is sent --------------------------------------------------------------------------------

    def _record(self, change: Change | PodStep) -> None:
        if isinstance(change, PodStep):
            self._send_step(self._followed[change.uid], change.step)
            return
        followed = self._followed[change.uid]
        followed.pod = change.new
        phase = change.new.status.phase
        if phase and phase != followed.phase:
            followed.phase = phase
            self._connection.send({"event": "phase", **_named(followed.worker), "phase": phase})
        if followed.ready != (ready := is_ready(change.new)):
            followed.ready = ready
            self._connection.send({"event": "ready", **_named(followed.worker), "uid": change.uid, "ready": ready})

    def _send_line(self, uid: str, step: Step) -> None:
        words = {"step": step.step, "message": step.message, "container": step.container}
        self._connection.send({"event": "step", **_named(self._followed[uid].worker), **words})

    def _send_step(self, followed: _FollowedPod, step: Step) -> None:
        uid = followed.worker.uid
        if self._unhealthy.take(uid, step):
            return
        if step.step == "warning":
            if (uid, step.message) not in self._warned:  # some are repeated every few seconds
                self._warned.add((uid, step.message))
                self._connection.send({"event": "warning", "message": f'pod "{followed.worker.name}": {step.message}'})
            return
        if followed.deletion_requested and step.step == "failed" and step.container in followed.pulling:
            return  # what is cut off has not failed
        if step.step == "pull":
            named = {**_named(followed.worker), "container": step.container}
            self._connection.send({"event": "pull", **named, "image": step.message, "layers": step.layers})
            return
        (followed.pulling.add if step.is_pull else followed.pulling.discard)(step.container)
        self._send_line(uid, step)
        if step.step in ("init", "container"):
            followed.has_started = True
            path = f"{self._pods.log_directory(followed.pod)}/{step.container}/{step.attempt}.log"
            body = {"container": step.container, "path": path, "restart": step.attempt}
            self._connection.send({"event": "log", **_named(followed.worker), **body})

    def _result(self) -> dict[str, Any]:
        outcomes: Sequence[Outcome] = [_outcome(followed) for followed in self._followed.values()]
        return {"pods": outcomes, "elapsed_ms": round((time.monotonic() - self._begun) * 1000, 1)}

    async def _last_logs(self, pod: Pod, container: str) -> str:
        if not container:
            return ""
        lines = await logtail.read(logtail.last_lines, f"{self._pods.log_directory(pod)}/{container}")
        return "; it last logged: " + " | ".join(lines) if lines else ""


def _current(worker: PodWorker) -> Pod | None:
    return None if worker.forgotten.done() else worker.pod


def _outcome(followed: _FollowedPod) -> Outcome:
    if followed.cancelled is not None:
        return followed.cancelled
    state = followed.worker.state
    if state.pod.metadata.deletion_grace_period_seconds == 0:
        return outcome_of_killed(followed.pod, state.containers)
    return outcome_of(followed.pod, followed.pulling)


def _named(worker: PodWorker) -> dict[str, str]:
    return {"namespace": worker.namespace, "name": worker.name}


def host_ports(pod: Pod) -> list[dict[str, Any]]:
    """The ports of the host that lead to the pod, in the order of its spec."""
    return [
        {
            "host_ip": port.host_ip,
            "host_port": port.host_port,
            "container": container.name,
            "container_port": port.container_port,
            "protocol": port.protocol or "TCP",
        }
        for container in (*pod.spec.init_containers, *pod.spec.containers)
        for port in container.ports
        if port.host_port
    ]


def _pod_event(pod: Pod, log_directory: str) -> dict[str, Any]:
    containers = [{"name": container.name, "init": True} for container in pod.spec.init_containers]
    containers += [{"name": container.name, "init": False} for container in pod.spec.containers]
    metadata = pod.metadata
    return {
        "event": "pod",
        "namespace": metadata.namespace,
        "name": metadata.name,
        "uid": metadata.uid,
        "log_directory": log_directory,
        "containers": containers,
        "ports": host_ports(pod),
        "grace_period_s": pod.spec.termination_grace_period_seconds,
    }
