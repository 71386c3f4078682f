"""Rules for what a PersistentVolumeClaim asks for, as an object and as a template in a pod (layer 1, pure)."""

from __future__ import annotations

from minipod.api import quantity
from minipod.api.types import PersistentVolumeClaimSpec, TypedLocalObjectReference, TypedObjectReference
from minipod.api.validation.check import Check, Key, Path
from minipod.api.validation.formats import dns_label, dns_subdomain
from minipod.api.validation.metadata import label_selector

ACCESS_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
VOLUME_MODES = ("Block", "Filesystem")
STORAGE = Key("storage")


def claim_spec(check: Check, spec: PersistentVolumeClaimSpec, path: Path) -> None:
    access_modes(check, spec.access_modes, path, "accessModes")
    label_selector(check, spec.selector, path, "selector")
    if check.required(spec.resources.requests.get("storage"), path, "resources", STORAGE, why="how much storage?"):
        positive(check, spec.resources.requests["storage"], path, "resources", STORAGE)
    if spec.storage_class_name:
        check.format(spec.storage_class_name, dns_subdomain, path, "storageClassName")
    if spec.volume_mode is not None:
        check.one_of(spec.volume_mode, VOLUME_MODES, path, "volumeMode")
    data_sources(check, spec, path)
    if spec.volume_attributes_class_name:
        check.format(spec.volume_attributes_class_name, dns_subdomain, path, "volumeAttributesClassName")


def access_modes(check: Check, modes: tuple[str, ...], *path: object) -> None:
    check.required(modes, *path, why="at least one access mode")
    for mode in modes:
        check.one_of(mode, ACCESS_MODES, *path)
    known = {mode for mode in modes if mode in ACCESS_MODES}
    if "ReadWriteOncePod" in known and len(known) > 1:
        check.forbidden(*path, why="ReadWriteOncePod cannot be combined with other access modes")


def positive(check: Check, value: str, *path: object) -> None:
    if quantity.sign(value) <= 0:
        check.invalid(*path, value=value, why="must be more than 0")


def data_sources(check: Check, spec: PersistentVolumeClaimSpec, path: Path) -> None:
    source, reference = spec.data_source, spec.data_source_ref
    if source is not None:
        data_source(check, source, (path, "dataSource"))
    if reference is not None:
        data_source(check, reference, (path, "dataSourceRef"))
        if reference.namespace:
            check.format(reference.namespace, dns_label, path, "dataSourceRef", "namespace")
    if source is None or reference is None:
        return
    if reference.namespace:
        check.invalid(path, value="dataSource", why="cannot be given together with dataSourceRef.namespace")
    elif (source.api_group, source.kind, source.name) != (reference.api_group, reference.kind, reference.name):
        check.invalid(path, value="dataSource", why="must be the same as dataSourceRef")


def data_source(check: Check, source: TypedLocalObjectReference | TypedObjectReference, path: Path) -> None:
    check.required(source.name, path, "name")
    check.required(source.kind, path, "kind")
    if source.api_group:
        check.format(source.api_group, dns_subdomain, path, "apiGroup")
    elif source.kind != "PersistentVolumeClaim":
        check.invalid(path, value=source.kind, why="must be PersistentVolumeClaim where there is no apiGroup")
