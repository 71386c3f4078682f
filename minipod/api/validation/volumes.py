"""Rules for the volumes of a pod (layer 1, pure): one source each, names, and what each kind of source needs.

Where the server spells a path in its own way (`downwarAPI`, `persistentDisk`), so does this module.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any

from minipod.api import quantity
from minipod.api.types import (
    ConfigMapVolumeSource,
    DownwardAPIVolumeSource,
    EmptyDirVolumeSource,
    EphemeralVolumeSource,
    GitRepoVolumeSource,
    HostPathVolumeSource,
    ImageVolumeSource,
    NFSVolumeSource,
    PersistentVolumeClaimVolumeSource,
    PodSpec,
    SecretVolumeSource,
    Volume,
)
from minipod.api.validation import volume_plugins as plugins
from minipod.api.validation.check import Check, Path
from minipod.api.validation.claims import claim_spec
from minipod.api.validation.formats import (
    absolute_path,
    descending_path,
    dns_label,
    dns_subdomain,
    no_backsteps,
)
from minipod.api.validation.metadata import template_meta
from minipod.api.validation.projected import projected
from minipod.api.validation.volume_files import downward_file, file_mode, items

HOST_PATH_TYPES = (
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
)
PULL_POLICIES = ("Always", "IfNotPresent", "Never")


def volumes(check: Check, spec: PodSpec, pod_name: str, path: Path) -> dict[str, Volume]:
    """Checks all volumes; returns, by name, those that mounts may refer to: the ones without an error."""
    usable: dict[str, Volume] = {}
    created_claims = {f"{pod_name}-{volume.name}" for volume in spec.volumes if pod_name and volume.ephemeral}
    for index, volume in enumerate(spec.volumes):
        at = (path, index)
        found_before = len(check.errors)
        kind = volume_source(check, volume, at)
        check.named(volume.name, dns_label, at, "name", why="give the volume a name")
        if volume.name in usable:
            check.duplicate(at, "name", value=volume.name)
        if kind == "ephemeral":
            ephemeral_claim_name(check, volume.name, pod_name, at)
        if volume.iscsi is not None:
            plugins.iscsi_interface_name(check, volume.iscsi, volume.name, (at, "name"))
        if len(check.errors) == found_before:
            usable[volume.name] = volume
        claim = volume.persistent_volume_claim
        if claim is not None and claim.claim_name in created_claims:
            why = "cannot be a claim that is made for an ephemeral volume of this pod"
            check.invalid(at, "persistentVolumeClaim", "claimName", value=claim.claim_name, why=why)
    return usable


def volume_source(check: Check, volume: Volume, path: Path) -> str | None:
    """Exactly one source; of several the first is looked at, returned, and the others are forbidden."""
    found = [(source, about) for source, about in zip(_sources_of(volume), _SOURCES, strict=True) if source is not None]
    if not found:
        check.missing(path, why="give the volume a source, as emptyDir: {}")
        return None
    source, (kind, field, _, rule) = found[0]
    rule(check, source, (path, field))
    for _, (_, _, second_field, _) in found[1:]:
        check.forbidden(path, second_field, why="a volume has only one source")
    return kind


def empty_dir(check: Check, source: EmptyDirVolumeSource, path: Path) -> None:
    if source.size_limit is not None and quantity.sign(source.size_limit) < 0:
        check.forbidden(path, "sizeLimit", why="must be 0 or more")


def host_path(check: Check, source: HostPathVolumeSource, path: Path) -> None:
    if not check.required(source.path, path, "path"):
        return
    check.format(source.path, no_backsteps, path, "path")
    if source.type is not None:
        check.one_of(source.type, HOST_PATH_TYPES, path, "type")


def git_repo(check: Check, source: GitRepoVolumeSource, path: Path) -> None:
    check.required(source.repository, path, "repository")
    check.format(source.directory, descending_path, path, "directory")


def secret(check: Check, source: SecretVolumeSource, path: Path) -> None:
    check.required(source.secret_name, path, "secretName")
    file_mode(check, source.default_mode, path, "defaultMode")
    items(check, source.items, (path, "items"))


def config_map(check: Check, source: ConfigMapVolumeSource, path: Path) -> None:
    check.required(source.name, path, "name")
    file_mode(check, source.default_mode, path, "defaultMode")
    items(check, source.items, (path, "items"))


def nfs(check: Check, source: NFSVolumeSource, path: Path) -> None:
    check.required(source.server, path, "server")
    check.required(source.path, path, "path")
    check.format(source.path, absolute_path, path, "path")


def persistent_volume_claim(check: Check, source: PersistentVolumeClaimVolumeSource, path: Path) -> None:
    check.required(source.claim_name, path, "claimName")


def downward_api(check: Check, source: DownwardAPIVolumeSource, path: Path) -> None:
    file_mode(check, source.default_mode, path, "defaultMode")
    for file in source.items:
        downward_file(check, file, path)


def image(check: Check, source: ImageVolumeSource, path: Path) -> None:
    check.required(source.reference, path, "reference")
    check.choice(source.pull_policy, PULL_POLICIES, path, "pullPolicy")


def ephemeral(check: Check, source: EphemeralVolumeSource, path: Path) -> None:
    template = source.volume_claim_template
    if template is None:
        check.missing(path, "volumeClaimTemplate")
    else:
        template_meta(check, template.metadata, (path, "volumeClaimTemplate", "metadata"))
        claim_spec(check, template.spec, (path, "volumeClaimTemplate", "spec"))


def ephemeral_claim_name(check: Check, name: str, pod_name: str, path: Path) -> None:
    """The claim made for an ephemeral volume is named after the pod and the volume."""
    if pod_name and name and (complaint := dns_subdomain(f"{pod_name}-{name}")):
        check.invalid(path, "name", value=name, why=f"the claim's name {pod_name}-{name} {complaint}")


_Rule = Callable[[Check, Any, Path], None]

_SOURCES: tuple[tuple[str, str, str, _Rule], ...] = tuple(
    (attribute, field, second_field or field, rule)
    for attribute, field, second_field, rule in (
        ("empty_dir", "emptyDir", "", empty_dir),
        ("host_path", "hostPath", "", host_path),
        ("git_repo", "gitRepo", "", git_repo),
        ("gce_persistent_disk", "persistentDisk", "gcePersistentDisk", plugins.gce_persistent_disk),
        ("aws_elastic_block_store", "awsElasticBlockStore", "", plugins.aws_elastic_block_store),
        ("secret", "secret", "", secret),
        ("nfs", "nfs", "", nfs),
        ("iscsi", "iscsi", "", plugins.iscsi),
        ("glusterfs", "glusterfs", "", plugins.glusterfs),
        ("flocker", "flocker", "", plugins.flocker),
        ("persistent_volume_claim", "persistentVolumeClaim", "", persistent_volume_claim),
        ("rbd", "rbd", "", plugins.rbd),
        ("cinder", "cinder", "", plugins.cinder),
        ("cephfs", "cephfs", "cephFS", plugins.cephfs),
        ("quobyte", "quobyte", "", plugins.quobyte),
        ("downward_api", "downwardAPI", "downwarAPI", downward_api),
        ("fc", "fc", "", plugins.fc),
        ("flex_volume", "flexVolume", "", plugins.flex),
        ("config_map", "configMap", "", config_map),
        ("azure_file", "azureFile", "", plugins.azure_file),
        ("vsphere_volume", "vsphereVolume", "", plugins.vsphere),
        ("photon_persistent_disk", "photonPersistentDisk", "", plugins.photon),
        ("portworx_volume", "portworxVolume", "", plugins.portworx),
        ("azure_disk", "azureDisk", "", plugins.azure_disk),
        ("storageos", "storageos", "", plugins.storageos),
        ("projected", "projected", "", projected),
        ("scale_io", "scaleIO", "", plugins.scale_io),
        ("csi", "csi", "", plugins.csi),
        ("ephemeral", "ephemeral", "", ephemeral),
        ("image", "image", "", image),
    )
)
"""(attribute, its path, its path where it is the second source, its rule), in the server's order."""
_sources_of = attrgetter(*(attribute for attribute, *_ in _SOURCES))
