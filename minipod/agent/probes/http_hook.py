"""The httpGet hook (layer 5), after runHTTPHandler in pkg/kubelet/lifecycle/handlers.go. Decides nothing."""

from __future__ import annotations

import asyncio

import msgspec

from minipod.agent.events import PodReference
from minipod.agent.node import Node
from minipod.agent.probes.kinds.connection import Answer, join_host_port
from minipod.agent.probes.kinds.http import SPEAKS_HTTP
from minipod.agent.probes.targets import http, pod_address, port_number
from minipod.api.types import Container, EphemeralContainer, HTTPGetAction, Pod
from minipod.runtime.status import SandboxStatus


async def run(
    node: Node, pod: Pod, container: Container | EphemeralContainer, sandbox: SandboxStatus, action: HTTPGetAction
) -> str:
    """Any answer is a success; an https request that gets a plain HTTP answer is repeated as http, with an event."""
    address = pod_address(node, pod, sandbox.ips)
    failure = await _ask(container, address, action)
    if not failure.endswith(SPEAKS_HTTP):
        return failure
    headers = tuple(header for header in action.http_headers if header.name.lower() != "authorization")
    plain = msgspec.structs.replace(action, scheme="HTTP", http_headers=headers)
    if await _ask(container, address, plain):
        return failure
    target = join_host_port(action.host or address, port_number(action.port, container))
    message = f"request to HTTPS lifecycle hook {target} got HTTP response, retry with HTTP succeeded"
    reference = PodReference(pod.metadata.namespace, pod.metadata.name, pod.metadata.uid)
    node.events.note(reference, "Warning", "LifecycleHTTPFallback", message, node.clock())
    return ""


async def _ask(container: Container | EphemeralContainer, address: str, action: HTTPGetAction) -> str:
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[Answer] = loop.create_future()
    try:
        attempt = http(loop, container, address, action, "lifecycle")(answered.set_result)
    except ValueError as error:
        return str(error)
    try:
        answer = await answered
    except asyncio.CancelledError:
        attempt.give_up()
        raise
    return answer.message if answer.result == "failure" else ""
