"""This host as a v1 Node (layer 5): a read-only object of the host's facts, made once at the start of the agent.

Fields as the kubelet sets them: pkg/kubelet/nodestatus/setters.go.
"""

from __future__ import annotations

import os
import uuid

from minipod import __version__
from minipod.agent.registry.store import Store
from minipod.api.timestamps import timestamp
from minipod.api.types import (
    DaemonEndpoint,
    Node,
    NodeAddress,
    NodeCondition,
    NodeDaemonEndpoints,
    NodeStatus,
    NodeSystemInfo,
    ObjectMeta,
)
from minipod.plan.configs import HostFacts

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_IDENTITY = "node"  # key in the store: the uid, and the time at which this node was first seen


def host_node(facts: HostFacts, store: Store, now_s: float) -> Node:
    """`now_s`: the time at which the agent started, seconds since the epoch."""
    known = store.meta(_IDENTITY)
    if known is None:
        known = f"{uuid.uuid4()} {timestamp(now_s)}"
        store.note(_IDENTITY, known)
    uid, _, created = known.partition(" ")
    name, machine = facts.node_name, os.uname().machine
    architecture = ARCHITECTURES.get(machine, machine)
    labels = {
        "kubernetes.io/arch": architecture,
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
    }
    capacity = {
        "cpu": str(facts.cpus),
        "ephemeral-storage": f"{facts.storage_bytes >> 10}Ki",
        "memory": f"{facts.memory_bytes >> 10}Ki",
    }
    ready = NodeCondition(
        type="Ready",
        status="True",
        reason="KubeletReady",
        message="minipod's node agent is posting ready status",
        last_heartbeat_time=timestamp(now_s),
        last_transition_time=timestamp(now_s),
    )
    addresses = tuple(NodeAddress(type="InternalIP", address=address) for address in facts.node_ips)
    info = NodeSystemInfo(
        architecture=architecture,
        boot_id=_line("/proc/sys/kernel/random/boot_id"),
        container_runtime_version=f"minipod://{__version__}",
        kernel_version=facts.kernel,
        kubelet_version=f"minipod-{__version__}",
        machine_id=_line("/etc/machine-id"),
        operating_system="linux",
        os_image=_os_image(),
        system_uuid=_line("/sys/class/dmi/id/product_uuid"),
    )
    return Node(
        metadata=ObjectMeta(
            name=name, uid=uid, creation_timestamp=created, labels=labels, resource_version=str(store.version)
        ),
        status=NodeStatus(
            addresses=(*addresses, NodeAddress(type="Hostname", address=name)),
            allocatable=capacity,
            capacity=capacity,
            conditions=(ready,),
            daemon_endpoints=NodeDaemonEndpoints(kubelet_endpoint=DaemonEndpoint(port=0)),
            node_info=info,
        ),
    )


def _line(path: str) -> str:
    """The text of a small file of the kernel or the system; `""` where there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(4096).strip()
    except OSError:
        return ""


def _os_image() -> str:
    for line in _line("/etc/os-release").splitlines():
        key, _, value = line.partition("=")
        if key == "PRETTY_NAME":
            return value.strip("\"'")
    return ""
