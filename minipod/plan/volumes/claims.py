"""Which PersistentVolume a claim gets (layer 2, pure). Changes nothing: `agent.objects.claims` does.

Rules: component-helpers/storage/volume/pv_helpers.go FindMatchingVolume, pkg/controller/volume/persistentvolume. On
one host there are two classes, which provision directories; any other class is a name that claim and volume share.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from minipod.api import quantity
from minipod.api.selectors import from_label_selector, matches_labels
from minipod.api.types import (
    LocalVolumeSource,
    Object,
    ObjectMeta,
    ObjectReference,
    PersistentVolume,
    PersistentVolumeClaim,
    PersistentVolumeSpec,
    Pod,
    Volume,
)

LOCAL_CLASS = "local"  # the default class: directories that go with their claim
KEPT_CLASS = "local-retain"  # directories that stay until a user deletes their volume and them
RECLAIM_POLICIES = {LOCAL_CLASS: "Delete", KEPT_CLASS: "Retain"}
CLAIM_FINALIZER = "kubernetes.io/pvc-protection"
VOLUME_FINALIZER = "kubernetes.io/pv-protection"
PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
PROVISIONER = "minipod/local"
_BOUND_BY_CONTROLLER = "pv.kubernetes.io/bound-by-controller"
BIND_COMPLETED = "pv.kubernetes.io/bind-completed"
BOUND_TO_ANOTHER = "already bound to a different claim."
_OLD_CLASS = "volume.beta.kubernetes.io/storage-class"


def admitted(new: Object) -> Any:
    """A new object with what the API server's admission adds: a claim's class, the finalizer that protects it."""
    unchanged: Any = new
    if isinstance(new, PersistentVolumeClaim):
        spec = new.spec
        if spec.storage_class_name is None and _OLD_CLASS not in new.metadata.annotations:
            spec = msgspec.structs.replace(spec, storage_class_name=LOCAL_CLASS)
        return msgspec.structs.replace(new, spec=spec, metadata=_protected(new.metadata, CLAIM_FINALIZER))
    if isinstance(new, PersistentVolume):
        return msgspec.structs.replace(new, metadata=_protected(new.metadata, VOLUME_FINALIZER))
    return unchanged


def _protected(metadata: ObjectMeta, finalizer: str) -> ObjectMeta:
    if finalizer in metadata.finalizers:
        return metadata
    return msgspec.structs.replace(metadata, finalizers=(*metadata.finalizers, finalizer))


def class_of(owner: PersistentVolumeClaim | PersistentVolume) -> str:
    old = owner.metadata.annotations.get(_OLD_CLASS)
    return old if old is not None else owner.spec.storage_class_name or ""


def is_bound_to(volume: PersistentVolume, claim: PersistentVolumeClaim) -> bool:
    """The volume was promised to this claim, by a user (no uid) or by a binding."""
    reference = volume.spec.claim_ref
    if reference is None:
        return False
    named = (reference.namespace, reference.name) == (claim.metadata.namespace, claim.metadata.name)
    return named and reference.uid in ("", claim.metadata.uid)


def best_volume(claim: PersistentVolumeClaim, volumes: Sequence[PersistentVolume]) -> PersistentVolume | None:
    """The volume that is promised to the claim or that it asks for, else the smallest one that is free and fits."""
    if claim.spec.volume_name:
        asked = next((volume for volume in volumes if volume.metadata.name == claim.spec.volume_name), None)
        return asked if asked is not None and not why_not(asked, claim) else None
    requirements = from_label_selector(claim.spec.selector)
    best: PersistentVolume | None = None
    for volume in volumes:
        if volume.metadata.deletion_timestamp is not None or not _is_fit(volume, claim):
            continue
        if is_bound_to(volume, claim):
            return volume
        if volume.spec.claim_ref is not None or volume.status.phase not in ("Available", "Pending"):
            continue
        if requirements is not None and not matches_labels(requirements, volume.metadata.labels):
            continue
        if class_of(volume) != class_of(claim):
            continue
        if best is None or quantity.compare(_capacity(volume), _capacity(best)) < 0:
            best = volume
    return best


def why_not(volume: PersistentVolume, claim: PersistentVolumeClaim) -> str:
    """Why a claim cannot have the volume that it names (checkVolumeSatisfyClaim); empty where it can."""
    if is_bound_to(volume, claim):
        return ""
    if volume.spec.claim_ref is not None:
        return BOUND_TO_ANOTHER
    if volume.metadata.deletion_timestamp is not None:
        return f'the volume is marked for deletion "{volume.metadata.name}"'
    if quantity.compare(_capacity(volume), _requested(claim)) < 0:
        return "requested PV is too small"
    if class_of(volume) != class_of(claim):
        return "storageClassName does not match"
    if (volume.spec.volume_mode or "Filesystem") != (claim.spec.volume_mode or "Filesystem"):
        return "incompatible volumeMode"
    if not set(claim.spec.access_modes) <= set(volume.spec.access_modes):
        return "incompatible accessMode"
    return ""


def _requested(claim: PersistentVolumeClaim) -> str:
    return claim.spec.resources.requests.get("storage", "0")


def _is_fit(volume: PersistentVolume, claim: PersistentVolumeClaim) -> bool:
    if quantity.compare(_capacity(volume), _requested(claim)) < 0:
        return False
    if (volume.spec.volume_mode or "Filesystem") != (claim.spec.volume_mode or "Filesystem"):
        return False
    return set(claim.spec.access_modes) <= set(volume.spec.access_modes)


def _capacity(volume: PersistentVolume) -> str:
    return volume.spec.capacity.get("storage", "0")


def bound(claim: PersistentVolumeClaim, volume: PersistentVolume) -> tuple[PersistentVolumeClaim, PersistentVolume]:
    """Both, as they are when they are bound to each other."""
    metadata = claim.metadata
    reference = ObjectReference(
        kind="PersistentVolumeClaim",
        api_version="v1",
        namespace=metadata.namespace,
        name=metadata.name,
        uid=metadata.uid,
    )
    by_us = volume.spec.claim_ref is None
    chosen_by_us = not claim.spec.volume_name
    volume = msgspec.structs.replace(
        volume,
        spec=msgspec.structs.replace(volume.spec, claim_ref=reference),
        status=msgspec.structs.replace(volume.status, phase="Bound"),
        metadata=_noted(volume.metadata, _BOUND_BY_CONTROLLER) if by_us else volume.metadata,
    )
    claim = msgspec.structs.replace(
        claim,
        spec=msgspec.structs.replace(claim.spec, volume_name=volume.metadata.name),
        status=msgspec.structs.replace(
            claim.status,
            phase="Bound",
            access_modes=volume.spec.access_modes,
            capacity=dict(volume.spec.capacity),
        ),
        metadata=_noted(metadata, BIND_COMPLETED, *([_BOUND_BY_CONTROLLER] if chosen_by_us else [])),
    )
    return claim, volume


def grown(
    claim: PersistentVolumeClaim, volume: PersistentVolume
) -> tuple[PersistentVolumeClaim, PersistentVolume] | None:
    """Both, where a bound claim asks for more than it has: a directory that minipod made has no size of its own."""
    wanted = _requested(claim)
    if not is_provisioned(volume) or quantity.compare(wanted, _capacity(volume)) <= 0:
        return None
    capacity = {"storage": wanted}
    return (
        msgspec.structs.replace(claim, status=msgspec.structs.replace(claim.status, capacity=capacity)),
        msgspec.structs.replace(volume, spec=msgspec.structs.replace(volume.spec, capacity=capacity)),
    )


def refusal_to_grow(new: Any, old: Any) -> str:
    """Why the API server's admission refuses a claim that asks for more; empty where it may."""
    if not isinstance(new, PersistentVolumeClaim) or not isinstance(old, PersistentVolumeClaim):
        return ""
    if quantity.compare(_requested(new), _requested(old)) <= 0 or class_of(old) in RECLAIM_POLICIES:
        return ""
    why = "only dynamically provisioned pvc can be resized, and the storageclass that provisions it must support resize"
    return f'persistentvolumeclaims "{new.metadata.name}" is forbidden: {why}'


def is_provisioned(volume: PersistentVolume) -> bool:
    """Whether minipod made it, so that it may be changed and removed."""
    return volume.metadata.annotations.get(PROVISIONED_BY) == PROVISIONER and volume.spec.local is not None


def _noted(metadata: ObjectMeta, *annotations: str) -> ObjectMeta:
    return msgspec.structs.replace(metadata, annotations={**metadata.annotations, **dict.fromkeys(annotations, "yes")})


def provisioned(claim: PersistentVolumeClaim, state: str) -> PersistentVolume | None:
    """The volume that the claim's class makes for it; None where the class makes none, or not for such a claim."""
    spec = claim.spec
    policy = RECLAIM_POLICIES.get(class_of(claim))
    if policy is None or spec.volume_name or spec.selector is not None or spec.volume_mode == "Block":
        return None
    name = f"pvc-{claim.metadata.uid}"
    return PersistentVolume(
        metadata=ObjectMeta(name=name, annotations={PROVISIONED_BY: PROVISIONER}, finalizers=(VOLUME_FINALIZER,)),
        spec=PersistentVolumeSpec(
            access_modes=spec.access_modes,
            capacity={"storage": spec.resources.requests.get("storage", "0")},
            local=LocalVolumeSource(path=f"{state}/pv/{name}"),
            persistent_volume_reclaim_policy=policy,
            storage_class_name=class_of(claim),
            volume_mode="Filesystem",
        ),
    )


class Pending(NamedTuple):
    """Why a claim has no volume, as Kubernetes' controller writes it in an event. `type`: Normal | Warning."""

    type: str
    reason: str
    message: str


def why_pending(claim: PersistentVolumeClaim, volumes: Sequence[PersistentVolume]) -> Pending:
    name, asked = class_of(claim), claim.spec.volume_name
    if asked:
        volume = next((volume for volume in volumes if volume.metadata.name == asked), None)
        if volume is None:
            return Pending("Warning", "FailedBinding", f'volume "{asked}" does not exist')
        why = why_not(volume, claim)
        if why == BOUND_TO_ANOTHER:
            return Pending("Warning", "FailedBinding", f'volume "{asked}" {why}')
        return Pending("Warning", "VolumeMismatch", f'Cannot bind to requested volume "{asked}": {why}')
    if not name:
        message = "no persistent volumes available for this claim and no storage class is set"
        return Pending("Normal", "FailedBinding", message)
    if name in RECLAIM_POLICIES:
        why = "makes directories only for claims without selector and of volumeMode Filesystem"
        return Pending("Warning", "ProvisioningFailed", f"storage class {name} {why}")
    why = f'storageclass.storage.k8s.io "{name}" not found, and no volume of this class fits'
    return Pending("Warning", "ProvisioningFailed", why)


def claim_name(pod: Pod, volume: Volume) -> str:
    """The claim that a volume of the pod stands on; empty for any other source."""
    if volume.persistent_volume_claim is not None:
        return volume.persistent_volume_claim.claim_name
    return f"{pod.metadata.name}-{volume.name}" if volume.ephemeral is not None else ""


def claims_of(pod: Pod) -> set[str]:
    """The names of all claims of the pod, in its namespace."""
    return {name for volume in pod.spec.volumes if (name := claim_name(pod, volume))}
