"""Rules for changes to a pod that exists: update, and the subresources ephemeralContainers and resize (layer 1, pure).

After ValidatePodUpdate, ValidatePodEphemeralContainersUpdate and ValidatePodResize. Both pods are complete, the new one
as `prepare` leaves it. No rule lets an old pod keep what is invalid by now: minipod never stored such a pod.
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import fields, replace

from minipod.api.status import qos_class
from minipod.api.types import (
    Affinity,
    Container,
    NodeAffinity,
    NodeSelectorTerm,
    Pod,
    PodSpec,
    ResourceRequirements,
    Toleration,
)
from minipod.api.validation.check import Check, Key, Path
from minipod.api.validation.metadata import ANNOTATIONS, object_meta_update
from minipod.api.validation.pod_annotations import APP_ARMOR_CONTAINER, MIRROR, STATIC_FILE
from minipod.api.validation.pods import SPEC, pod_itself
from minipod.api.validation.resources import COMPUTE
from minipod.api.validation.same import same

LARGEST_DEADLINE_S = 2**31 - 1


# Update


def pod_update(check: Check, new: Pod, old: Pod) -> None:
    object_meta_update(check, new.metadata, old.metadata)
    pod_itself(check, new)
    fixed_annotations(check, new, old)
    if not same_number(check, new, old, "a container cannot be added or removed"):
        return
    if not deadline(check, new.spec.active_deadline_seconds, old.spec.active_deadline_seconds):
        return
    if not _only_added(new.spec.tolerations, old.spec.tolerations):
        check.forbidden(SPEC, "tolerations", why="can only be added; of others only tolerationSeconds can change")
    gates = {gate.name for gate in old.spec.scheduling_gates}
    for index, gate in enumerate(new.spec.scheduling_gates):
        if gate.name not in gates:
            check.forbidden(SPEC, "schedulingGates", index, "name", why="can only be removed")
    spec = with_what_may_change(new.spec, old.spec)
    if old.spec.scheduling_gates:
        spec = gated(check, spec, old.spec)
    if not same(spec, old.spec):
        changed = different(spec, old.spec)
        shown = ", ".join(changed[:5]) + (" …" if len(changed) > 5 else "")
        why = (
            f"{shown}: cannot be changed in a pod that exists; only image, "
            "activeDeadlineSeconds, tolerations (additions), schedulingGates (removals) and a negative "
            "terminationGracePeriodSeconds (to 1) can"
        )
        check.forbidden(SPEC, why=why)


def different(new: object, old: object, path: str = "spec") -> list[str]:
    """The paths, as in a manifest, at which two specs differ: of single fields where both have what is around them."""
    if isinstance(new, Struct) and isinstance(old, Struct):
        names = [(field.name, f"{path}.{field.encode_name}") for field in fields(new)]
        found = [different(getattr(new, name), getattr(old, name), inner) for name, inner in names]
    elif isinstance(new, tuple) and isinstance(old, tuple) and len(new) == len(old):
        pairs = zip(new, old, strict=True)
        found = [different(ours, theirs, f"{path}[{index}]") for index, (ours, theirs) in enumerate(pairs)]
        if not isinstance(next(iter(new), None), Struct):
            found = [[path]] if any(found) else []
    else:
        found = [] if same(new, old) else [[path]]
    return [each for inner in found for each in inner]


def fixed_annotations(check: Check, new: Pod, old: Pod) -> None:
    ours, theirs = new.metadata.annotations, old.metadata.annotations
    if ours == theirs:
        return
    fixed = (MIRROR, STATIC_FILE) if MIRROR in theirs else (MIRROR,)
    for name in ours.keys() | theirs.keys():
        if (name in fixed or name.startswith(APP_ARMOR_CONTAINER)) and ours.get(name) != theirs.get(name):
            check.forbidden(ANNOTATIONS, Key(name), why="cannot be changed once the pod exists")


def same_number(check: Check, new: Pod, old: Pod, why: str) -> bool:
    if len(new.spec.containers) != len(old.spec.containers):
        check.forbidden(SPEC, "containers", why=why)
        return False
    if len(new.spec.init_containers) != len(old.spec.init_containers):
        check.forbidden(SPEC, "initContainers", why=why)
        return False
    return True


def deadline(check: Check, new: int | None, old: int | None) -> bool:
    """The deadline can be set, and later only be shortened."""
    at = (SPEC, "activeDeadlineSeconds")
    if new is None:
        if old is not None:
            check.invalid(at, value=None, why="cannot be taken away")
        return True
    if not check.in_range(new, 0, LARGEST_DEADLINE_S, at):
        return False
    if old is not None and old < new:
        check.invalid(at, value=new, why=f"must be at most the {old} that it is now")
        return False
    return True


def _only_added(new: tuple[Toleration, ...], old: tuple[Toleration, ...]) -> bool:
    kept = [replace(toleration, toleration_seconds=None) for toleration in new]
    return all(replace(toleration, toleration_seconds=None) in kept for toleration in old)


def with_what_may_change(new: PodSpec, old: PodSpec) -> PodSpec:
    """The new spec with the old values where an update may change them."""
    spec = replace(
        new,
        containers=_with_images(new.containers, old.containers),
        init_containers=_with_images(new.init_containers, old.init_containers),
        active_deadline_seconds=old.active_deadline_seconds,
        scheduling_gates=old.scheduling_gates,
        tolerations=old.tolerations,
    )
    grace_period_s = old.termination_grace_period_seconds
    if grace_period_s is not None and grace_period_s < 0 and new.termination_grace_period_seconds == 1:
        spec = replace(spec, termination_grace_period_seconds=grace_period_s)
    return spec


def _with_images(new: tuple[Container, ...], old: tuple[Container, ...]) -> tuple[Container, ...]:
    return tuple(replace(ours, image=theirs.image) for ours, theirs in zip(new, old, strict=True))


# Update of a pod that waits for its scheduling gates


def gated(check: Check, spec: PodSpec, old: PodSpec) -> PodSpec:
    """Where it may run can still be narrowed. Returns the spec without that change."""
    if any(spec.node_selector.get(key) != value for key, value in old.node_selector.items()):
        check.invalid(SPEC, "nodeSelector", value=spec.node_selector, why="entries can only be added")
    ours = spec.affinity.node_affinity if spec.affinity else None
    theirs = old.affinity.node_affinity if old.affinity else None
    spec = replace(spec, node_selector=old.node_selector)
    if ours == theirs:
        return spec
    narrowed(check, ours, theirs, (SPEC, "affinity", "nodeAffinity"))
    affinity = replace(spec.affinity or Affinity(), node_affinity=theirs)
    if old.affinity is None and affinity == Affinity():
        return replace(spec, affinity=None)
    return replace(spec, affinity=affinity)


def narrowed(check: Check, new: NodeAffinity | None, old: NodeAffinity | None, path: Path) -> None:
    required_before = old.required_during_scheduling_ignored_during_execution if old else None
    if required_before is None:
        return
    required = new.required_during_scheduling_ignored_during_execution if new else None
    terms = required.node_selector_terms if required else ()
    before = required_before.node_selector_terms
    at = (path, "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms")
    if before and len(terms) != len(before):
        check.invalid(at, value=terms, why="terms cannot be added or removed")
        return
    for index, (term, term_before) in enumerate(zip(terms, before, strict=False)):
        if not _only_extends(term, term_before):
            check.invalid(at, index, value=term, why="requirements can only be added")


def _only_extends(new: NodeSelectorTerm, old: NodeSelectorTerm) -> bool:
    if not old.match_expressions and not old.match_fields:
        return not new.match_expressions and not new.match_fields
    return (
        new.match_expressions[: len(old.match_expressions)] == old.match_expressions
        and new.match_fields[: len(old.match_fields)] == old.match_fields
    )


# ephemeralContainers


def ephemeral_containers_update(check: Check, new: Pod, old: Pod) -> None:
    """Ephemeral containers can be added; those that exist stay as they are."""
    if MIRROR in old.metadata.annotations:
        check.forbidden("", why="a static pod cannot have ephemeral containers")
        return
    object_meta_update(check, new.metadata, old.metadata)
    pod_itself(check, new)
    fixed_annotations(check, new, old)
    by_name = {container.name: container for container in new.spec.ephemeral_containers}
    for container in old.spec.ephemeral_containers:
        if container.name not in by_name:
            check.forbidden(SPEC, "ephemeralContainers", why=f"{container.name} exists and cannot be removed")
        elif not same(by_name[container.name], container):
            check.forbidden(SPEC, "ephemeralContainers", why=f"{container.name} exists and cannot be changed")


# resize


def pod_resize(check: Check, new: Pod, old: Pod) -> None:
    """Requests and limits of cpu and memory can change, but not be removed, and not change the QoS class."""
    if MIRROR in old.metadata.annotations:
        check.forbidden("", why="a static pod cannot be resized")
        return
    if old.spec.os is not None and old.spec.os.name == "windows":
        check.forbidden("", why="a Windows pod cannot be resized")
        return
    object_meta_update(check, new.metadata, old.metadata)
    pod_itself(check, new)
    if (old.status.qos_class or qos_class(old)) != qos_class(new):
        check.invalid(SPEC, value=qos_class(new), why=f"must not change the QoS class from {qos_class(old)}")
    if not _can_be_resized(old):
        check.forbidden(SPEC, why="the runtime of this pod cannot resize")
    if old.status.node_allocatable_resource_claim_statuses:
        check.forbidden(SPEC, why="a pod with claims of node resources cannot be resized")
    pod_level = resized_pod_level(check, new.spec.resources, old.spec.resources)
    if not same_order(check, new, old):
        return
    for kind, group, group_before in (
        ("initContainers", new.spec.init_containers, old.spec.init_containers),
        ("containers", new.spec.containers, old.spec.containers),
    ):
        for index, (container, before) in enumerate(zip(group, group_before, strict=True)):
            resized_container(check, container, before, kind == "containers", (SPEC, kind, index))
    if not check.errors:
        spec = replace(
            new.spec,
            resources=pod_level,
            containers=_with_resources(new.spec.containers, old.spec.containers),
            init_containers=_with_resources(new.spec.init_containers, old.spec.init_containers),
        )
        if not same(spec, old.spec):
            check.forbidden(SPEC, why="only cpu and memory can change")


def _can_be_resized(old: Pod) -> bool:
    """Whether the runtime reports the resources of the containers that run."""
    running = [status for status in old.status.container_statuses if status.state.running is not None]
    return not running or running[0].resources is not None


def same_order(check: Check, new: Pod, old: Pod) -> bool:
    right = True
    for kind, group, group_before in (
        ("containers", new.spec.containers, old.spec.containers),
        ("initContainers", new.spec.init_containers, old.spec.init_containers),
    ):
        if len(group) != len(group_before):
            check.forbidden(SPEC, kind, why="a container cannot be added or removed by a resize")
            right = False
            continue
        for index, (container, before) in enumerate(zip(group, group_before, strict=True)):
            if container.name != before.name:
                check.forbidden(SPEC, kind, index, "name", why="containers cannot be renamed or moved by a resize")
                right = False
    return right


def resized_container(check: Check, new: Container, old: Container, regular: bool, path: Path) -> None:
    nothing_removed(check, new.resources, old.resources, (path, "resources"))
    # The server names a regular container's whole spec here.
    at = SPEC if regular else path
    if not same(_with_compute(new, old), old):
        check.forbidden(at, why="only cpu and memory can change")
    if regular or new.restart_policy == "Always" or same(new, old):
        return
    if any(policy.restart_policy == "RestartContainer" for policy in new.resize_policy):
        check.forbidden(at, why="an init container that a resize would restart cannot be resized")


def resized_pod_level(
    check: Check, new: ResourceRequirements | None, old: ResourceRequirements | None
) -> ResourceRequirements | None:
    """Returns the new resources of the pod as a whole with the old cpu and memory."""
    if not any(resources and (resources.requests or resources.limits) for resources in (new, old)):
        return new
    if new is None:
        check.forbidden(SPEC, "resources", why="cannot be taken away")
        return None
    if old is not None:
        nothing_removed(check, new, old, (SPEC, "resources"))
    kept = _with_compute_of(new, old or ResourceRequirements())
    result = None if old is None and kept == ResourceRequirements() else kept
    if not same(result, old):
        check.forbidden(SPEC, why="only cpu and memory of the pod as a whole can change")
    return result


def nothing_removed(check: Check, new: ResourceRequirements, old: ResourceRequirements, path: Path) -> None:
    if not old.requests.keys() <= new.requests.keys():
        check.forbidden(path, "requests", why="a request cannot be removed")
    if not old.limits.keys() <= new.limits.keys():
        check.forbidden(path, "limits", why="a limit cannot be removed")


def _with_resources(new: tuple[Container, ...], old: tuple[Container, ...]) -> tuple[Container, ...]:
    return tuple(_with_compute(ours, theirs) for ours, theirs in zip(new, old, strict=True))


def _with_compute(new: Container, old: Container) -> Container:
    """The new container with the old one's cpu and memory; the server forgets claims here."""
    return replace(new, resources=replace(_with_compute_of(new.resources, old.resources), claims=()))


def _with_compute_of(new: ResourceRequirements, old: ResourceRequirements) -> ResourceRequirements:
    return replace(new, requests=_amounts(new.requests, old.requests), limits=_amounts(new.limits, old.limits))


def _amounts(new: dict[str, str], old: dict[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in new.items() if name not in COMPUTE}
    return kept | {name: value for name, value in old.items() if name in COMPUTE}
