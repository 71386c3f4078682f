"""The verb `halt` (layer 6): ends the containers of all pods and answers when none runs. The pods stay."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import msgspec

from minipod.agent.node import Node
from minipod.agent.pods.table import Pods
from minipod.control.verbs.requests import converted, or_gone
from minipod.control.wire import Connection, Message

LOOK_S = 0.1


class HaltRequest(msgspec.Struct, frozen=True):
    """`grace_period`: seconds that no container exceeds; None: each has its pod's. `sandboxes`: these end as well, so
    that nothing of the pods is in the kernel.
    """

    grace_period: Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)] | None = None
    sandboxes: bool = False


async def halt(node: Node, pods: Pods, connection: Connection, request: Message) -> dict[str, Any]:
    """The containers continue to end where the client disconnects."""
    wanted = converted(request, HaltRequest)
    stopped = pods.running()
    pods.halt(None if wanted.grace_period is None else float(wanted.grace_period))
    await or_gone(connection, _none_runs(pods))
    if wanted.sandboxes:
        for sandbox in node.runtime.list_pod_sandboxes():
            await node.runtime.remove_pod_sandbox(sandbox.id)
    return {"stopped": stopped}


async def _none_runs(pods: Pods) -> None:
    while pods.running():
        await asyncio.sleep(LOOK_S)
