"""The verb `exec` (layer 5): a command in a running container, its descriptors handed over by the client."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import msgspec

from minipod.agent.node import Node, Session
from minipod.agent.pods.table import Pods
from minipod.agent.specs import containers
from minipod.agent.verbs.listing import converted
from minipod.agent.wire import Connection, Message
from minipod.api.types import Pod
from minipod.errors import ConflictError, NotFoundError, UsageError
from minipod.kernel.handover import leads_nowhere_else
from minipod.lifecycle import model

STREAMS = ("stdin", "stdout", "stderr")
DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"


class ExecRequest(msgspec.Struct, frozen=True):
    namespace: str
    pod: str
    command: list[str]
    container: str | None = None
    tty: tuple[int, int] | None = None  # rows, columns
    fds: list[str] = []


async def execute(node: Node, pods: Pods, connection: Connection, message: Message) -> dict[str, Any]:
    """Runs it to its end. Raises NotFoundError, ConflictError, UsageError, RuntimeFailure."""
    request = converted(message, ExecRequest)
    if not request.command:
        raise UsageError("exec: no command was given")
    state = pods.find(request.namespace, request.pod).state
    run = running(state, request.container or default_container(state.pod))
    streams = _streams(request.fds, message.fds)
    session = await node.runtime.exec(
        run.id,
        request.command,
        stdin_fd=streams.get("stdin"),
        stdout_fd=streams.get("stdout"),
        stderr_fd=streams.get("stderr"),
        tty=request.tty,
    )
    # What stays open here would keep the client's pipes from ending.
    message.close_fds()
    _tell_started(connection, session)
    listener = asyncio.get_running_loop().create_task(_listen(connection, session))
    try:
        return {"exit_code": await session.wait()}
    finally:
        listener.cancel()


def default_container(pod: Pod) -> str:
    """As kubectl chooses: the annotated one, else the first."""
    return pod.metadata.annotations.get(DEFAULT_CONTAINER) or pod.spec.containers[0].name


def running(state: model.PodState, name: str) -> model.Run:
    """The container's present instance. Raises NotFoundError, ConflictError."""
    metadata = state.pod.metadata
    known = [one.name for one in containers(state.pod)]
    if name not in state.containers and name not in known:
        raise NotFoundError(f"container {name} is not valid for pod {metadata.name}: it has {', '.join(known)}")
    run = state.containers[name].run if name in state.containers else None
    if run is None or run.state != "running":
        how = (
            f"ended with exit code {run.exit_code}" if run is not None and run.state == "exited" else "does not run yet"
        )
        raise ConflictError(f"container {name} of pod {metadata.name} {how}: minipod describe pod {metadata.name}")
    return run


def _streams(names: list[str], fds: tuple[int, ...]) -> dict[str, int]:
    streams = dict(zip(names, fds, strict=True))
    for name, fd in streams.items():
        if name not in STREAMS:
            raise UsageError(f"exec: unknown stream {name}")
        if not leads_nowhere_else(fd):
            raise UsageError(f"exec: {name} must be a pipe or a connected unix stream: what else there is is relayed")
    return streams


def _tell_started(connection: Connection, session: Session) -> None:
    if session.tty_fd < 0:
        connection.send({"event": "started"})
        return
    connection.send({"event": "started", "fds": ["tty"]}, (session.tty_fd,))
    os.close(session.tty_fd)


async def _listen(connection: Connection, session: Session) -> None:
    """Signals from the client; when it is gone, so is the command (as containerd ends an exec whose stream broke)."""
    while (message := await connection.said()) is not None:
        number = message.body.get("signal")
        if message.body.get("verb") == "signal" and isinstance(number, int) and 0 < number < signal.NSIG:
            session.signal(number)
    session.signal(signal.SIGKILL)
