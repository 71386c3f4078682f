"""The verb `usage` (layer 6): processor time and memory of each container now, for `minipod top`."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec

from minipod.agent.node import Node
from minipod.agent.registry.selection import Selection, parse_selectors
from minipod.api.kinds import POD
from minipod.control.verbs.requests import converted
from minipod.control.wire import Message
from minipod.errors import NotFoundError
from minipod.runtime.status import ContainerState

_AT_ONCE = 20  # containers that are read in one turn of the loop


class UsageRequest(msgspec.Struct, frozen=True):
    """`namespace` None: all. `name` empty: each pod."""

    namespace: str | None = None
    name: str = ""
    selector: str = ""


async def usage(node: Node, message: Message) -> dict[str, Any]:
    """`pods`: those that run, with `containers`, their counters and when these were read. Raises NotFoundError."""
    request = converted(message, UsageRequest)
    labels, _ = parse_selectors(request.selector, "", POD.fields)
    selection = Selection(frozenset(), labels)
    found = node.registry.objects(POD, request.namespace)
    if request.name:
        found = [node.registry.get(POD, request.namespace or "default", request.name)]
    pods = []
    read = 0
    for pod in found:
        if not selection.matches(pod):
            continue
        containers = []
        for sandbox in node.runtime.list_pod_sandboxes(pod.metadata.uid):
            for status in node.runtime.list_containers(sandbox.id):
                if status.state != ContainerState.RUNNING:
                    continue
                containers.append(_counters(node, status.config.name, status.id))
                read += 1
                if read % _AT_ONCE == 0:
                    await asyncio.sleep(0)
        if containers:
            pods.append({"namespace": pod.metadata.namespace, "name": pod.metadata.name, "containers": containers})
    if request.name and not pods:
        raise NotFoundError(f'pod "{request.name}" has no running container')
    return {"pods": pods}


def _counters(node: Node, name: str, container_id: str) -> dict[str, Any]:
    stats = node.runtime.container_stats(container_id)
    return {
        "name": name,
        "id": container_id,
        "read_at_ns": time.monotonic_ns(),
        "cpu_usage_ns": stats.cpu_usage_ns,
        "memory_working_set_bytes": stats.memory_working_set_bytes,
        "pids": stats.pids,
    }
