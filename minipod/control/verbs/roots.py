"""The verb `root` (layer 6): a descriptor of a running container's root directory, for `minipod cp`.

Nothing of the image is run or trusted: the client resolves every path below the descriptor with openat2, so that links
which the container prepared cannot lead outside. Only the root user can connect to the socket.
"""

from __future__ import annotations

import asyncio
import os
import select
from typing import Any

import msgspec

from minipod.agent.node import Node
from minipod.agent.pods.table import Pods
from minipod.control.verbs.execute import default_container, running
from minipod.control.verbs.requests import converted
from minipod.control.wire import Connection, Message
from minipod.errors import ConflictError, MinipodError

_STATUS_S = 5.0  # from the end of the process to its status


class RootRequest(msgspec.Struct, frozen=True):
    namespace: str
    pod: str
    container: str | None = None


async def send_root(node: Node, pods: Pods, connection: Connection, message: Message) -> dict[str, Any]:
    """Sends the descriptor, the working directory and the user. Raises NotFoundError, ConflictError."""
    request = converted(message, RootRequest)
    state = pods.find(request.namespace, request.pod).state
    name = request.container or default_container(state.pod)
    run = running(state, name)
    status = node.runtime.container_status(run.id)
    try:
        root_fd = _open_root(status.pid, name)
    except ProcessLookupError:
        raise await _ended(node, run.id, name) from None
    try:
        user = status.user
        body = {
            "event": "root",
            "fds": ["root"],
            "cwd": status.config.working_dir or "/",
            "uid": user.uid if user is not None else 0,
            "gid": user.gid if user is not None else 0,
        }
        connection.send(body, (root_fd,))
        await connection.drain()
    finally:
        os.close(root_fd)
    return {}


async def _ended(node: Node, container_id: str, name: str) -> ConflictError:
    """The error for a container that has ended, with its exit code as soon as its status has it."""
    try:
        async with asyncio.timeout(_STATUS_S):
            attachment = await node.runtime.attach(container_id, whole=True)
            code = await attachment.wait()
    except (TimeoutError, MinipodError):
        return ConflictError(f'container "{name}" has ended')
    return ConflictError(f'container "{name}" has ended (exit code {code})')


def _open_root(pid: int, name: str) -> int:
    """The process's root directory. A pidfd ensures that the pid was not reused.

    Raises ProcessLookupError where the process has ended, ConflictError.
    """
    try:
        pid_fd = os.pidfd_open(pid)
    except (OSError, ValueError):
        raise ProcessLookupError from None
    try:
        root_fd = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        if select.select([pid_fd], [], [], 0)[0] or _is_the_hosts(root_fd):
            os.close(root_fd)
            raise ProcessLookupError
        return root_fd
    except ProcessLookupError:
        raise
    except OSError as error:
        raise ConflictError(f"container {name}: its root directory: {error.strerror}") from None
    finally:
        os.close(pid_fd)


def _is_the_hosts(root_fd: int) -> bool:
    """Whether the root is the host's: that of a process that has not pivoted yet."""
    ours, theirs = os.stat("/"), os.fstat(root_fd)
    return (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino)
