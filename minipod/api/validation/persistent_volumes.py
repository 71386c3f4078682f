"""Rules for PersistentVolumes (layer 1, pure)."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from minipod.api.types import (
    LocalVolumeSource,
    NodeSelector,
    NodeSelectorRequirement,
    PersistentVolume,
    PersistentVolumeSpec,
    VolumeNodeAffinity,
)
from minipod.api.validation import volume_plugins as plugins
from minipod.api.validation.check import Check, Key, Path
from minipod.api.validation.claims import VOLUME_MODES, access_modes, positive
from minipod.api.validation.formats import dns_subdomain, no_backsteps
from minipod.api.validation.metadata import ANNOTATIONS, object_meta, object_meta_update
from minipod.api.validation.same import same
from minipod.api.validation.scheduling import node_selector
from minipod.api.validation.volumes import host_path, nfs

SPEC: Path = ("spec",)
RECLAIM_POLICIES = ("Delete", "Recycle", "Retain")
MOUNT_OPTIONS = "volume.beta.kubernetes.io/mount-options"


def persistent_volume(check: Check, volume: PersistentVolume) -> None:
    object_meta(check, volume.metadata, namespaced=False)
    spec = volume.spec
    access_modes(check, spec.access_modes, SPEC, "accessModes")
    capacity(check, spec.capacity)
    policy = spec.persistent_volume_reclaim_policy
    if policy:
        check.one_of(policy, RECLAIM_POLICIES, SPEC, "persistentVolumeReclaimPolicy")
    if spec.node_affinity is not None:
        node_affinity(check, spec.node_affinity)
    if source(check, spec) == "iscsi" and spec.iscsi is not None:
        plugins.iscsi_interface_name(check, spec.iscsi, volume.metadata.name, (SPEC, "iscsi", "targetportal"))
    if spec.host_path is not None and policy == "Recycle" and _is_root(spec.host_path.path):
        check.forbidden(SPEC, "persistentVolumeReclaimPolicy", why="the root of the host cannot be recycled")
    if spec.storage_class_name:
        check.format(spec.storage_class_name, dns_subdomain, SPEC, "storageClassName")
    if spec.volume_mode is not None:
        check.one_of(spec.volume_mode, VOLUME_MODES, SPEC, "volumeMode")
    if spec.volume_attributes_class_name is not None:
        check.named(spec.volume_attributes_class_name, dns_subdomain, SPEC, "volumeAttributesClassName")
        if spec.csi is None:
            check.missing(SPEC, "csi", why="volumeAttributesClassName needs it")
    mount_options_annotation(check, volume)


def capacity(check: Check, amounts: dict[str, str]) -> None:
    check.required(amounts, SPEC, "capacity", why="how much storage?")
    if amounts.keys() != {"storage"}:
        check.unsupported(SPEC, "capacity", value=amounts, allowed=("storage",))
    for name, value in amounts.items():
        positive(check, value, SPEC, "capacity", Key(name))


def node_affinity(check: Check, affinity: VolumeNodeAffinity) -> None:
    if affinity.required is None:
        check.missing(SPEC, "nodeAffinity", "required")
    else:
        node_selector(check, affinity.required, (SPEC, "nodeAffinity", "required"))


def source(check: Check, spec: PersistentVolumeSpec) -> str | None:
    """Exactly one source; of several the first is looked at, returned, and the others are forbidden."""
    kind = None
    for attribute, field, second_field, rule in _SOURCES:
        value = getattr(spec, attribute)
        if value is None:
            continue
        if kind is not None and attribute != "flex_volume":  # the server forgets to count before this one
            check.forbidden(SPEC, second_field, why="a volume has only one source")
            continue
        rule(check, value, (SPEC, field))
        if attribute == "local" and spec.node_affinity is None:
            check.missing(SPEC, "nodeAffinity", why="a local volume needs it")
        kind = kind or attribute
    if kind is None:
        check.missing(SPEC, why="give the volume a source, as hostPath")
    return kind


def local(check: Check, value: LocalVolumeSource, path: Path) -> None:
    check.named(value.path, no_backsteps, path, "path")


def _is_root(path: str) -> bool:
    return path.startswith("/") and posixpath.normpath(path).strip("/") == ""


def mount_options_annotation(check: Check, volume: PersistentVolume) -> None:
    """An annotation older than spec.mountOptions, which only some sources know."""
    known = any(getattr(volume.spec, attribute) is not None for attribute in _WITH_MOUNT_OPTIONS)
    if MOUNT_OPTIONS in volume.metadata.annotations and not known:
        check.forbidden(ANNOTATIONS, MOUNT_OPTIONS, why="this kind of volume takes no mount options")


_WITH_MOUNT_OPTIONS = (
    "gce_persistent_disk",
    "aws_elastic_block_store",
    "glusterfs",
    "nfs",
    "rbd",
    "quobyte",
    "iscsi",
    "cinder",
    "cephfs",
    "azure_file",
    "vsphere_volume",
    "azure_disk",
    "photon_persistent_disk",
)

_Rule = Callable[[Check, Any, Path], None]

_SOURCES: tuple[tuple[str, str, str, _Rule], ...] = (
    ("host_path", "hostPath", "hostPath", host_path),
    ("gce_persistent_disk", "persistentDisk", "gcePersistentDisk", plugins.gce_persistent_disk),
    ("aws_elastic_block_store", "awsElasticBlockStore", "awsElasticBlockStore", plugins.aws_elastic_block_store),
    ("glusterfs", "glusterfs", "glusterfs", plugins.glusterfs_persistent),
    ("flocker", "flocker", "flocker", plugins.flocker),
    ("nfs", "nfs", "nfs", nfs),
    ("rbd", "rbd", "rbd", plugins.rbd),
    ("quobyte", "quobyte", "quobyte", plugins.quobyte),
    ("cephfs", "cephfs", "cephFS", plugins.cephfs),
    ("iscsi", "iscsi", "iscsi", plugins.iscsi_persistent),
    ("cinder", "cinder", "cinder", plugins.cinder_persistent),
    ("fc", "fc", "fc", plugins.fc),
    ("flex_volume", "flexVolume", "flexVolume", plugins.flex),
    ("azure_file", "azureFile", "azureFile", plugins.azure_file_persistent),
    ("vsphere_volume", "vsphereVolume", "vsphereVolume", plugins.vsphere),
    ("photon_persistent_disk", "photonPersistentDisk", "photonPersistentDisk", plugins.photon),
    ("portworx_volume", "portworxVolume", "portworxVolume", plugins.portworx),
    ("azure_disk", "azureDisk", "azureDisk", plugins.azure_disk),
    ("scale_io", "scaleIO", "scaleIO", plugins.scale_io),
    ("local", "local", "local", local),
    ("storageos", "storageos", "storageos", plugins.storageos_persistent),
    ("csi", "csi", "csi", plugins.csi_persistent),
)
"""(attribute, its path, its path where it is the second source, its rule), in the server's order."""


def persistent_volume_update(check: Check, new: PersistentVolume, old: PersistentVolume) -> None:
    persistent_volume(check, new)
    object_meta_update(check, new.metadata, old.metadata)
    if not same(_source_of(new.spec, old.spec), _source_of(old.spec, old.spec)):
        check.forbidden(SPEC, "persistentvolumesource", why="the source of a volume cannot be changed")
    check.unchanged(new.spec.volume_mode, old.spec.volume_mode, "volumeMode")
    if old.spec.node_affinity is not None and not _same_nodes(new.spec.node_affinity, old.spec.node_affinity):
        why = "cannot be changed, except from beta labels to their successors"
        check.invalid("nodeAffinity", value=new.spec.node_affinity, why=why)
    if old.spec.volume_attributes_class_name is not None and new.spec.volume_attributes_class_name is None:
        check.forbidden(SPEC, "volumeAttributesClassName", why="cannot be taken away")


def _source_of(spec: PersistentVolumeSpec, old: PersistentVolumeSpec) -> tuple[object, ...]:
    """The spec's source; an expansion secret that the old one lacks may be added."""
    csi = spec.csi
    if csi is not None and old.csi is not None and old.csi.controller_expand_secret_ref is None:
        csi = msgspec.structs.replace(csi, controller_expand_secret_ref=None)
    return tuple(csi if attribute == "csi" else getattr(spec, attribute) for attribute, *_ in _SOURCES)


_SUCCESSORS = {
    "failure-domain.beta.kubernetes.io/zone": "topology.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region": "topology.kubernetes.io/region",
    "beta.kubernetes.io/os": "kubernetes.io/os",
    "beta.kubernetes.io/arch": "kubernetes.io/arch",
    "beta.kubernetes.io/instance-type": "node.kubernetes.io/instance-type",
}


def _same_nodes(new: VolumeNodeAffinity | None, old: VolumeNodeAffinity) -> bool:
    """The same, except for keys that were replaced by their successors."""
    if new is None or new.required is None or old.required is None:
        return new == old
    ours, theirs = list(_requirements(new.required)), list(_requirements(old.required))
    return len(ours) == len(theirs) and all(
        here == there or here == (*there[:2], msgspec.structs.replace(there[2], key=_SUCCESSORS.get(there[2].key, "")))
        for here, there in zip(ours, theirs, strict=True)
    )


def _requirements(selector: NodeSelector) -> Iterator[tuple[int, str, NodeSelectorRequirement]]:
    for index, term in enumerate(selector.node_selector_terms):
        for requirement in term.match_expressions:
            yield index, "expression", requirement
        for requirement in term.match_fields:
            yield index, "field", requirement
