"""Resolves a probe of the spec to a function that makes it (layer 5): address, port by name, command."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Sequence
from functools import cache

from minipod.agent.node import Node
from minipod.agent.probes.kinds.connection import Answer, Attempt, Done
from minipod.agent.probes.kinds.exec import MAX_OUTPUT, ExecProbe
from minipod.agent.probes.kinds.http import HttpProbe, http_request
from minipod.agent.probes.kinds.tcp import TcpProbe
from minipod.agent.specs import container_spec
from minipod.api.types import Container, EphemeralContainer, ExecAction, HTTPGetAction, Pod, TCPSocketAction
from minipod.lifecycle.probes import WantedProbe
from minipod.plan.env import expand_all
from minipod.runtime.offload import Pool, in_pool
from minipod.runtime.status import ExecResult

Make = Callable[[Done], Attempt]
AnyContainer = Container | EphemeralContainer


def maker(node: Node, pod: Pod, ips: Sequence[str], wanted: WantedProbe) -> Make:
    """The function that begins one attempt of this probe. `ips`: the sandbox's."""
    container = container_spec(pod, wanted.name)
    probe = wanted.probe
    loop = asyncio.get_running_loop()
    address = pod_address(node, pod, ips)
    try:
        if probe.exec is not None:
            return _exec(node, loop, container, wanted, probe.exec)
        if probe.http_get is not None:
            return http(loop, container, address, probe.http_get)
        if probe.tcp_socket is not None:
            return tcp(loop, container, address, probe.tcp_socket)
        if probe.grpc is not None:
            from minipod.agent.probes.kinds.grpc import GrpcProbe  # imported late: few probes need HTTP/2

            port, service = probe.grpc.port, probe.grpc.service or ""
            return lambda done: GrpcProbe(loop, address, port, service, probe.timeout_seconds, done)
    except ValueError as error:
        return _impossible(str(error))
    return _impossible("missing probe handler")


def pod_address(node: Node, pod: Pod, ips: Sequence[str]) -> str:
    """status.podIP: the address at which the node reaches the pod."""
    if pod.spec.host_network:
        ips = node.facts.node_ips
    return ips[0] if ips else "127.0.0.1"


def _exec(
    node: Node, loop: asyncio.AbstractEventLoop, container: AnyContainer, wanted: WantedProbe, action: ExecAction
) -> Make:
    # A probe knows only variables with a literal value (ExpandContainerCommandOnlyStatic).
    command = expand_all(action.command, {variable.name: variable.value for variable in container.env})

    async def run(command: Sequence[str], timeout_s: float) -> ExecResult:
        return await node.runtime.exec_sync(wanted.container_id, command, timeout_s, MAX_OUTPUT)

    return lambda done: ExecProbe(loop, run, command, wanted.probe.timeout_seconds, done)


def http(
    loop: asyncio.AbstractEventLoop,
    container: AnyContainer,
    address: str,
    action: HTTPGetAction,
    purpose: str = "probe",
) -> Make:
    """Raises ValueError: there is no such port, or no such host can be."""
    request = http_request(action, address, port_number(action.port, container), purpose)

    def make(numeric: str, done: Done) -> Attempt:
        return HttpProbe(loop, numeric, request, done, judged=purpose == "probe")

    return _at(loop, action.host or address, make, f'Get "{request.url}": ')


def tcp(loop: asyncio.AbstractEventLoop, container: AnyContainer, address: str, action: TCPSocketAction) -> Make:
    """Raises ValueError: there is no such port."""
    port, host = port_number(action.port, container), action.host or address
    return _at(loop, host, lambda numeric, done: TcpProbe(loop, numeric, host, port, done), "")


def port_number(port: int | str, container: AnyContainer) -> int:
    """probe.ResolveContainerPort: a number, also one in quotes, or the container's port of that name."""
    if isinstance(port, str):
        named = next((declared.container_port for declared in container.ports if declared.name == port), None)
        if named is None and not port.isdigit():
            raise ValueError(f"port {port} not found")
        port = int(port) if named is None else named
    if not 0 < port < 65536:
        raise ValueError(f"invalid port number: {port}")
    return port


def _at(loop: asyncio.AbstractEventLoop, host: str, make: Callable[[str, Done], Attempt], prefix: str) -> Make:
    """Makes the probe at once where `host` is an address, after a look-up where it is a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return lambda done: _Named(loop, host, make, prefix, done)
    return lambda done: make(host, done)


@cache
def _look_ups() -> Pool:
    """Threads of their own: names whose servers do not answer delay no other work of the agent."""
    return Pool("look-up", 16)


def _address_of(host: str) -> str:
    return str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])


class _Named:
    """An attempt that begins with a look-up on the node, as every attempt does."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        host: str,
        make: Callable[[str, Done], Attempt],
        prefix: str,
        done: Done,
    ) -> None:
        self._host = host
        self._make = make
        self._prefix = prefix
        self._done = done
        self._attempt: Attempt | None = None
        self._task = loop.create_task(self._look_up())

    async def _look_up(self) -> None:
        try:
            found = await in_pool(_look_ups(), _address_of, self._host)
        except (OSError, ValueError):  # an invalid name cannot be encoded
            self._done(Answer("failure", f"{self._prefix}dial tcp: lookup {self._host}: no such host"))
            return
        self._attempt = self._make(found, self._done)

    def time_is_up(self) -> None:
        if self._attempt is not None:
            self._attempt.time_is_up()
            return
        self._task.cancel()
        self._done(Answer("failure", f"{self._prefix}dial tcp: lookup {self._host}: i/o timeout"))

    def give_up(self) -> None:
        self._task.cancel()
        if self._attempt is not None:
            self._attempt.give_up()


class _Nothing:
    """An attempt that has failed already."""

    def time_is_up(self) -> None:
        """Nothing to do: it has been answered."""

    def give_up(self) -> None:
        """Nothing to do."""


def _impossible(why: str) -> Make:
    def make(done: Done) -> Attempt:
        done(Answer("error", why))
        return _Nothing()

    return make
