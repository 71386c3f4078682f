"""The verb `inspect` (layer 6): what a pod is on this host: namespaces, cgroups, network, processes, mounts, ends."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import TYPE_CHECKING, Any

import msgspec

from minipod.agent.node import Node
from minipod.agent.pods.table import Pods
from minipod.agent.specs import containers
from minipod.api.timestamps import seconds_of
from minipod.api.types import Pod, PodStatus
from minipod.control.verbs.requests import converted
from minipod.control.verbs.run import host_ports
from minipod.control.wire import Message
from minipod.errors import MinipodError, NotFoundError
from minipod.plan.sandbox import sandbox_directory
from minipod.runtime.status import ContainerState, ContainerStatus, SandboxStatus

if TYPE_CHECKING:
    from minipod.runtime.inspection import ContainerInspection, SandboxInspection

_STATES = {
    ContainerState.CREATED: "created",
    ContainerState.RUNNING: "running",
    ContainerState.EXITED: "exited",
    ContainerState.UNKNOWN: "unknown",
}


class InspectRequest(msgspec.Struct, frozen=True):
    namespace: str
    pod: str


async def inspect(node: Node, pods: Pods, message: Message) -> dict[str, Any]:
    """`sandbox` is None before it is made and after it is gone; `ended`: containers that the runtime has no more.

    Raises NotFoundError.
    """
    request = converted(message, InspectRequest)
    worker = pods.find(request.namespace, request.pod)
    pod = worker.pod
    status = max(node.runtime.list_pod_sandboxes(worker.uid), key=lambda found: found.config.attempt, default=None)
    listed = node.runtime.list_containers(status.id) if status is not None else []
    ended = _ended(pod, {container.config.name for container in listed})
    answer: dict[str, Any] = {"pod": _pod(node, pod), "sandbox": None, "containers": [], "ended": ended}
    if status is None:
        return answer
    sandbox = await node.runtime.inspect_pod_sandbox(status.id)
    namespaces: dict[str, Mapping[str, int]] = {}
    order = [container.name for container in containers(pod)]
    for container in sorted(listed, key=lambda found: (order.index(found.config.name), found.config.attempt)):
        try:
            found = await node.runtime.inspect_container(container.id)
        except NotFoundError:  # removed since it was listed
            continue
        if found.namespaces:
            namespaces[container.config.name] = found.namespaces
        answer["containers"].append(_container(node, container, found))
    answer["sandbox"] = _sandbox(node, pod, status, sandbox)
    answer["sandbox"]["namespaces"] = shared_namespaces(sandbox, namespaces)
    return answer


def _ended(pod: Pod, known: Set[str]) -> list[dict[str, Any]]:
    """How containers ended that are only in the pod's status."""
    status = pod.status or PodStatus()
    return [
        {
            "name": entry.name,
            "exit_code": ended.exit_code,
            "reason": ended.reason,
            "message": ended.message,
            "finished_at_ns": int((seconds_of(ended.finished_at) or 0) * 1e9),
        }
        for entry in (*status.init_container_statuses, *status.container_statuses, *status.ephemeral_container_statuses)
        if entry.name not in known and entry.state is not None and (ended := entry.state.terminated) is not None
    ]


def _pod(node: Node, pod: Pod) -> dict[str, Any]:
    meta = pod.metadata
    phase = pod.status.phase if pod.status is not None else ""
    return {
        "namespace": meta.namespace,
        "name": meta.name,
        "uid": meta.uid,
        "phase": phase,
        "node": node.facts.node_name,
    }


def _sandbox(node: Node, pod: Pod, status: SandboxStatus, found: SandboxInspection) -> dict[str, Any]:
    config, network = status.config, status.network
    return {
        "id": status.id,
        "attempt": config.attempt,
        "ready": status.state == "SANDBOX_READY",
        "created_at_ns": status.created_at_ns,
        "directory": sandbox_directory(status.id, node.paths),
        "hostname": config.kernel_hostname or config.hostname,
        "pause_pid": found.pause_pid,
        "cgroup": found.group,
        "network": {
            "host": config.namespaces.network == "node",
            "netns": status.netns_path,
            "addresses": [address for address in (network.ipv4, network.ipv6) if address],
            "gateways": [gateway for gateway in (network.ipv4_gateway, network.ipv6_gateway) if gateway],
            "mtu": network.mtu,
            "nftables_table": network.table,
            "veth": found.link,
        },
        "ports": host_ports(pod),
    }


def shared_namespaces(sandbox: SandboxInspection, containers: Mapping[str, Mapping[str, int]]) -> list[dict[str, Any]]:
    """Each namespace that a container is in, once: whose it is (host, pod or container), who is in it, what keeps it.

    `containers`: name -> type -> inode, of those that run.
    """
    found: dict[tuple[str, int], list[str]] = {(kind, inode): [] for kind, inode in sandbox.namespaces.items()}
    for name, namespaces in containers.items():
        for kind, inode in namespaces.items():
            found.setdefault((kind, inode), []).append(name)
    order = list(sandbox.host_namespaces)
    entries = []
    for (kind, inode), names in sorted(found.items(), key=lambda item: (order.index(item[0][0]), item[0][1])):
        of_host = sandbox.host_namespaces.get(kind) == inode
        of_pod = sandbox.namespaces.get(kind) == inode
        entries.append(
            {
                "type": kind,
                "inode": inode,
                "whose": "host" if of_host else "pod" if of_pod else "container",
                "containers": names,
                "kept_by": sandbox.pins.get(kind, "") if of_pod else "",
            }
        )
    return entries


def _container(node: Node, status: ContainerStatus, found: ContainerInspection) -> dict[str, Any]:
    config = status.config
    asked = {mount.container_path: mount for mount in config.mounts}
    mounts = [
        {
            "path": mount.path,
            "source": asked[mount.path].host_path if mount.path in asked else mount.source,
            "type": mount.type,
            "options": mount.options,
            "volume": asked[mount.path].volume if mount.path in asked else "",
        }
        for mount in found.mounts
    ]
    return {
        "name": config.name,
        "id": status.id,
        "attempt": config.attempt,
        "state": _STATES[status.state],
        "pid": status.pid if status.state == ContainerState.RUNNING else 0,
        "user": status.user,
        "started_at_ns": status.started_at_ns,
        "finished_at_ns": status.finished_at_ns,
        "exit_code": status.exit_code,
        "reason": status.reason,
        "message": status.message,
        "image": config.image,
        "image_id": status.image_id,
        "layers": _layers(node, status),
        "writable": f"{config.directory}/upper",
        "root": f"/proc/{status.pid}/root" if status.state == ContainerState.RUNNING else "",
        "log": status.log_path,
        "cgroup": found.group,
        "processes": found.processes,
        "process_count": found.process_count,
        "mounts": mounts,
    }


def _layers(node: Node, status: ContainerStatus) -> list[str]:
    """The directories of its image's layers, lowest first; none where the image has been removed since."""
    try:
        image = node.runtime.images.resolve(status.image_id)
    except MinipodError:
        image = None
    return list(image.layers) if image is not None else []
