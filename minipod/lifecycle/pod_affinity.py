"""Required podAffinity and podAntiAffinity on a cluster of one node (layer 4, pure).

Rules: pkg/scheduler/framework/plugins/interpodaffinity/filtering.go. Preferred terms choose a node: there is one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from minipod.api.selectors import Requirement, from_label_selector, matches_labels
from minipod.api.types import Pod, PodAffinityTerm

Namespaces = Mapping[str, Mapping[str, str]]  # name -> labels


class Mismatch(msgspec.Struct, frozen=True):
    """`hopeless`: that other pods end does not change it."""

    reason: str
    hint: str
    hopeless: bool = False


def has_anti_affinity(pod: Pod) -> bool:
    return bool(_required(pod, anti=True))


def has_terms(pod: Pod) -> bool:
    return bool(_required(pod, anti=True) or _required(pod, anti=False))


def mismatch(pod: Pod, others: Sequence[Pod], labels: Mapping[str, str], namespaces: Namespaces) -> Mismatch | None:
    """`others`: the pods of the node. `labels`: the node's; a term about another topology matches nothing."""
    affine = _required(pod, anti=False)
    if affine and not _are_all_met(pod, affine, others, labels, namespaces):
        why = "no pod of this node matches its podAffinity"
        return Mismatch("node(s) didn't match pod affinity rules", why, hopeless=True)
    for term in _required(pod, anti=True):
        for other in others:
            if term.topology_key in labels and _matches(term, pod, other, namespaces):
                return Mismatch("node(s) didn't match pod anti-affinity rules", _against(pod, other))
    for other in others:
        for term in _required(other, anti=True):
            if term.topology_key in labels and _matches(term, other, pod, namespaces):
                words = "node(s) didn't satisfy existing pods anti-affinity rules"
                return Mismatch(words, _against(other, pod, standing=other))
    return None


def _against(owner: Pod, other: Pod, standing: Pod | None = None) -> str:
    who = "its" if standing is None else f"pod {owner.metadata.name}'s"
    what = f"pod {other.metadata.name}" if standing is None else "it"
    return f"{who} podAntiAffinity keeps {what} away, and there is one node"


def _are_all_met(
    pod: Pod,
    terms: tuple[PodAffinityTerm, ...],
    others: Sequence[Pod],
    labels: Mapping[str, str],
    namespaces: Namespaces,
) -> bool:
    """satisfyPodAffinity: one pod matches all terms, or none does anywhere and the pod would match itself."""
    if any(term.topology_key not in labels for term in terms):
        return False
    if any(all(_matches(term, pod, other, namespaces) for term in terms) for other in others):
        return True
    return all(_matches(term, pod, pod, namespaces) for term in terms)


def _required(pod: Pod, *, anti: bool) -> tuple[PodAffinityTerm, ...]:
    affinity = pod.spec.affinity
    if affinity is None:
        return ()
    chosen = affinity.pod_anti_affinity if anti else affinity.pod_affinity
    return chosen.required_during_scheduling_ignored_during_execution if chosen is not None else ()


def _matches(term: PodAffinityTerm, owner: Pod, other: Pod, namespaces: Namespaces) -> bool:
    """Whether `owner`'s term selects `other`: its namespace, its labels, and those that must or must not be equal."""
    own = owner.metadata.labels
    requirements = from_label_selector(term.label_selector)
    if requirements is None or not _is_in_namespaces(term, owner, other, namespaces):
        return False
    equal = tuple(Requirement(key, "in", (own[key],)) for key in term.match_label_keys if key in own)
    unequal = tuple(Requirement(key, "notin", (own[key],)) for key in term.mismatch_label_keys if key in own)
    return matches_labels((*requirements, *equal, *unequal), other.metadata.labels)


def _is_in_namespaces(term: PodAffinityTerm, owner: Pod, other: Pod, namespaces: Namespaces) -> bool:
    place = other.metadata.namespace
    if not term.namespaces and term.namespace_selector is None:
        return place == owner.metadata.namespace
    selected = from_label_selector(term.namespace_selector)
    return place in term.namespaces or (selected is not None and matches_labels(selected, namespaces.get(place, {})))
