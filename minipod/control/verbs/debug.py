"""The verbs `debug` and `attach` (layer 6): an ephemeral container for a pod; the streams of a running container."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import Any

import msgspec
from msgspec.structs import replace

from minipod.agent.node import Node
from minipod.agent.pods.table import Pods
from minipod.agent.pods.worker import PodWorker
from minipod.agent.registry.history import Watch
from minipod.agent.registry.registry import refuse
from minipod.agent.registry.selection import Selection
from minipod.api.defaults import defaulted
from minipod.api.text import MAX_DOCUMENT_BYTES
from minipod.api.types import EphemeralContainer, Pod
from minipod.api.validation import validate_ephemeral_containers_update
from minipod.api.validation.prepare import prepared_ephemeral_containers
from minipod.control.verbs.execute import begun, running
from minipod.control.verbs.requests import converted, or_gone, typed
from minipod.control.wire import Connection, Message
from minipod.errors import UsageError
from minipod.lifecycle import model

_ON_ITS_WAY = ("", "ContainerCreating", "PodInitializing")  # waiting reasons of a container that is being started
_MAX_UNREAD = 4 << 20  # bytes buffered for a client that does not read
_STUCK_S = 10.0  # a client that reads nothing for this long is not waited for


class DebugRequest(msgspec.Struct, frozen=True):
    """`container`: a v1 EphemeralContainer. `wait`: answer once it runs or has failed."""

    namespace: str
    pod: str
    container: msgspec.Raw
    wait: bool = False


class AttachRequest(msgspec.Struct, frozen=True):
    """`whole`: send what it has written so far first."""

    namespace: str
    pod: str
    container: str
    stdin: bool = False
    whole: bool = False


async def debug(node: Node, pods: Pods, connection: Connection, message: Message) -> dict[str, Any]:
    """Adds the container as the ephemeralContainers subresource does. Raises NotFoundError, ManifestError."""
    request = converted(message, DebugRequest)
    worker = pods.current(request.namespace, request.pod)
    old = worker.pod
    if len(request.container) > MAX_DOCUMENT_BYTES:
        raise UsageError(f"debug: container: larger than {MAX_DOCUMENT_BYTES >> 20} MiB, the API server's limit")
    added = typed("Pod", worker.name, EphemeralContainer, converted(message, dict[str, Any], request.container))
    every = (*old.spec.ephemeral_containers, added)
    new = replace(old, spec=replace(old.spec, ephemeral_containers=every))
    watch = node.history.watch(Selection.of("Pod", namespace=worker.namespace, name=worker.name, uid=worker.uid))
    set_ephemeral_containers(node, pods, worker, new)
    while request.wait and not _has_begun(worker, added.name):
        if await or_gone(connection, _something(watch)) is None:
            break
    return {"container": added.name}


async def _something(watch: Watch) -> bool:
    await watch.changed()
    return True


def set_ephemeral_containers(_node: Node, _pods: Pods, worker: PodWorker, new: Pod) -> dict[str, Any]:
    """The ephemeralcontainers subresource of the pod as it is now. Raises ManifestError."""
    old = worker.pod
    new = prepared_ephemeral_containers(defaulted(new, old.metadata.namespace), old)
    refuse("Pod", worker.name, validate_ephemeral_containers_update(new, old))
    worker.update(model.PodUpdated(pod=new))
    return {}


def _has_begun(worker: PodWorker, name: str) -> bool:
    """Whether the container runs, has ended or cannot start (its pod ends, or its status has a reason)."""
    if worker.state.stage != "syncing":
        return True
    statuses = worker.state.status.ephemeral_container_statuses
    state = next((status.state for status in statuses if status.name == name), None)
    if state is None:
        return False
    return state.waiting is None or state.waiting.reason not in _ON_ITS_WAY


async def attach(node: Node, pods: Pods, connection: Connection, message: Message) -> dict[str, Any]:
    """Connects the streams until the container ends and its output was read. Raises NotFoundError, ConflictError."""
    request = converted(message, AttachRequest)
    state = pods.find(request.namespace, request.pod).state
    run = begun(state, request.container) if request.whole else running(state, request.container)
    attachment = await node.runtime.attach(run.id, request.whole)
    names, fds = [], []
    with contextlib.ExitStack() as stack:
        outlets = []
        with contextlib.ExitStack() as handed_over:
            for stream in ("stdout",) if attachment.tty else ("stdout", "stderr"):
                ours, theirs = socket.socketpair()
                handed_over.callback(theirs.close)
                outlets.append(_Outlet(ours))
                stack.callback(outlets[-1].close)
                stack.callback(attachment.tap(stream, outlets[-1], outlets[-1].is_full))
                names.append(stream)
                fds.append(theirs.fileno())
            input_fd = await attachment.take_input() if request.stdin or attachment.tty else -1
            if input_fd >= 0:
                handed_over.callback(os.close, input_fd)
                names.append("tty" if attachment.tty else "stdin")
                fds.append(input_fd)
            connection.send({"event": "started", "fds": names}, tuple(fds))
        code = await or_gone(connection, attachment.wait())
        await or_gone(connection, asyncio.gather(*(asyncio.shield(outlet.closed) for outlet in outlets)))
        return {"exit_code": code or 0}


class _Outlet:
    """Copies a container's output into a socket. The container waits for a reader, unless that reads nothing for long:
    then output is dropped (it is in the log)."""

    def __init__(self, to: socket.socket) -> None:
        to.setblocking(False)
        self._socket = to
        self._unread = b""
        self._at_end = False
        self._watched = False
        self._loop = asyncio.get_running_loop()
        self._stuck_since: float | None = None
        self.closed: asyncio.Future[None] = self._loop.create_future()

    def __call__(self, chunk: bytes) -> None:
        self._at_end = not chunk
        if len(self._unread) < _MAX_UNREAD:
            self._unread += chunk
        self._flush()

    def is_full(self) -> bool:
        if self._stuck_since is None or self._loop.time() - self._stuck_since > _STUCK_S:
            return False
        return len(self._unread) > _MAX_UNREAD // 2

    def _flush(self) -> None:
        if self._socket.fileno() < 0:
            return
        try:
            while self._unread:
                self._unread = self._unread[self._socket.send(self._unread) :]
                self._stuck_since = None
        except BlockingIOError:
            self._stuck_since = self._stuck_since or self._loop.time()
            if not self._watched:
                self._watched = True
                self._loop.add_writer(self._socket.fileno(), self._flush)
            return
        except OSError:
            self.close()
            return
        self._unwatch()
        if self._at_end:
            self.close()

    def _unwatch(self) -> None:
        if self._watched:
            self._watched = False
            self._loop.remove_writer(self._socket.fileno())

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            self._unwatch()
            self._socket.close()
        if not self.closed.done():
            self.closed.set_result(None)
