"""The verb `gc` (layer 6): reports and removes what minipod left on the host and no stored pod owns."""

from __future__ import annotations

from typing import Any

from minipod.agent import leftovers
from minipod.agent.node import Node
from minipod.agent.pods.table import Pods
from minipod.control.wire import Connection
from minipod.errors import MinipodError, RuntimeFailure
from minipod.kernel.error_text import text_of
from minipod.runtime.face import Leftover
from minipod.runtime.offload import slowly_off_loop


async def collect(node: Node, pods: Pods, connection: Connection, *, dry_run: bool) -> dict[str, Any]:
    """Reports each leftover and, unless `dry_run`, removes it. Raises RuntimeFailure that names what stayed."""
    failures = []
    count = 0
    for sandbox in node.runtime.list_pod_sandboxes():
        if pods.by_uid(sandbox.config.uid) is not None:
            continue
        count += 1
        what = f"sandbox {sandbox.id[:12]} of pod {sandbox.config.namespace}/{sandbox.config.name}, which is not known"
        connection.send({"event": "found", "message": what})
        if not dry_run:
            failures += await leftovers.remove_sandbox(node, sandbox.id)
    for status in leftovers.orphans(node):
        count += 1
        what = f"container {status.id[:12]} ({status.config.name}) of a sandbox that is gone"
        connection.send({"event": "found", "message": what})
        if not dry_run:
            failures += await leftovers.remove_container(node, status.id)
    everything: list[Leftover] = [*await node.runtime.find_leftovers(), *await leftovers.folders(node, pods)]
    for leftover in everything:
        count += 1
        connection.send({"event": "found", "message": leftover.describe()})
        if not dry_run:
            try:
                await slowly_off_loop(leftover.undo)
            except (MinipodError, OSError) as error:
                failures.append(f"{leftover.describe()}: {text_of(error)}")
    if failures:
        raise RuntimeFailure("gc: not everything could be removed: " + "; ".join(failures))
    return {"found": count, "removed": 0 if dry_run else count}
