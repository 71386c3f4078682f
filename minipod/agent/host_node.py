"""This host as a v1 Node (layer 5): a read-only object of the host's facts, made once at the start of the agent.

Fields as the kubelet sets them: pkg/kubelet/nodestatus/setters.go.
"""

from __future__ import annotations

import os
import uuid

from minipod import __version__
from minipod.agent.registry.store import Store
from minipod.api.quantity import from_value
from minipod.api.timestamps import timestamp
from minipod.api.types import (
    DaemonEndpoint,
    Node,
    NodeAddress,
    NodeCondition,
    NodeDaemonEndpoints,
    NodeSpec,
    NodeStatus,
    NodeSystemInfo,
    ObjectMeta,
    Taint,
)
from minipod.config import Config, split_taint
from minipod.plan.configs import HostFacts

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_IDENTITY = "node"  # key in the store: the uid, and the time at which this node was first seen


def host_node(facts: HostFacts, config: Config, store: Store, now_s: float) -> Node:
    """`now_s`: the time at which the agent started, seconds since the epoch."""
    known = store.meta(_IDENTITY)
    if known is None:
        known = f"{uuid.uuid4()} {timestamp(now_s)}"
        store.note(_IDENTITY, known)
    uid, _, created = known.partition(" ")
    name, machine = facts.node_name, os.uname().machine
    architecture = ARCHITECTURES.get(machine, machine)
    labels = {
        **config.node_labels,
        "beta.kubernetes.io/arch": architecture,
        "beta.kubernetes.io/os": "linux",
        "kubernetes.io/arch": architecture,
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
    }
    capacity, allocatable = _resources(facts, config)
    parts = (split_taint(text) for text in config.node_taints)
    taints = tuple(Taint(key=key, value=value, effect=effect) for key, value, effect in parts)
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
        spec=NodeSpec(taints=taints),
        status=NodeStatus(
            addresses=(*addresses, NodeAddress(type="Hostname", address=name)),
            allocatable=allocatable,
            capacity=capacity,
            conditions=(ready,),
            daemon_endpoints=NodeDaemonEndpoints(kubelet_endpoint=DaemonEndpoint(port=0)),
            node_info=info,
        ),
    )


def _resources(facts: HostFacts, config: Config) -> tuple[dict[str, str], dict[str, str]]:
    """Capacity and allocatable: nothing is reserved, and memory set aside as huge pages is no memory otherwise."""
    capacity = {
        "cpu": str(facts.cpus),
        "ephemeral-storage": f"{facts.storage_bytes >> 10}Ki",
        **{f"hugepages-{size}": from_value(found, binary=True) for size, found in sorted(facts.huge_pages.items())},
        "memory": f"{facts.memory_bytes >> 10}Ki",
        "pods": str(config.max_pods),
    }
    left = facts.memory_bytes - sum(facts.huge_pages.values())
    return capacity, {**capacity, "memory": f"{left >> 10}Ki"}


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
