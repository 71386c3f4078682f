"""Runs one lifecycle hook, postStart or preStop (layer 5): exec, sleep, httpGet; tcpSocket fails, as in the kubelet.

After pkg/kubelet/lifecycle/handlers.go. When a hook runs and what its failure means is the lifecycle's.
"""

from __future__ import annotations

import asyncio

from minipod.agent.node import Node
from minipod.agent.specs import container_spec
from minipod.api.types import Container, EphemeralContainer, LifecycleHandler, Pod
from minipod.errors import MinipodError
from minipod.lifecycle import model
from minipod.lifecycle.spec import pod_words
from minipod.plan.env import go_quote
from minipod.runtime.spawner.client import SpawnerGoneError
from minipod.runtime.status import ExecResult, SandboxStatus

MAX_OUTPUT = 512  # bytes of each stream in a message


async def run(node: Node, pod: Pod, sandbox: SandboxStatus, action: model.RunHook) -> str:
    """Runs the hook. Returns `""`, or its failure in one line, with the kubelet's message."""
    container = container_spec(pod, action.name)
    handler = _handler(container, action.hook)
    if handler is None:
        return ""
    try:
        async with asyncio.timeout(action.timeout_s):
            failure = await _run(node, pod, container, sandbox, action, handler)
    except TimeoutError:
        failure = f"timed out after {action.timeout_s:.0f} s"
    except (MinipodError, OSError) as error:
        failure = str(error)
    if not failure:
        return ""
    return f'{_what(handler)} for Container "{action.name}" in Pod "{pod_words(pod)}" failed - error: {failure}'


def _what(handler: LifecycleHandler) -> str:
    if handler.exec is not None:
        return f"Exec lifecycle hook ([{' '.join(handler.exec.command)}])"
    if handler.http_get is not None:
        return f"HTTP lifecycle hook ({handler.http_get.path})"
    return f"Sleep lifecycle hook ({handler.sleep.seconds})" if handler.sleep is not None else "Lifecycle hook"


def _handler(container: Container | EphemeralContainer, hook: str) -> LifecycleHandler | None:
    if container.lifecycle is None:
        return None
    return container.lifecycle.post_start if hook == "postStart" else container.lifecycle.pre_stop


async def _executed(node: Node, action: model.RunHook, command: tuple[str, ...]) -> ExecResult:
    """Once more where the spawner dies with it: a hook runs at least once, and a failed postStart costs a restart."""
    arguments = (action.container_id, command, action.timeout_s or 0, MAX_OUTPUT)
    try:
        return await node.runtime.exec_sync(*arguments)
    except SpawnerGoneError:
        return await node.runtime.exec_sync(*arguments)


async def _run(
    node: Node,
    pod: Pod,
    container: Container | EphemeralContainer,
    sandbox: SandboxStatus,
    action: model.RunHook,
    handler: LifecycleHandler,
) -> str:
    if handler.exec is not None:
        # With its own timeout, which also ends the command.
        command = handler.exec.command
        result = await _executed(node, action, command)
        if result.exit_code == 0:
            return ""
        error, output = (
            text[:MAX_OUTPUT].decode("utf-8", "replace") for text in (result.stderr, result.stdout + result.stderr)
        )
        return f"command '{' '.join(command)}' exited with {result.exit_code}: {error}, message: {go_quote(output)}"
    if handler.sleep is not None:
        await asyncio.sleep(handler.sleep.seconds)
        return ""
    if handler.http_get is not None:
        from minipod.agent.probes import http_hook  # imported late: few pods have one

        return await http_hook.run(node, pod, container, sandbox, handler.http_get)
    return "invalid handler: a hook is exec, httpGet or sleep"
