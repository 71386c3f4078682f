"""A pod's requests and limits as the kubelet's numbers (layer 2, pure): groups, shares, quotas, limits, oom_score_adj.

Rules: pkg/kubelet/cm/helpers_linux.go (pod), kuberuntime_container_linux.go (container), pkg/kubelet/qos/policy.go.
How the numbers become files is `plan.cgroup`. Pods are defaulted before: their requests are set.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from minipod.api import quantity
from minipod.api.status import is_sidecar, pod_limits, pod_requests, qos_class
from minipod.api.types import Container, Pod
from minipod.config import Config
from minipod.paths import Paths
from minipod.plan.cgroup import MAX_SHARES, MIN_SHARES, SHARES_PER_CPU
from minipod.plan.configs import CgroupResources

QUOTA_PERIOD_US = 100_000
MIN_QUOTA_US = 1_000

GUARANTEED_OOM_SCORE_ADJ = -997
BEST_EFFORT_OOM_SCORE_ADJ = 1000
SYSTEM_CRITICAL_PRIORITY = 2_000_000_000  # pkg/apis/scheduling SystemCriticalPriority
SYSTEM_NODE_CRITICAL = "system-node-critical"

_POD_LEVEL = ("cpu", "memory")


def qos_of(pod: Pod) -> str:
    """Guaranteed | Burstable | BestEffort: as the status holds it, else computed."""
    return pod.status.qos_class or qos_class(pod)


def shares(milli_cpu: int) -> int:
    """cpu.shares of so many millicores, 2 to 262144."""
    return max(MIN_SHARES, min(MAX_SHARES, milli_cpu * SHARES_PER_CPU // 1000))


def shares_millicores(cpu_shares: int) -> int:
    """The inverse, as a status reports it (SharesToMilliCPU)."""
    return -(-cpu_shares * 1000 // SHARES_PER_CPU)


def quota_us(milli_cpu: int, period_us: int = QUOTA_PERIOD_US) -> int | None:
    """cpu.cfs_quota_us of so many millicores, at least 1 ms; None without a limit."""
    return max(MIN_QUOTA_US, milli_cpu * period_us // 1000) if milli_cpu else None


def pod_cgroup_parent(pod: Pod, paths: Paths) -> str:
    """The pod's group: `/<instance>/kubepods/<class>/pod<uid>`, a Guaranteed pod's right below kubepods."""
    tier = {"Burstable": "/burstable", "BestEffort": "/besteffort"}.get(qos_of(pod), "")
    return f"{paths.cgroup_root}/kubepods{tier}/pod{pod.metadata.uid}"


def pod_cgroup_resources(pod: Pod, config: Config) -> CgroupResources:
    """What the pod's own group gets (ResourceConfigForPod): limits only where every container has one."""
    pids_max = config.pod_pids_limit if config.pod_pids_limit > 0 else None
    tier = qos_of(pod)
    if tier == "BestEffort":
        return CgroupResources(cpu_shares=MIN_SHARES, pids_max=pids_max)
    limits = pod_limits(pod)
    guaranteed = tier == "Guaranteed"
    cpu_limited = guaranteed or _limited(pod, "cpu")
    memory_limited = guaranteed or _limited(pod, "memory")
    return CgroupResources(
        cpu_shares=shares(cpu_request_millicores(pod)),
        cpu_quota_us=quota_us(_millis(limits, "cpu")) if cpu_limited else None,
        memory_limit_bytes=(_bytes(limits, "memory") or None) if memory_limited else None,
        pids_max=pids_max,
    )


def _limited(pod: Pod, name: str) -> bool:
    """Whether the pod, or else each of its containers together with the sidecars before it, has a limit."""
    if pod.spec.resources is not None and _bytes(pod.spec.resources.limits, name):
        return True
    sidecar_limited = False
    for container in pod.spec.init_containers:
        limited = bool(_millis(container.resources.limits, name))
        if not limited and not sidecar_limited:
            return False
        sidecar_limited = sidecar_limited or (limited and is_sidecar(container))
    return all(_millis(container.resources.limits, name) for container in pod.spec.containers)


def container_resources(pod: Pod, container: Container) -> CgroupResources:
    """What a container's group gets (generateLinuxContainerResources); the pod's own limit where it has none."""
    cpu_limit = _container_limit(pod, container, "cpu")
    request = container.resources.requests.get("cpu", cpu_limit)
    memory_limit = quantity.value(_container_limit(pod, container, "memory"))
    return CgroupResources(
        cpu_shares=shares(quantity.millis(request)),
        cpu_quota_us=quota_us(quantity.millis(cpu_limit)),
        memory_limit_bytes=memory_limit or None,
    )


def _container_limit(pod: Pod, container: Container, name: str) -> str:
    own = container.resources.limits.get(name, "0")
    if quantity.sign(own) or pod.spec.resources is None:
        return own
    return pod.spec.resources.limits.get(name, "0")


def oom_score_adj(pod: Pod, container: Container, node_memory_bytes: int) -> int:
    """-997 to 1000; a Burstable container the less, the larger the part of the node's memory it requests."""
    if _node_critical(pod):
        return GUARANTEED_OOM_SCORE_ADJ
    tier = qos_of(pod)
    if tier == "Guaranteed":
        return GUARANTEED_OOM_SCORE_ADJ
    if tier == "BestEffort":
        return BEST_EFFORT_OOM_SCORE_ADJ
    capacity = max(node_memory_bytes, 1)
    extra = _pod_request_left_per_container(pod)
    adjust = 1000 - 1000 * (_memory_request(container) + extra) // capacity
    if is_sidecar(container) and any(c.name == container.name for c in pod.spec.init_containers):
        # a sidecar is never killed before the container it serves
        smallest = min(map(_memory_request, pod.spec.containers), default=0)
        adjust = min(adjust, 1000 - 1000 * (smallest + extra) // capacity)
    return max(1000 + GUARANTEED_OOM_SCORE_ADJ, min(BEST_EFFORT_OOM_SCORE_ADJ - 1, adjust))


def _node_critical(pod: Pod) -> bool:
    critical = pod.spec.priority is not None and pod.spec.priority >= SYSTEM_CRITICAL_PRIORITY
    return critical and pod.spec.priority_class_name == SYSTEM_NODE_CRITICAL


def _pod_request_left_per_container(pod: Pod) -> int:
    """What the pod requests beyond its containers, an equal part for each (KEP-2837)."""
    if pod.spec.resources is None or not any(name in pod.spec.resources.requests for name in _POD_LEVEL):
        return 0
    own = _bytes(pod.spec.resources.requests, "memory")
    if not own:
        return 0
    containers_only = _without_pod_level(pod)
    left = own - _bytes(pod_requests(containers_only), "memory")
    return int(left / (len(pod.spec.containers) + len(pod.spec.init_containers)))


def _without_pod_level(pod: Pod) -> Pod:
    spec = msgspec.structs.replace(pod.spec, resources=None, overhead={})
    return msgspec.structs.replace(pod, spec=spec)


def cpu_request_millicores(pod: Pod) -> int:
    """What the pod as a whole requests."""
    return _millis(pod_requests(pod), "cpu")


def pod_memory_limit(pod: Pod) -> int | None:
    """Bytes that the whole pod may use, where it is limited as a whole."""
    return pod_cgroup_resources(pod, Config()).memory_limit_bytes


def _memory_request(container: Container) -> int:
    return _bytes(container.resources.requests, "memory")


def _millis(resources: Mapping[str, str], name: str) -> int:
    return quantity.millis(resources[name]) if name in resources else 0


def _bytes(resources: Mapping[str, str], name: str) -> int:
    return quantity.value(resources[name]) if name in resources else 0
