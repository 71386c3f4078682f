"""The verb `exec` (layer 6): a command in a running container, with descriptors that the client sent."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec

from minipod.agent.node import Node
from minipod.agent.pods.table import Pods
from minipod.api.container_names import listed, not_valid
from minipod.api.types import Pod
from minipod.control.verbs.requests import converted
from minipod.control.wire import Connection, Message
from minipod.errors import ConflictError, NotFoundError, UsageError
from minipod.kernel.handover import leads_nowhere_else
from minipod.lifecycle import model
from minipod.runtime.face import Session

DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"


Cells = Annotated[int, msgspec.Meta(ge=0, lt=1 << 16)]  # TIOCSWINSZ


class ExecRequest(msgspec.Struct, frozen=True):
    namespace: str
    pod: str
    command: list[str]
    container: str | None = None
    tty: tuple[Cells, Cells] | None = None  # rows, columns
    fds: list[Literal["stdin", "stdout", "stderr"]] = []


class SignalRequest(msgspec.Struct, frozen=True):
    """What a client may send while the command runs."""

    verb: Literal["signal"]
    signal: Annotated[int, msgspec.Meta(gt=0, lt=signal.NSIG)]


async def execute(node: Node, pods: Pods, connection: Connection, message: Message) -> dict[str, Any]:
    """Runs the command to its end. Raises NotFoundError, ConflictError, UsageError, RuntimeFailure."""
    request = converted(message, ExecRequest)
    if not request.command:
        raise UsageError("exec: the request has no command")
    if any("\0" in word for word in request.command):
        raise UsageError("exec: a command cannot have a NUL in it")
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
    # A copy that stayed open here would keep the client from reading end of file.
    message.close_fds()
    _report_started(connection, session)
    listener = asyncio.get_running_loop().create_task(_listen(connection, session))
    try:
        return {"exit_code": await session.wait()}
    finally:
        listener.cancel()


def default_container(pod: Pod) -> str:
    """As kubectl chooses: the annotated one, else the first."""
    return pod.metadata.annotations.get(DEFAULT_CONTAINER) or pod.spec.containers[0].name


def begun(state: model.PodState, name: str) -> model.Run:
    """The container's present instance, if it runs or has ended. Raises NotFoundError, ConflictError."""
    run = _run(state, name)
    return run if run is not None and run.state == "exited" and run.started_at else running(state, name)


def running(state: model.PodState, name: str) -> model.Run:
    """The container's present instance. Raises NotFoundError, ConflictError."""
    metadata = state.pod.metadata
    run = _run(state, name)
    if run is None or run.state != "running":
        has_ended = run is not None and run.state == "exited"
        how = f"has ended (exit code {run.exit_code})" if run is not None and has_ended else "does not run yet"
        raise ConflictError(f'container "{name}" of pod "{metadata.name}" {how}: minipod describe pod {metadata.name}')
    return run


def _run(state: model.PodState, name: str) -> model.Run | None:
    spec = state.pod.spec
    by_kind = (spec.containers, spec.init_containers, spec.ephemeral_containers)
    names = [[container.name for container in each] for each in by_kind]
    if name not in state.containers and not any(name in each for each in names):
        raise NotFoundError(not_valid(name, state.pod.metadata.name, listed(*names)))
    return state.containers[name].run if name in state.containers else None


def _streams(names: Sequence[str], fds: tuple[int, ...]) -> dict[str, int]:
    """The descriptors by name; the connection has checked that there are as many of both. Raises UsageError."""
    streams = dict(zip(names, fds, strict=True))
    if len(streams) != len(fds):
        raise UsageError("exec: two descriptors have the same name")
    for name, fd in streams.items():
        if not leads_nowhere_else(fd):
            raise UsageError(f"exec: {name} must be a pipe or a connected unix stream: what else there is is relayed")
    return streams


def _report_started(connection: Connection, session: Session) -> None:
    if session.tty_fd < 0:
        connection.send({"event": "started"})
        return
    connection.send({"event": "started", "fds": ["tty"]}, (session.tty_fd,))
    os.close(session.tty_fd)


async def _listen(connection: Connection, session: Session) -> None:
    """Delivers the client's signals; kills the command when the client disconnects (as containerd does)."""
    while (message := await connection.next_line()) is not None:
        with contextlib.suppress(UsageError):  # a line after the request has no answer
            session.signal(converted(message, SignalRequest).signal)
    session.signal(signal.SIGKILL)
