"""Runs one lifecycle hook, postStart or preStop (layer 5): exec, sleep, httpGet, tcpSocket (no longer validated).

After pkg/kubelet/lifecycle/handlers.go. When a hook runs and what its failure means is the lifecycle's.
"""

from __future__ import annotations

import asyncio

from minipod.agent.node import Node
from minipod.agent.specs import container_spec
from minipod.api.types import Container, EphemeralContainer, HTTPGetAction, LifecycleHandler, Pod
from minipod.errors import MinipodError
from minipod.lifecycle import model
from minipod.runtime.status import SandboxStatus

MAX_OUTPUT = 512


async def run(node: Node, pod: Pod, sandbox: SandboxStatus, action: model.RunHook) -> str:
    """Empty when it went well, else what went wrong in one line."""
    container = container_spec(pod, action.name)
    handler = _handler(container, action.hook)
    if handler is None:
        return ""
    try:
        async with asyncio.timeout(action.timeout_s):
            return await _run(node, container, sandbox, action, handler)
    except TimeoutError:
        return f"timed out after {action.timeout_s:.0f} s"
    except (MinipodError, OSError) as error:
        return str(error)


def _handler(container: Container | EphemeralContainer, hook: str) -> LifecycleHandler | None:
    if container.lifecycle is None:
        return None
    return container.lifecycle.post_start if hook == "postStart" else container.lifecycle.pre_stop


async def _run(
    node: Node,
    container: Container | EphemeralContainer,
    sandbox: SandboxStatus,
    action: model.RunHook,
    handler: LifecycleHandler,
) -> str:
    if handler.exec is not None:
        # With its own timeout, which also ends the command.
        result = await node.runtime.exec_sync(action.container_id, handler.exec.command, action.timeout_s or 0)
        if result.exit_code == 0:
            return ""
        output = (result.stdout + result.stderr)[:MAX_OUTPUT].decode("utf-8", "replace").strip()
        return f"command {' '.join(handler.exec.command)!r} exited with {result.exit_code}: {output}"
    if handler.sleep is not None:
        await asyncio.sleep(handler.sleep.seconds)
        return ""
    if handler.http_get is not None:
        return await _http_get(handler.http_get, container, sandbox)
    return "no handler is given"


async def _http_get(action: HTTPGetAction, container: Container | EphemeralContainer, sandbox: SandboxStatus) -> str:
    """A hook's request: any answer of HTTP below 400 will do; a hook's https is not verified, as the kubelet's."""
    host = action.host or (sandbox.ips[0] if sandbox.ips else "127.0.0.1")
    port = port_number(action.port, container)
    if port is None:
        return f"port {action.port} is not a port of the container"
    tls = None
    if action.scheme == "HTTPS":
        import ssl

        tls = ssl._create_unverified_context()
    reader, writer = await asyncio.open_connection(host, port, ssl=tls)
    try:
        lines = [f"GET {action.path or '/'} HTTP/1.1", f"Host: {host}:{port}", "Connection: close", "Accept: */*"]
        lines += [f"{header.name}: {header.value}" for header in action.http_headers]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        await writer.drain()
        status = (await reader.readline()).split()
        if len(status) < 2 or not status[1].isdigit():
            return f"http://{host}:{port}: not an answer of HTTP"
        return "" if int(status[1]) < 400 else f"HTTP probe failed with statuscode: {int(status[1])}"
    finally:
        writer.close()


def port_number(port: int | str, container: Container | EphemeralContainer) -> int | None:
    """A number, or the container's port of that name."""
    if isinstance(port, int):
        return port
    return next((one.container_port for one in container.ports if one.name == port), None)
