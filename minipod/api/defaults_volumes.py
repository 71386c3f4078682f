"""Defaults of volumes, their sources and claims (layer 1, pure); used by `api.defaults` only."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any, TypeVar

from msgspec.structs import fields, replace

from minipod.api import quantity, references, types

T = TypeVar("T")

_FILE_MODE = 0o644


def each(rule: Callable[[T], T], items: tuple[T, ...]) -> tuple[T, ...]:
    return tuple([rule(item) for item in items]) if items else items


def rounded(resources: dict[str, str]) -> dict[str, str]:
    """Nothing finer than a thousandth (SetDefaults_ResourceList)."""
    return {name: quantity.rounded_to_milli(amount) for name, amount in resources.items()} if resources else resources


_LONGEST_REFERENCE = 1024  # a name has 255 characters, a tag 128, a digest fewer than that and its algorithm


def pull_policy(image: str) -> str:
    """Always for the tag latest, else IfNotPresent; also for what is no image reference."""
    return _pull_policy(image) if len(image) <= _LONGEST_REFERENCE else "IfNotPresent"


@lru_cache(maxsize=1024)
def _pull_policy(image: str) -> str:
    try:
        return "Always" if references.parse_reference(image).tag == references.DEFAULT_TAG else "IfNotPresent"
    except references.InvalidReference:
        return "IfNotPresent"


def field_selector(selector: types.ObjectFieldSelector) -> types.ObjectFieldSelector:
    return selector if selector.api_version else replace(selector, api_version="v1")


@cache
def _sources() -> tuple[str, ...]:
    return tuple(info.name for info in fields(types.Volume) if info.name != "name")


def volume(volume: types.Volume) -> types.Volume:
    """A volume without a source is an emptyDir; each source gets its own defaults."""
    changes: dict[str, Any] = {}
    if all(getattr(volume, source) is None for source in _sources()):
        return replace(volume, empty_dir=types.EmptyDirVolumeSource())
    for source, rule in _SOURCE_RULES.items():
        value = getattr(volume, source)
        if value is not None:
            changes[source] = rule(value)
    return replace(volume, **changes) if changes else volume


def _host_path(source: types.HostPathVolumeSource) -> types.HostPathVolumeSource:
    return replace(source, type="") if source.type is None else source


def _default_mode(source: Any) -> Any:
    return replace(source, default_mode=_FILE_MODE) if source.default_mode is None else source


def _downward_item(item: types.DownwardAPIVolumeFile) -> types.DownwardAPIVolumeFile:
    return item if item.field_ref is None else replace(item, field_ref=field_selector(item.field_ref))


def _downward(source: types.DownwardAPIVolumeSource) -> types.DownwardAPIVolumeSource:
    source = replace(source, items=each(_downward_item, source.items))
    return replace(source, default_mode=_FILE_MODE) if source.default_mode is None else source


def _projected(source: types.ProjectedVolumeSource) -> types.ProjectedVolumeSource:
    mode = _FILE_MODE if source.default_mode is None else source.default_mode
    sources = source.sources if source.sources is None else each(_projection, source.sources)
    return replace(source, default_mode=mode, sources=sources)


def _projection(projection: types.VolumeProjection) -> types.VolumeProjection:
    downward, token = projection.downward_api, projection.service_account_token
    if downward is not None:
        downward = replace(downward, items=each(_downward_item, downward.items))
    if token is not None and token.expiration_seconds is None:
        token = replace(token, expiration_seconds=3600)
    return replace(projection, downward_api=downward, service_account_token=token)


def without_disabled_projections(volume: types.Volume) -> types.Volume:
    """Without the sources of features that are off in 1.36: their entries stay, empty."""
    source = volume.projected
    if source is None or not source.sources:
        return volume
    kept = each(lambda item: replace(item, cluster_trust_bundle=None, pod_certificate=None), source.sources)
    return volume if kept == source.sources else replace(volume, projected=replace(source, sources=kept))


def _image(source: types.ImageVolumeSource) -> types.ImageVolumeSource:
    return source if source.pull_policy else replace(source, pull_policy=pull_policy(source.reference))


def _ephemeral(source: types.EphemeralVolumeSource) -> types.EphemeralVolumeSource:
    template = source.volume_claim_template
    if template is None:
        return source
    return replace(source, volume_claim_template=replace(template, spec=claim_spec(template.spec)))


def claim_spec(spec: types.PersistentVolumeClaimSpec) -> types.PersistentVolumeClaimSpec:
    resources = spec.resources
    resources = replace(resources, limits=rounded(resources.limits), requests=rounded(resources.requests))
    mode = "Filesystem" if spec.volume_mode is None else spec.volume_mode
    return replace(spec, volume_mode=mode, resources=resources)


_OLD_SOURCES = (("", "PersistentVolumeClaim"), ("snapshot.storage.k8s.io", "VolumeSnapshot"))


def data_sources(spec: types.PersistentVolumeClaimSpec) -> types.PersistentVolumeClaimSpec:
    """dataSource and dataSourceRef of a claim name the same source (pkg/api/persistentvolumeclaim/util.go).

    The old field knows two kinds and loses any other; a source in another namespace is behind a feature that is off.
    """
    source, reference = spec.data_source, spec.data_source_ref
    if reference is not None and reference.namespace:
        reference = None
    if reference is None and source is not None:
        if (source.api_group or "", source.kind) in _OLD_SOURCES:
            reference = types.TypedObjectReference(api_group=source.api_group, kind=source.kind, name=source.name)
        else:
            source = None
    elif reference is not None and source is None:
        source = types.TypedLocalObjectReference(
            api_group=reference.api_group, kind=reference.kind, name=reference.name
        )
    return replace(spec, data_source=source, data_source_ref=reference)


def _iscsi(source: Any) -> Any:
    return source if source.iscsi_interface else replace(source, iscsi_interface="default")


def _rbd(source: Any) -> Any:
    return replace(
        source,
        pool=source.pool or "rbd",
        user=source.user or "admin",
        keyring=source.keyring or "/etc/ceph/keyring",
    )


def _azure_disk(source: types.AzureDiskVolumeSource) -> types.AzureDiskVolumeSource:
    return replace(
        source,
        caching_mode="ReadWrite" if source.caching_mode is None else source.caching_mode,
        fs_type="ext4" if source.fs_type is None else source.fs_type,
        read_only=False if source.read_only is None else source.read_only,
        kind="Shared" if source.kind is None else source.kind,
    )


def _scale_io(source: Any) -> Any:
    mode = source.storage_mode or "ThinProvisioned"
    return replace(source, storage_mode=mode, fs_type=source.fs_type or "xfs")


_SOURCE_RULES: dict[str, Callable[[Any], Any]] = {
    "host_path": _host_path,
    "secret": _default_mode,
    "config_map": _default_mode,
    "downward_api": _downward,
    "projected": _projected,
    "image": _image,
    "ephemeral": _ephemeral,
    "iscsi": _iscsi,
    "rbd": _rbd,
    "azure_disk": _azure_disk,
    "scale_io": _scale_io,
}


def plugin_defaults(spec: types.PersistentVolumeSpec) -> types.PersistentVolumeSpec:
    """A PersistentVolume's source gets the defaults of a pod's."""
    changes = {}
    for source in ("host_path", "rbd", "iscsi", "azure_disk", "scale_io"):
        value = getattr(spec, source)
        if value is not None:
            changes[source] = _SOURCE_RULES[source](value)
    return replace(spec, **changes) if changes else spec
