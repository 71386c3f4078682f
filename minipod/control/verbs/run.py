"""The verb `run` (layer 6): pods from manifests, told step by step, owned by the connection unless detached.

A foreground pod is deleted when it ended, when the client asks for it, and when the client is gone. Its logs stay
until the client has closed the connection, because the client reads them from their files.
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
from minipod.agent.pods.outcome import Outcome, failure_of, outcome_of, outcome_of_killed, reached
from minipod.agent.pods.progress import PodStep, Progress
from minipod.agent.pods.steps import Step
from minipod.agent.pods.table import Pods
from minipod.agent.pods.worker import PodWorker
from minipod.agent.registry.history import Change
from minipod.api.types import Pod
from minipod.config import load_config
from minipod.control.server import error_body
from minipod.control.verbs.apply import apply_other_kinds
from minipod.control.verbs.requests import converted, or_gone
from minipod.control.wire import Connection, Message
from minipod.errors import RuntimeFailure
from minipod.lifecycle import model

NextChange = Callable[[], Awaitable[Change | PodStep]]


class StartFailure(RuntimeFailure):
    """The pod cannot start, or keeps failing. `exit_status` 1: its own fault, 3: the runtime's."""

    def __init__(self, message: str, exit_status: int = 3) -> None:
        super().__init__(message)
        self.exit_status = exit_status


class RunRequest(msgspec.Struct, frozen=True):
    files: list[Manifest]
    namespace: str | None = None
    detach: bool = False
    until: Literal["created", "running", "ready", "succeeded"] | None = None
    config: str | None = None  # the file that was asked for


class _Tracked:
    """One pod of the request."""

    def __init__(self, worker: PodWorker) -> None:
        self.worker = worker
        self.pod = worker.pod  # as it was last told
        self.phase = ""
        self.ended = False  # nothing of it is left but its logs
        self.leaving = False  # its deletion was asked for here


class Run:
    """One request, from its manifests to its last line."""

    def __init__(self, node: Node, pods: Pods, connection: Connection, request: Message) -> None:
        self._node = node
        self._pods = pods
        self._connection = connection
        self._request = converted(request, RunRequest)
        self._until = self._request.until or ("running" if self._request.detach else None)
        self._begun = time.monotonic()
        self._tracked: dict[str, _Tracked] = {}
        self._failure: StartFailure | None = None

    async def answer(self) -> dict[str, Any]:
        """The fields of the last line. Raises MinipodError."""
        manifests = await loaded(self._request.files, self._request.namespace)
        for warning in manifests.warnings:
            self._connection.send({"event": "warning", "message": warning})
        self._pods.check_free(manifests.pods)
        for told in apply_other_kinds(self._node.registry, manifests.other_kinds):
            self._connection.send({"event": "applied", **told})
        self._compare_configuration()
        owner = "" if self._request.detach else processes.identity(self._connection.peer_pid)
        workers = self._pods.create(manifests.pods, owner)
        self._tracked = {worker.uid: _Tracked(worker) for worker in workers}
        # Workers run on later turns of the loop: nothing has happened yet that could be missed.
        current = {worker.uid: partial(_current, worker) for worker in workers}
        with Progress(self._node.history, self._node.pod_steps, current) as progress:
            for worker in workers:
                self._connection.send(_pod_event(worker.pod, self._pods.log_directory(worker.pod)))
            if self._request.detach:
                return await self._detached(progress.next)
            self._pods.keep_logs.update(self._tracked)
            try:
                return await self._foreground(progress.next)
            finally:
                self._let_go()

    def _compare_configuration(self) -> None:
        """A running agent keeps its own. Raises UsageError for a file that is wrong."""
        asked = self._request.config
        if asked is not None and load_config(asked) != self._node.config:
            message = f"{asked} is not used: the agent runs with another configuration until it leaves"
            self._connection.send({"event": "warning", "message": message})

    # -- detached -----------------------------------------------------------------------------------------------

    async def _detached(self, next_change: NextChange) -> dict[str, Any]:
        while not all(reached(one.pod, self._until) for one in self._tracked.values()):
            change = await or_gone(self._connection, next_change())
            if change is None:
                return {}
            self._told(change)
            self._check_detached(change)
        return self._result()

    def _check_detached(self, change: Change | PodStep) -> None:
        if isinstance(change, PodStep):
            if change.step.fatal:
                raise self._fatal(change)
            return
        one = self._tracked[change.uid]
        name = one.worker.name
        if change.type == "DELETED":
            raise StartFailure(f'pod "{name}" was deleted before it was {self._until}', 1)
        failure = failure_of(one.pod)
        if failure is not None and not reached(one.pod, self._until):
            status = 3 if failure.by_runtime else 1
            last = self._last_logs(one.pod, failure.container)
            hint = f"; it goes on trying: minipod describe pod {name}" if failure.tried_again else ""
            raise StartFailure(f'pod "{name}": {failure.message}{last}{hint}', status)

    # -- foreground ---------------------------------------------------------------------------------------------

    async def _foreground(self, next_change: NextChange) -> dict[str, Any]:
        listener = asyncio.get_running_loop().create_task(self._listen())
        try:
            while not all(one.ended for one in self._tracked.values()):
                change = await or_gone(self._connection, next_change())
                if change is None:
                    return {}
                self._told(change)
                self._check_foreground(change)
        finally:
            listener.cancel()
        last = {"ok": True, **self._result()} if self._failure is None else error_body(self._failure)
        self._connection.send(last)
        await self._connection.gone
        return {}

    def _check_foreground(self, change: Change | PodStep) -> None:
        if isinstance(change, PodStep):
            if change.step.fatal:
                self._fail(self._fatal(change))
            return
        one = self._tracked[change.uid]
        if change.type == "DELETED":
            one.ended = True
            return
        if one.pod.status.phase in ("Succeeded", "Failed"):
            self._delete(one)
            return
        failure = failure_of(one.pod)
        if failure is not None and failure.by_runtime and not one.leaving:
            last = self._last_logs(one.pod, failure.container)
            self._fail(StartFailure(f'pod "{one.worker.name}": {failure.message}{last}'))

    def _fail(self, failure: StartFailure) -> None:
        """One pod cannot start: all of them end, then it is told."""
        self._failure = self._failure or failure
        for one in self._tracked.values():
            self._delete(one)

    def _fatal(self, change: PodStep) -> StartFailure:
        hint = "; it goes on trying: minipod describe pod" if self._request.detach else ""
        return StartFailure(f'pod "{self._tracked[change.uid].worker.name}": {change.step.message}{hint}')

    async def _listen(self) -> None:
        """What the client says while its pods run."""
        while (message := await self._connection.next_line()) is not None:
            verb = message.head.verb
            if verb in ("interrupt", "kill"):
                for one in self._tracked.values():
                    one.leaving = False  # a second word may shorten the first
                    self._delete(one, grace_period_s=0 if verb == "kill" else None)

    def _delete(self, one: _Tracked, grace_period_s: int | None = None) -> None:
        if not one.leaving and not one.ended:
            one.leaving = True
            one.worker.post(model.DeleteRequested(grace_period_s=grace_period_s))

    def _let_go(self) -> None:
        """The client is gone or was told the end: whatever is left ends gracefully, logs go."""
        for uid, one in self._tracked.items():
            if one.worker.forgotten.done():
                self._pods.remove_logs(one.worker)
            else:
                self._pods.keep_logs.discard(uid)
                self._delete(one)

    # -- telling ------------------------------------------------------------------------------------------------

    def _told(self, change: Change | PodStep) -> None:
        if isinstance(change, PodStep):
            self._tell_step(self._tracked[change.uid], change.step)
            return
        one = self._tracked[change.uid]
        one.pod = change.new
        phase = change.new.status.phase
        if phase and phase != one.phase:
            one.phase = phase
            self._connection.send({"event": "phase", **_named(one.worker), "phase": phase})

    def _tell_step(self, one: _Tracked, step: Step) -> None:
        if step.step == "warning":
            self._connection.send({"event": "warning", "message": f'pod "{one.worker.name}": {step.message}'})
            return
        self._connection.send({"event": "step", **_named(one.worker), "step": step.step, "message": step.message})
        if step.step in ("init", "container"):
            path = f"{self._pods.log_directory(one.pod)}/{step.container}/{step.attempt}.log"
            body = {"container": step.container, "path": path, "restart": step.attempt}
            self._connection.send({"event": "log", **_named(one.worker), **body})

    def _result(self) -> dict[str, Any]:
        outcomes: Sequence[Outcome] = [_outcome(one) for one in self._tracked.values()]
        return {"pods": outcomes, "elapsed_ms": round((time.monotonic() - self._begun) * 1000, 1)}

    def _last_logs(self, pod: Pod, container: str) -> str:
        lines = logtail.last_lines(f"{self._pods.log_directory(pod)}/{container}") if container else []
        return "; it last logged: " + " | ".join(lines) if lines else ""


def _current(worker: PodWorker) -> Pod | None:
    return None if worker.forgotten.done() else worker.pod


def _outcome(one: _Tracked) -> Outcome:
    state = one.worker.state
    if state.pod.metadata.deletion_grace_period_seconds == 0:
        return outcome_of_killed(one.pod, state.containers)
    return outcome_of(one.pod)


def _named(worker: PodWorker) -> dict[str, str]:
    return {"namespace": worker.namespace, "name": worker.name}


def _pod_event(pod: Pod, log_directory: str) -> dict[str, Any]:
    containers = [{"name": one.name, "init": True} for one in pod.spec.init_containers]
    containers += [{"name": one.name, "init": False} for one in pod.spec.containers]
    metadata = pod.metadata
    return {
        "event": "pod",
        "namespace": metadata.namespace,
        "name": metadata.name,
        "uid": metadata.uid,
        "log_directory": log_directory,
        "containers": containers,
    }
