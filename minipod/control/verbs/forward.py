"""The verb `connect` (layer 6): a TCP connection to a port of a pod, made inside its network namespace.

As the kubelet's port-forward: to the pod's own loopback, so that a server which listens there only is reached too.
"""

from __future__ import annotations

import os
import socket
from typing import Annotated, Any

import msgspec

from minipod.agent.node import Node
from minipod.agent.pods.table import Pods
from minipod.control.verbs.requests import converted
from minipod.control.wire import Connection, Message
from minipod.errors import ConflictError, RuntimeFailure
from minipod.kernel.netlink import in_netns
from minipod.runtime.offload import off_loop
from minipod.runtime.status import SandboxState

_CONNECT_S = 5.0
_LOOPBACK = ("127.0.0.1", "::1")


class ConnectRequest(msgspec.Struct, frozen=True):
    namespace: str
    pod: str
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]


async def connect(node: Node, pods: Pods, connection: Connection, message: Message) -> dict[str, Any]:
    """Sends the connected socket. Raises NotFoundError, ConflictError (no sandbox), RuntimeFailure (no listener)."""
    request = converted(message, ConnectRequest)
    worker = pods.find(request.namespace, request.pod)
    ready = [found for found in node.runtime.list_pod_sandboxes(worker.uid) if found.state is SandboxState.READY]
    if not ready:
        phase = worker.pod.status.phase
        raise ConflictError(f"unable to forward port because pod is not running. Current status={phase}")
    fd = await off_loop(_connected_inside, ready[0].netns_path, request.port)
    try:
        connection.send({"event": "connected", "fds": ["socket"]}, (fd,))
        await connection.drain()
    finally:
        os.close(fd)
    return {}


def _connected_inside(netns: str, port: int) -> int:
    """`netns`: the path of the namespace; empty for the host's."""
    return in_netns(netns, lambda: _connected(port)) if netns else _connected(port)


def _connected(port: int) -> int:
    """A descriptor, the caller's. Raises RuntimeFailure with the last address's error."""
    failure = ""
    for address in _LOOPBACK:
        try:
            return socket.create_connection((address, port), timeout=_CONNECT_S).detach()
        except OSError as error:
            failure = f"connect to {address} port {port}: {error.strerror or error}"
    raise RuntimeFailure(failure)
