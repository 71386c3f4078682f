"""Rules for metadata and for label selectors (layer 1, pure): what all kinds have in common.

After apimachinery/pkg/api/validation/objectmeta.go and apimachinery/pkg/apis/meta/v1/validation/validation.go.
"""

from __future__ import annotations

from collections.abc import Mapping

from minipod.api.types import LabelSelector, LabelSelectorRequirement, ManagedFieldsEntry, ObjectMeta, OwnerReference
from minipod.api.validation.check import Check, Format, Path
from minipod.api.validation.formats import (
    annotation_key,
    dns_label,
    dns_subdomain,
    label_value,
    qualified_name,
    without_trailing_dash,
)

METADATA: Path = ("metadata",)
ANNOTATIONS: Path = ("metadata", "annotations")

ANNOTATIONS_LIMIT_BYTES = 256 * 1024
FIELD_MANAGER_LIMIT_BYTES = 128
SUBRESOURCE_LIMIT_BYTES = 256

STANDARD_FINALIZERS = frozenset(("kubernetes", "orphan", "foregroundDeletion"))
BOTH_DEPENDENTS_FINALIZERS = frozenset(("orphan", "foregroundDeletion"))


def object_meta(check: Check, meta: ObjectMeta, *, namespaced: bool, name: Format = dns_subdomain) -> None:
    """Metadata of an object of its own, on create as on update; `name` is what its kind's names look like."""
    common_metadata(check, meta, namespaced=namespaced, name=name)
    standard_finalizers(check, meta.finalizers, (METADATA, "finalizers"))


def common_metadata(check: Check, meta: ObjectMeta, *, namespaced: bool, name: Format) -> None:
    """What holds in all API groups."""
    if meta.generate_name and (complaint := name(without_trailing_dash(meta.generate_name))):
        check.invalid(METADATA, "generateName", value=meta.generate_name, why=complaint)
    if check.required(meta.name, METADATA, "name", why="give the object a name"):
        check.format(meta.name, name, METADATA, "name")
    if namespaced:
        check.named(meta.namespace, dns_label, METADATA, "namespace")
    elif meta.namespace:
        check.forbidden(METADATA, "namespace", why="objects of this kind are in no namespace")
    check.not_negative(meta.generation, METADATA, "generation")
    changeable_metadata(check, meta)
    finalizers(check, meta.finalizers, (METADATA, "finalizers"))


def changeable_metadata(check: Check, meta: ObjectMeta) -> None:
    """What may differ after an update, and therefore is checked again then."""
    label_map(check, meta.labels, METADATA, "labels")
    annotation_map(check, meta.annotations, METADATA, "annotations")
    if meta.owner_references:
        owner_references(check, meta.owner_references, (METADATA, "ownerReferences"))
    for index, entry in enumerate(meta.managed_fields):
        managed_fields_entry(check, entry, (METADATA, "managedFields", index))


def object_meta_update(check: Check, new: ObjectMeta, old: ObjectMeta) -> None:
    """What an update may not change in metadata, for all kinds."""
    if old.deletion_timestamp is not None and not set(new.finalizers) <= set(old.finalizers):
        check.forbidden(METADATA, "finalizers", why="no finalizer can be added to an object that is being deleted")
    if not new.resource_version:
        check.invalid(METADATA, "resourceVersion", value="", why="must be given for an update")
    if new.generation < old.generation:
        check.invalid(METADATA, "generation", value=new.generation, why="must not become smaller")
    check.unchanged(new.name, old.name, METADATA, "name")
    check.unchanged(new.namespace, old.namespace, METADATA, "namespace")
    check.unchanged(new.uid, old.uid, METADATA, "uid")
    check.unchanged(new.creation_timestamp, old.creation_timestamp, METADATA, "creationTimestamp")
    check.unchanged(new.deletion_timestamp, old.deletion_timestamp, METADATA, "deletionTimestamp")
    check.unchanged(
        new.deletion_grace_period_seconds, old.deletion_grace_period_seconds, METADATA, "deletionGracePeriodSeconds"
    )
    changeable_metadata(check, new)
    standard_finalizers(check, new.finalizers, (METADATA, "finalizers"))


def label_map(check: Check, values: Mapping[str, str], *path: object) -> None:
    for key, value in values.items():
        check.format(key, qualified_name, *path)
        check.format(value, label_value, *path)


def annotation_map(check: Check, values: Mapping[str, str], *path: object) -> None:
    for key in values:
        check.format(key, annotation_key, *path)
    # Four bytes a character at most: most annotations need not be measured.
    if sum(len(key) + len(value) for key, value in values.items()) * 4 > ANNOTATIONS_LIMIT_BYTES:
        size = sum(len(key.encode()) + len(value.encode()) for key, value in values.items())
        if size > ANNOTATIONS_LIMIT_BYTES:
            check.too_long(*path, limit=ANNOTATIONS_LIMIT_BYTES)


def owner_references(check: Check, references: tuple[OwnerReference, ...], path: Path) -> None:
    """The server names no index in these paths."""
    for reference in references:
        version = reference.api_version
        if not version.rpartition("/")[2] or version.count("/") > 1:
            check.invalid(path, "apiVersion", value=version, why="must be a version, or group/version")
        for field in ("kind", "name", "uid"):
            if not getattr(reference, field):
                check.invalid(path, field, value="", why="must not be empty")
        if reference.kind == "Event" and version in ("v1", "/v1"):
            check.invalid(path, value=reference, why="an Event cannot own anything")
    if sum(reference.controller is True for reference in references) > 1:
        check.invalid(path, value=references, why="only one owner can be the controller")


def finalizers(check: Check, names: tuple[str, ...], path: Path) -> None:
    for name in names:
        check.format(name, qualified_name, path)
    if BOTH_DEPENDENTS_FINALIZERS.issubset(names):
        check.invalid(path, value=names, why="orphan and foregroundDeletion exclude each other")


def standard_finalizers(check: Check, names: tuple[str, ...], path: Path) -> None:
    for index, name in enumerate(names):
        standard_finalizer(check, name, path, index)


def standard_finalizer(check: Check, name: str, *path: object) -> None:
    if "/" not in name and name not in STANDARD_FINALIZERS:
        check.invalid(*path, value=name, why="must be a standard finalizer, or have a prefix as in example.com/name")


def managed_fields_entry(check: Check, entry: ManagedFieldsEntry, path: Path) -> None:
    if entry.operation not in ("Apply", "Update"):
        check.invalid(path, "operation", value=entry.operation, why="must be Apply or Update")
    if entry.fields_type not in ("", "FieldsV1"):
        check.invalid(path, "fieldsType", value=entry.fields_type, why="must be FieldsV1")
    check.short_enough(entry.manager, FIELD_MANAGER_LIMIT_BYTES, path, "manager")
    if not entry.manager.isprintable():
        check.invalid(path, "manager", value=entry.manager, why="must be printable characters")
    check.short_enough(entry.subresource, SUBRESOURCE_LIMIT_BYTES, path, "subresource")


def label_selector(
    check: Check, selector: LabelSelector | None, *path: object, invalid_values_allowed: bool = False
) -> None:
    if selector is None:
        return
    label_map(check, selector.match_labels, path, "matchLabels")
    for index, requirement in enumerate(selector.match_expressions):
        _requirement(check, requirement, (path, "matchExpressions", index), invalid_values_allowed)


def _requirement(check: Check, requirement: LabelSelectorRequirement, path: Path, invalid_values_allowed: bool) -> None:
    match requirement.operator:
        case "In" | "NotIn":
            check.required(requirement.values, path, "values", why="operator In and NotIn need values")
        case "Exists" | "DoesNotExist":
            if requirement.values:
                check.forbidden(path, "values", why="operator Exists and DoesNotExist take no values")
        case operator:
            check.invalid(path, "operator", value=operator, why="must be In, NotIn, Exists or DoesNotExist")
    check.format(requirement.key, qualified_name, path, "key")
    if not invalid_values_allowed:
        for index, value in enumerate(requirement.values):
            check.format(value, label_value, path, "values", index)


def template_meta(check: Check, meta: ObjectMeta, path: Path) -> None:
    """Metadata inside a template: labels and annotations, and nothing else."""
    annotation_map(check, meta.annotations, path, "annotations")
    label_map(check, meta.labels, path, "labels")
    check.only_defaults(meta, _NOTHING, _NOT_IN_TEMPLATES, path, why="cannot be set in a template")


_NOTHING = ObjectMeta()
_NOT_IN_TEMPLATES = (
    ("name", "name"),
    ("generate_name", "generateName"),
    ("namespace", "namespace"),
    ("self_link", "selfLink"),
    ("uid", "uID"),  # the server writes the name of its own struct's field, lower case in front
    ("resource_version", "resourceVersion"),
    ("generation", "generation"),
    ("creation_timestamp", "creationTimestamp"),
    ("deletion_timestamp", "deletionTimestamp"),
    ("deletion_grace_period_seconds", "deletionGracePeriodSeconds"),
    ("owner_references", "ownerReferences"),
    ("finalizers", "finalizers"),
    ("managed_fields", "managedFields"),
)
