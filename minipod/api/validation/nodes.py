"""Rules for Nodes (layer 1, pure). The server names taints below metadata, and so does this module."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from minipod.api.types import (
    ConfigMapNodeConfigSource,
    Node,
    NodeConfigSource,
    NodeSpec,
    Object,
    OwnerReference,
    Taint,
)
from minipod.api.validation.check import Check, Path
from minipod.api.validation.formats import (
    cidr,
    config_key,
    declared_feature,
    dns_label,
    dns_subdomain,
    label_value,
    qualified_name,
)
from minipod.api.validation.metadata import ANNOTATIONS, METADATA, object_meta, object_meta_update
from minipod.api.validation.resources import amount
from minipod.api.validation.same import structs_in_json
from minipod.api.validation.scheduling import TAINT_EFFECTS

SPEC: Path = ("spec",)
STATUS: Path = ("status",)
TAINTS = "scheduler.alpha.kubernetes.io/taints"
AVOID_PODS = "scheduler.alpha.kubernetes.io/preferAvoidPods"


def node(check: Check, value: Node) -> None:
    object_meta(check, value.metadata, namespaced=False)
    node_annotations(check, value.metadata.annotations)
    taints(check, value.spec.taints, (METADATA, "taints"))
    status(check, value)
    swap = value.status.node_info.swap
    if swap is not None and swap.capacity is not None and swap.capacity <= 0:
        check.invalid(METADATA, "nodeSwapStatus", "capacity", value=swap.capacity, why="must be more than 0")
    pod_networks(check, value.spec)


def status(check: Check, value: Node) -> None:
    for field, amounts in (("capacity", value.status.capacity), ("allocatable", value.status.allocatable)):
        for name, quantity_text in amounts.items():
            amount(check, name, quantity_text, STATUS, field, name)
    features = value.status.declared_features
    for index, feature in enumerate(features):
        check.format(feature, declared_feature, STATUS, "declaredFeatures", index)
        if index and feature == features[index - 1]:
            check.duplicate(STATUS, "declaredFeatures", index, value=feature)
        elif index and feature < features[index - 1]:
            check.invalid(STATUS, "declaredFeatures", index, value=feature, why="must be in alphabetical order")


def pod_networks(check: Check, spec: NodeSpec) -> None:
    """One network, or one of each IP family."""
    networks = spec.pod_cidrs
    right = [check.format(network, cidr, SPEC, "podCIDRs", index) for index, network in enumerate(networks)]
    if len(networks) < 2:
        return
    if not all(right):
        check.internal(SPEC, "podCIDRs", why="what is no network has no IP family")
    versions = {":" in network for network in networks}
    if len(networks) > 2 or len(versions) != 2 or not all(right):
        check.invalid(SPEC, "podCIDRs", value=networks, why="must be at most one network of each IP family")


def taints(check: Check, values: tuple[Taint, ...], path: Path) -> None:
    seen: set[tuple[str, str]] = set()
    for index, value in enumerate(values):
        at = (path, index)
        check.format(value.key, qualified_name, at, "key")
        check.format(value.value, label_value, at, "value")
        check.choice(value.effect, TAINT_EFFECTS, at, "effect")
        pair = (value.key, value.effect)
        if pair in seen:
            check.duplicate(at, value=value)
        seen.add(pair)


def node_annotations(check: Check, values: Mapping[str, str]) -> None:
    if values.get(TAINTS):
        try:
            found = structs_in_json(values[TAINTS], Taint)
        except msgspec.ValidationError as error:
            check.invalid(ANNOTATIONS, value=TAINTS, why=f"must be taints in JSON: {error}")
        else:
            taints(check, found, (ANNOTATIONS, TAINTS))
    if values.get(AVOID_PODS):
        avoided_pods(check, values[AVOID_PODS])


def avoided_pods(check: Check, text: str) -> None:
    try:
        avoided = msgspec.json.decode(text, type=_AvoidPods)
    except msgspec.DecodeError as error:
        check.invalid(ANNOTATIONS, "AvoidPods", value=AVOID_PODS, why=f"must be JSON: {error}")
        return
    for index, entry in enumerate(avoided.prefer_avoid_pods):
        at = (ANNOTATIONS, AVOID_PODS, index, "PodSignature")
        controller = entry.pod_signature.pod_controller
        if controller is None:
            check.missing(at)
        elif not controller.controller:
            check.invalid(at, "PodController", "Controller", value=False, why="must be a controller")


class _PodSignature(Object, frozen=True, kw_only=True):
    pod_controller: OwnerReference | None = None


class _PreferAvoidPods(Object, frozen=True, kw_only=True):
    pod_signature: _PodSignature = _PodSignature()


class _AvoidPods(Object, frozen=True, kw_only=True):
    """The content of an annotation, long deprecated."""

    prefer_avoid_pods: tuple[_PreferAvoidPods, ...] = ()


def node_update(check: Check, new: Node, old: Node) -> None:
    node(check, new)
    object_meta_update(check, new.metadata, old.metadata)
    seen = []
    for index, address in enumerate(new.status.addresses):
        if address in seen:
            check.duplicate(STATUS, "addresses", index, value=address)
        seen.append(address)
    if old.spec.pod_cidrs and new.spec.pod_cidrs != old.spec.pod_cidrs:
        check.forbidden(SPEC, "podCIDRs", why="cannot be changed once they are set")
    if old.spec.provider_id and new.spec.provider_id != old.spec.provider_id:
        check.forbidden(SPEC, "providerID", why="cannot be changed once it is set")
    if new.spec.external_id != old.spec.external_id:
        check.forbidden(SPEC, "externalID", why="cannot be changed")
    if new.spec.config_source is not None:
        config_source(check, new.spec.config_source, (SPEC, "configSource"), in_status=False)
    config = new.status.config
    if config is not None:
        for field, source in (
            ("assigned", config.assigned),
            ("active", config.active),
            ("lastKnownGood", config.last_known_good),
        ):
            if source is not None:
                config_source(check, source, (STATUS, "config", field), in_status=True)


def config_source(check: Check, source: NodeConfigSource, path: Path, *, in_status: bool) -> None:
    if source.config_map is None:
        check.invalid(path, value=source, why="must have configMap")
        return
    reference: ConfigMapNodeConfigSource = source.config_map
    at = (path, "configMap")
    for field, value in (("uid", reference.uid), ("resourceVersion", reference.resource_version)):
        if in_status:
            check.required(value, at, field)
        elif value:
            check.forbidden(at, field, why="can only be set in the status")
    check.named(reference.namespace, dns_label, at, "namespace")
    check.named(reference.name, dns_subdomain, at, "name")
    check.named(reference.kubelet_config_key, config_key, at, "kubeletConfigKey")
