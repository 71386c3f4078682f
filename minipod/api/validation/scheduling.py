"""Rules for where a pod may run: affinity, tolerations, spreading, gates (layer 1, pure).

On one host none of it decides anything, but a manifest must be as right here as in a cluster. The server prepares a pod
before it validates: by then `matchLabelKeys` have become expressions of the selector (`api.defaults` does it too).
"""

from __future__ import annotations

from minipod.api.types import (
    Affinity,
    LabelSelector,
    NodeAffinity,
    NodeSelector,
    NodeSelectorRequirement,
    NodeSelectorTerm,
    PodAffinity,
    PodAffinityTerm,
    PodAntiAffinity,
    PodReadinessGate,
    PodSchedulingGate,
    Toleration,
    TopologySpreadConstraint,
)
from minipod.api.validation.check import Check, Path
from minipod.api.validation.formats import dns_label, dns_subdomain, label_value, qualified_name
from minipod.api.validation.metadata import label_selector

TAINT_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
TOLERATION_OPERATORS = ("Equal", "Exists")  # Lt and Gt need TaintTolerationComparisonOperators, off in 1.36
WHEN_UNSATISFIABLE = ("DoNotSchedule", "ScheduleAnyway")
INCLUSION_POLICIES = ("Honor", "Ignore")

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


# Affinity


def affinity(check: Check, value: Affinity | None, path: Path) -> None:
    if value is None:
        return
    if value.node_affinity is not None:
        node_affinity(check, value.node_affinity, (path, "nodeAffinity"))
    if value.pod_affinity is not None:
        pod_affinity(check, value.pod_affinity, (path, "podAffinity"))
    if value.pod_anti_affinity is not None:
        pod_affinity(check, value.pod_anti_affinity, (path, "podAntiAffinity"))


def node_affinity(check: Check, value: NodeAffinity, path: Path) -> None:
    if value.required_during_scheduling_ignored_during_execution is not None:
        node_selector(check, value.required_during_scheduling_ignored_during_execution, (path, REQUIRED))
    for index, term in enumerate(value.preferred_during_scheduling_ignored_during_execution):
        at = (path, PREFERRED, index)
        check.in_range(term.weight, 1, 100, at, "weight")
        # A preference that no node can meet does no harm: its values are not checked.
        node_selector_term(check, term.preference, (at, "preference"), any_value=True)


def node_selector(check: Check, selector: NodeSelector, path: Path) -> None:
    check.required(selector.node_selector_terms, path, "nodeSelectorTerms", why="at least one term")
    for index, term in enumerate(selector.node_selector_terms):
        node_selector_term(check, term, (path, "nodeSelectorTerms", index), any_value=False)


def node_selector_term(check: Check, term: NodeSelectorTerm, path: Path, *, any_value: bool) -> None:
    for index, requirement in enumerate(term.match_expressions):
        node_expression(check, requirement, (path, "matchExpressions", index), any_value=any_value)
    for index, requirement in enumerate(term.match_fields):
        node_field(check, requirement, (path, "matchFields", index))


def node_expression(check: Check, requirement: NodeSelectorRequirement, path: Path, *, any_value: bool) -> None:
    values = requirement.values
    match requirement.operator:
        case "In" | "NotIn":
            check.required(values, path, "values", why="operator In and NotIn need values")
        case "Exists" | "DoesNotExist":
            if values:
                check.forbidden(path, "values", why="operator Exists and DoesNotExist take no values")
        case "Gt" | "Lt":
            if len(values) != 1:
                check.missing(path, "values", why="operator Gt and Lt need exactly one value")
        case operator:
            why = "must be In, NotIn, Exists, DoesNotExist, Gt or Lt"
            check.invalid(path, "operator", value=operator, why=why)
    check.format(requirement.key, qualified_name, path, "key")
    if not any_value:
        for index, value in enumerate(values):
            check.format(value, label_value, path, "values", index)


def node_field(check: Check, requirement: NodeSelectorRequirement, path: Path) -> None:
    if requirement.operator not in ("In", "NotIn"):
        check.invalid(path, "operator", value=requirement.operator, why="must be In or NotIn")
    elif len(requirement.values) != 1:
        check.missing(path, "values", why="operator In and NotIn need exactly one value here")
    if requirement.key != "metadata.name":
        check.invalid(path, "key", value=requirement.key, why="must be metadata.name")
        return
    for index, value in enumerate(requirement.values):
        check.format(value, dns_subdomain, path, "values", index)


def pod_affinity(check: Check, value: PodAffinity | PodAntiAffinity, path: Path) -> None:
    for index, term in enumerate(value.required_during_scheduling_ignored_during_execution):
        pod_affinity_term(check, term, (path, REQUIRED, index))
    for index, weighted in enumerate(value.preferred_during_scheduling_ignored_during_execution):
        at = (path, PREFERRED, index)
        check.in_range(weighted.weight, 1, 100, at, "weight")
        pod_affinity_term(check, weighted.pod_affinity_term, (at, "podAffinityTerm"))


def pod_affinity_term(check: Check, term: PodAffinityTerm, path: Path) -> None:
    label_selector(check, term.label_selector, path, "labelSelector")
    label_selector(check, term.namespace_selector, path, "namespaceSelector")
    for namespace in term.namespaces:
        check.format(namespace, dns_label, path, "namespace")
    match_label_keys(check, term.match_label_keys, term.mismatch_label_keys, term.label_selector, path)
    check.required(term.topology_key, path, "topologyKey")
    check.format(term.topology_key, qualified_name, path, "topologyKey")


def match_label_keys(
    check: Check, match: tuple[str, ...], mismatch: tuple[str, ...], selector: LabelSelector | None, path: Path
) -> None:
    for field, keys in (("matchLabelKeys", match), ("mismatchLabelKeys", mismatch)):
        if keys and selector is None:
            check.forbidden(path, field, why="needs a labelSelector")
        elif keys:
            for index, key in enumerate(keys):
                check.format(key, qualified_name, path, field, index)
    if selector is not None and match:
        _not_selected_too(check, match, selector, path)
    for index, key in enumerate(match):
        if key in mismatch:
            check.invalid(path, "matchLabelKeys", index, value=key, why="is in mismatchLabelKeys too")


def _not_selected_too(check: Check, keys: tuple[str, ...], selector: LabelSelector, path: Path) -> None:
    """By now a match key is an expression of the selector; a second mention is one too many."""
    indexes = {key: index for index, key in enumerate(keys)}
    seen = set(selector.match_labels)
    for expression in selector.match_expressions:
        if expression.key in seen and expression.key in indexes:
            check.invalid(path, indexes[expression.key], value=expression.key, why="is in labelSelector too")
        seen.add(expression.key)


# Tolerations


def tolerations(check: Check, values: tuple[Toleration, ...], path: Path) -> None:
    for index, value in enumerate(values):
        toleration(check, value, (path, index))


def toleration(check: Check, value: Toleration, path: Path) -> None:
    if value.key:
        check.format(value.key, qualified_name, path, "key")
    elif value.operator != "Exists":
        check.invalid(path, "operator", value=value.operator, why="must be Exists where there is no key")
    if value.toleration_seconds is not None and value.effect != "NoExecute":
        check.invalid(path, "effect", value=value.effect, why="must be NoExecute where there is tolerationSeconds")
    match value.operator:
        case "Equal" | "":
            check.format(value.value, label_value, path, "operator")
        case "Exists":
            if value.value:
                check.invalid(path, "operator", value=value.value, why="operator Exists takes no value")
        case _:
            check.unsupported(path, "operator", value=value.operator, allowed=TOLERATION_OPERATORS)
    if value.effect:
        check.one_of(value.effect, TAINT_EFFECTS, path, "effect")


# Spreading


def topology_spread(check: Check, constraints: tuple[TopologySpreadConstraint, ...], path: Path) -> None:
    for index, constraint in enumerate(constraints):
        at = (path, index)
        spread_constraint(check, constraint, at)
        pair = (constraint.topology_key, constraint.when_unsatisfiable)
        if any(pair == (other.topology_key, other.when_unsatisfiable) for other in constraints[index + 1 :]):
            value = f"{{{', '.join(pair)}}}"
            check.duplicate(at, "{topologyKey, whenUnsatisfiable}", value=value)


def spread_constraint(check: Check, constraint: TopologySpreadConstraint, path: Path) -> None:
    _positive(check, constraint.max_skew, path, "maxSkew")
    check.required(constraint.topology_key, path, "topologyKey")
    check.one_of(constraint.when_unsatisfiable, WHEN_UNSATISFIABLE, path, "whenUnsatisfiable")
    if constraint.min_domains is not None:
        _positive(check, constraint.min_domains, path, "minDomains")
        if constraint.when_unsatisfiable != "DoNotSchedule":
            why = "can only be set with whenUnsatisfiable: DoNotSchedule"
            check.invalid(path, "minDomains", value=constraint.min_domains, why=why)
    if constraint.node_affinity_policy is not None:
        check.one_of(constraint.node_affinity_policy, INCLUSION_POLICIES, path, "nodeAffinityPolicy")
    if constraint.node_taints_policy is not None:
        check.one_of(constraint.node_taints_policy, INCLUSION_POLICIES, path, "nodeTaintsPolicy")
    match_label_keys(check, constraint.match_label_keys, (), constraint.label_selector, path)
    label_selector(check, constraint.label_selector, path, "labelSelector")


def _positive(check: Check, value: int, *path: object) -> None:
    if value <= 0:
        check.invalid(*path, value=value, why="must be more than 0")


# Gates


def readiness_gates(check: Check, gates: tuple[PodReadinessGate, ...], path: Path) -> None:
    for index, gate in enumerate(gates):
        check.format(gate.condition_type, qualified_name, path, index, "conditionType")


def scheduling_gates(check: Check, gates: tuple[PodSchedulingGate, ...], path: Path) -> None:
    names: set[str] = set()
    for index, gate in enumerate(gates):
        check.format(gate.name, qualified_name, path, index)
        check.unique(gate.name, names, path, index)
