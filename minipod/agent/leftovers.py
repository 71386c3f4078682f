"""The verb `gc` (layer 5): what is on the host and belongs to no pod of the store is told and taken away."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from minipod.agent.hands import one_line
from minipod.agent.node import Leftover, Node
from minipod.agent.pods import Pods
from minipod.agent.wire import Connection
from minipod.errors import MinipodError, NotFoundError, RuntimeFailure
from minipod.kernel.remove import remove_tree


async def collect(node: Node, pods: Pods, connection: Connection, *, dry_run: bool) -> dict[str, Any]:
    """Tells each finding, removes it unless `dry_run`. Raises RuntimeFailure when something would not go."""
    failures = []
    count = 0
    for sandbox in node.runtime.list_pod_sandboxes():
        if pods.by_uid(sandbox.config.uid) is not None:
            continue
        count += 1
        what = f"sandbox {sandbox.id[:12]} of pod {sandbox.config.namespace}/{sandbox.config.name}, which is not known"
        connection.send({"event": "found", "message": what})
        if not dry_run:
            failures += await _remove_sandbox(node, sandbox.id)
    everything: list[Leftover] = [*node.runtime.find_leftovers(), *_folders(node, pods)]
    for leftover in everything:
        count += 1
        connection.send({"event": "found", "message": leftover.describe()})
        if not dry_run:
            try:
                await asyncio.to_thread(leftover.undo)
            except (MinipodError, OSError) as error:
                failures.append(f"{leftover.describe()}: {one_line(error)}")
    if failures:
        raise RuntimeFailure("gc: not everything could be removed: " + "; ".join(failures))
    return {"found": count, "removed": 0 if dry_run else count}


async def _remove_sandbox(node: Node, sandbox_id: str) -> list[str]:
    try:
        await node.runtime.stop_pod_sandbox(sandbox_id)
        for status in node.runtime.list_containers():
            if status.sandbox_id == sandbox_id:
                await node.runtime.remove_container(status.id)
        await node.runtime.remove_pod_sandbox(sandbox_id)
    except NotFoundError:
        pass
    except (MinipodError, OSError) as error:
        return [f"sandbox {sandbox_id[:12]}: {one_line(error)}"]
    return []


class Folder:
    """A folder of a pod that is not known any more."""

    def __init__(self, path: str) -> None:
        self.path = path

    def describe(self) -> str:
        return f"folder {self.path}"

    def undo(self) -> None:
        remove_tree(self.path)


def _folders(node: Node, pods: Pods) -> list[Folder]:
    """Of pods without an object: their volumes, and their logs where the log folder is minipod's alone."""
    paths = node.paths
    found = [Folder(f"{paths.state}/pods/{uid}") for uid in _names(f"{paths.state}/pods") if pods.by_uid(uid) is None]
    if paths.pod_logs.startswith(f"{paths.state}/"):  # a kubelet of this host may keep its own in /var/log/pods
        for name in _names(paths.pod_logs):
            uid = name.rpartition("_")[2]
            if pods.by_uid(uid) is None and uid not in pods.keep_logs:
                found.append(Folder(f"{paths.pod_logs}/{name}"))
    return found


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
