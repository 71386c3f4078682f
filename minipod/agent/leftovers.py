"""Resources on the host that belong to no stored pod (layer 5): finds and removes them, for recovery and `gc`."""

from __future__ import annotations

import logging
import os

from minipod.agent.node import Node
from minipod.agent.pods.table import Pods
from minipod.errors import MinipodError, NotFoundError
from minipod.kernel.error_text import text_of
from minipod.kernel.mount import mounts_below, umount_if_mounted
from minipod.kernel.remove import remove_tree
from minipod.runtime.face import Leftover
from minipod.runtime.offload import off_loop, slowly_off_loop
from minipod.runtime.status import ContainerStatus

log = logging.getLogger("minipod.agent")


def orphans(node: Node) -> list[ContainerStatus]:
    """Containers whose sandbox is gone: its removal was interrupted."""
    known = {sandbox.id for sandbox in node.runtime.list_pod_sandboxes()}
    return [status for status in node.runtime.list_containers() if status.sandbox_id not in known]


async def remove_container(node: Node, container_id: str) -> list[str]:
    try:
        await node.runtime.remove_container(container_id)
    except (MinipodError, OSError) as error:
        return [f"container {container_id[:12]}: {text_of(error)}"]
    return []


async def remove_orphans(node: Node) -> None:
    """Removes the orphans as part of recovery. Raises nothing: failures are logged."""
    for status in orphans(node):
        for failure in await remove_container(node, status.id):
            log.warning("the last agent left a %s", failure)


async def sweep(node: Node, pods: Pods) -> None:
    """Removes, in threads, what an earlier agent left that did not finish its removals, however it ended. Skips pods
    that have a sandbox. Raises nothing: failures are logged.
    """
    try:
        pods.remove_logs_of_gone()
        found: list[Leftover] = [*await node.runtime.find_leftovers(), *await folders(node, pods, keep_sandboxed=True)]
    except (MinipodError, OSError) as error:
        log.warning("what the last agent left cannot be found: %s", text_of(error))
        return
    for leftover in found:
        try:
            await slowly_off_loop(leftover.undo)
            log.info("the last agent left a %s: removed", leftover.describe())
        except (MinipodError, OSError) as error:
            log.warning("the last agent left a %s: %s", leftover.describe(), text_of(error))


async def remove_sandbox(node: Node, sandbox_id: str) -> list[str]:
    try:
        await node.runtime.remove_pod_sandbox(sandbox_id)
    except NotFoundError:
        pass
    except (MinipodError, OSError) as error:
        return [f"sandbox {sandbox_id[:12]}: {text_of(error)}"]
    return []


class Folder:
    """A directory of a pod that does not exist any more."""

    def __init__(self, path: str) -> None:
        self.path = path

    def describe(self) -> str:
        return f"folder {self.path}"

    def undo(self) -> None:
        remove_tree(self.path)


class PodFolder(Folder):
    """Unmounts the pod's volumes first, but nothing that others mounted further below."""

    def undo(self) -> None:
        volumes = f"{self.path}/volumes/"
        for place in mounts_below(self.path):
            if place.startswith(volumes) and place[len(volumes) :].count("/") == 1:
                umount_if_mounted(place)
        super().undo()


async def folders(node: Node, pods: Pods, *, keep_sandboxed: bool = False) -> list[Folder]:
    """The directories of pods without an object: volumes, and logs where the log directory is minipod's own.

    `keep_sandboxed`: skip pods that still have a sandbox.
    """
    paths = node.paths
    own_logs = paths.pod_logs.startswith(f"{paths.state}/")  # else a kubelet of this host may keep its own there
    volumes = await off_loop(_names, f"{paths.state}/pods")
    logs = await off_loop(_names, paths.pod_logs) if own_logs else []
    # Asked for afterwards: a pod is known before its first directory is made.
    sandboxes = node.runtime.list_pod_sandboxes() if keep_sandboxed else []
    alive = {sandbox.config.uid for sandbox in sandboxes}
    kept = alive | pods.keep_logs | set(pods.removals.values())
    found: list[Folder] = [
        PodFolder(f"{paths.state}/pods/{uid}") for uid in volumes if pods.by_uid(uid) is None and uid not in alive
    ]
    for name in logs:
        uid = name.rpartition("_")[2]
        if pods.by_uid(uid) is None and uid not in kept:
            found.append(Folder(f"{paths.pod_logs}/{name}"))
    return found


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
