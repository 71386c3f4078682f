"""Whether this node takes a pod (layer 4, pure): as the scheduler decides before it is assigned, then as the kubelet.

A pod that the scheduler cannot place stays Pending and is placed later; one that the kubelet does not admit fails.
Rules: pkg/scheduler/framework/plugins, pkg/kubelet/lifecycle/predicate.go, component-helpers/scheduling/corev1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from minipod.api import quantity
from minipod.api.selectors import Requirement, matches_labels
from minipod.api.status import pod_requests
from minipod.api.types import Node, NodeSelectorRequirement, NodeSelectorTerm, Pod, Taint, Toleration
from minipod.lifecycle import pod_affinity

PODS = "pods"
OS_LABEL = "kubernetes.io/os"
_FIRST = ("cpu", "memory", "ephemeral-storage")
_OPERATORS = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "!", "Gt": "gt", "Lt": "lt"}
_UNSCHEDULED_EFFECTS = ("NoSchedule", "NoExecute")
_NO_AFFINITY = "node(s) didn't match Pod's node affinity/selector"

Demand = Mapping[str, int]  # by resource: cpu in millicores, everything else in its unit (bytes, pieces)


class Refusal(msgspec.Struct, frozen=True):
    """Why the kubelet does not admit a pod: `reason` and `message` as in its status and its event."""

    reason: str
    message: str


class Unschedulable(msgspec.Struct, frozen=True):
    """Why the scheduler finds no node. `message`: its words. `hint`: the same with numbers, and what to do.
    `hopeless`: that other pods end does not change it."""

    message: str
    hint: str
    hopeless: bool


class Used(msgspec.Struct, frozen=True):
    """What the pods that are assigned to the node have requested. `others`: these pods, where an affinity to a pod
    counts, with the labels of `namespaces`."""

    demand: Demand
    pods: int
    others: tuple[Pod, ...] = ()
    namespaces: pod_affinity.Namespaces = {}


class Shortage(msgspec.Struct, frozen=True):
    """A resource of which less is left than `requested` (noderesources.InsufficientResource)."""

    resource: str
    requested: int
    used: int
    capacity: int

    @property
    def reason(self) -> str:
        return "Too many pods" if self.resource == PODS else f"Insufficient {self.resource}"

    @property
    def words(self) -> str:
        return (
            f"Node didn't have enough resource: {self.resource}, requested: {self.requested}, used: {self.used}, "
            f"capacity: {self.capacity}"
        )


def amount(resource: str, text: str) -> int:
    """A quantity in the unit in which the scheduler counts the resource."""
    return quantity.millis(text) if resource == "cpu" else quantity.value(text)


def demand_of(pod: Pod) -> Demand:
    """What the pod requests as a whole; nothing that is zero."""
    found = {name: amount(name, text) for name, text in pod_requests(pod).items()}
    return {name: number for name, number in found.items() if number}


def capacity_of(node: Node) -> Demand:
    return {name: amount(name, text) for name, text in node.status.allocatable.items()}


def shortages(wanted: Demand, used: Used, capacity: Demand) -> list[Shortage]:
    """Everything that is short, in the scheduler's order (noderesources fitsRequest)."""
    found = []
    if used.pods + 1 > capacity.get(PODS, 0):
        found.append(Shortage(PODS, 1, used.pods, capacity.get(PODS, 0)))
    rest = sorted(wanted.keys() - set(_FIRST))
    for name in (*_FIRST, *rest):
        number, taken, all_ = wanted.get(name, 0), used.demand.get(name, 0), capacity.get(name, 0)
        if number > 0 and number > all_ - taken:
            found.append(Shortage(name, number, taken, all_))
    return found


# -- the kubelet's admission -----------------------------------------------------------------------------------------


def refusal(pod: Pod, node: Node, wanted: Demand, used: Used) -> Refusal | None:
    """Why the kubelet of this node does not admit a pod that is assigned to it; None if it does."""
    os_label = pod.metadata.labels.get(OS_LABEL)
    if os_label is not None and os_label != "linux":
        words = f"Failed to admit pod as the `{OS_LABEL}` label doesn't match node label"
        return Refusal("PodOSSelectorNodeLabelDoesNotMatch", words)
    if pod.spec.os is not None and pod.spec.os.name != "linux":
        return Refusal("PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS")
    capacity = capacity_of(node)
    known = {name: number for name, number in wanted.items() if name in capacity or not is_extended(name)}
    if short := shortages(known, used, capacity):
        return Refusal(f"OutOf{short[0].resource}", short[0].words)
    if not matches_node(pod, node):
        return _failed("NodeAffinity", _NO_AFFINITY)
    if pod.spec.node_name != node.metadata.name:
        return _failed("NodeName", "node(s) didn't match the requested node name")
    if untolerated(pod, node, ("NoExecute",)) is not None:
        return _failed("TaintToleration", "node(s) had taints that the pod didn't tolerate")
    return None


def _failed(predicate: str, why: str) -> Refusal:
    return Refusal(predicate, f"Predicate {predicate} failed: {why}")


def is_extended(resource: str) -> bool:
    """Of a device plugin or the cluster: not Kubernetes' own (helper.IsExtendedResourceName)."""
    return "/" in resource and "kubernetes.io/" not in resource and not resource.startswith("requests.")


# -- the scheduler ---------------------------------------------------------------------------------------------------


def unschedulable(pod: Pod, node: Node, wanted: Demand, used: Used, claims: str = "") -> Unschedulable | None:
    """Why the scheduler cannot assign the pod to the only node; None if it can.

    `claims`: what its claims lack, in the scheduler's words. As in its framework the first plugin that fails counts.
    """
    if claims:
        hint = "apply the claim too" if claims.endswith("not found") else "minipod describe pvc says why"
        return _unschedulable([claims], hint, hopeless=True, counted=False)
    labels = node.metadata.labels
    if (taint := untolerated(pod, node, _UNSCHEDULED_EFFECTS)) is not None:
        hint = f"the pod does not tolerate the node's taint {taint.key}={taint.value}:{taint.effect} (node_taints)"
        return _unschedulable(["node(s) had untolerated taint(s)"], hint, hopeless=True)
    if not matches_node(pod, node):
        missing = [f"{key}={value}" for key, value in pod.spec.node_selector.items() if labels.get(key) != value]
        what = f"the label {', '.join(missing)} of nodeSelector" if missing else "the labels of nodeAffinity"
        hint = f"the node lacks {what}: node_labels of the configuration sets it"
        return _unschedulable([_NO_AFFINITY], hint, hopeless=True)
    if short := shortages(wanted, used, capacity_of(node)):
        hopeless = any(found.requested > found.capacity for found in short)
        return _unschedulable([found.reason for found in short], "; ".join(map(_numbers, short)), hopeless=hopeless)
    if why := pod_affinity.mismatch(pod, used.others, labels, used.namespaces):
        return _unschedulable([why.reason], why.hint, hopeless=why.hopeless)
    return None


def _unschedulable(reasons: Iterable[str], hint: str, *, hopeless: bool, counted: bool = True) -> Unschedulable:
    """With the scheduler's sentence (framework FitError), and what preemption adds to it."""
    words = ", ".join(sorted(f"1 {reason}" if counted else reason for reason in reasons))
    victims = "Preemption is not helpful for scheduling" if hopeless else "No preemption victims found for incoming pod"
    message = (
        f"0/1 nodes are available: {words}. no new claims to deallocate, "
        f"preemption: 0/1 nodes are available: 1 {victims}."
    )
    return Unschedulable(message, hint, hopeless)


def _numbers(short: Shortage) -> str:
    if short.resource == PODS:
        return f"the node has {short.used} pods and takes {short.capacity} (max_pods)"
    numbers = (short.requested, short.used, short.capacity)
    if short.resource == "cpu":
        requested, used, capacity = map(quantity.from_millis, numbers)
    else:
        binary = short.resource in _FIRST or short.resource.startswith("hugepages-")
        requested, used, capacity = (quantity.from_value(number, binary) for number in numbers)
    return f"{short.resource}: {requested} requested, {used} of {capacity} in use"


# -- labels and taints -----------------------------------------------------------------------------------------------


def matches_node(pod: Pod, node: Node) -> bool:
    """nodeSelector and the required nodeAffinity (nodeaffinity.GetRequiredNodeAffinity)."""
    labels = node.metadata.labels
    if any(labels.get(key) != value for key, value in pod.spec.node_selector.items()):
        return False
    affinity = pod.spec.affinity.node_affinity if pod.spec.affinity is not None else None
    required = affinity.required_during_scheduling_ignored_during_execution if affinity is not None else None
    return required is None or any(_matches_term(term, node) for term in required.node_selector_terms)


def _matches_term(term: NodeSelectorTerm, node: Node) -> bool:
    """An empty term matches nothing."""
    if not term.match_expressions and not term.match_fields:
        return False
    fields = {"metadata.name": node.metadata.name}
    return matches_labels(_requirements(term.match_expressions), node.metadata.labels) and matches_labels(
        _requirements(term.match_fields), fields
    )


def _requirements(terms: Iterable[NodeSelectorRequirement]) -> tuple[Requirement, ...]:
    return tuple(Requirement(term.key, _OPERATORS[term.operator], term.values) for term in terms)


def untolerated(pod: Pod, node: Node, effects: Iterable[str]) -> Taint | None:
    """The node's first taint of these effects that the pod does not tolerate."""
    for taint in node.spec.taints:
        if taint.effect in effects and not any(_tolerates(each, taint) for each in pod.spec.tolerations):
            return taint
    return None


def _tolerates(toleration: Toleration, taint: Taint) -> bool:
    """v1.Toleration.ToleratesTaint; Lt and Gt need a feature gate that is off in 1.36."""
    if toleration.effect not in ("", taint.effect) or toleration.key not in ("", taint.key):
        return False
    return toleration.operator == "Exists" or (toleration.operator in ("", "Equal") and toleration.value == taint.value)
