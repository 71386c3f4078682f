"""Rules for ConfigMaps, Secrets, PersistentVolumeClaims, Events and Namespaces (layer 1, pure)."""

from __future__ import annotations

import msgspec

from minipod.api import quantity
from minipod.api.types import ConfigMap, Event, Namespace, PersistentVolumeClaim, PersistentVolumeClaimSpec, Secret
from minipod.api.validation.check import Check, Key, Path
from minipod.api.validation.claims import claim_spec
from minipod.api.validation.formats import config_key, dns_label, dns_subdomain, qualified_name
from minipod.api.validation.metadata import (
    ANNOTATIONS,
    common_metadata,
    object_meta,
    object_meta_update,
    standard_finalizer,
)
from minipod.api.validation.same import same

DATA_LIMIT_BYTES = 1024 * 1024
SPEC: Path = ("spec",)
STORAGE_CLASS = "volume.beta.kubernetes.io/storage-class"
SERVICE_ACCOUNT_NAME = "kubernetes.io/service-account.name"

_KEYS_OF_SECRETS = {
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
}


# ConfigMap


def config_map(check: Check, value: ConfigMap) -> None:
    object_meta(check, value.metadata, namespaced=True)
    for field, data in (("data", value.data), ("binaryData", value.binary_data)):
        for key in data:
            check.format(key, config_key, field, Key(key))
    for key in value.data.keys() & value.binary_data.keys():
        check.invalid("data", Key(key), value=key, why="is in binaryData too")
    size = sum(len(text.encode()) for text in value.data.values()) + sum(map(len, value.binary_data.values()))
    if size > DATA_LIMIT_BYTES:
        check.too_long("", limit=DATA_LIMIT_BYTES)


def config_map_update(check: Check, new: ConfigMap, old: ConfigMap) -> None:
    object_meta_update(check, new.metadata, old.metadata)
    if old.immutable:
        why = "the ConfigMap is immutable"
        if not new.immutable:
            check.forbidden("immutable", why=why)
        if new.data != old.data:
            check.forbidden("data", why=why)
        if new.binary_data != old.binary_data:
            check.forbidden("binaryData", why=why)
    config_map(check, new)


# Secret


def secret(check: Check, value: Secret) -> None:
    """`stringData` has been merged into `data` (api.defaults)."""
    object_meta(check, value.metadata, namespaced=True)
    for key in value.data:
        check.format(key, config_key, "data", Key(key))
    if sum(map(len, value.data.values())) > DATA_LIMIT_BYTES:
        check.too_long("data", limit=DATA_LIMIT_BYTES)
    for key in _KEYS_OF_SECRETS.get(value.type, ()):
        if key not in value.data:
            check.missing("data", Key(key), why=f"a secret of type {value.type} needs it")
    match value.type:
        case "kubernetes.io/service-account-token":
            check.required(value.metadata.annotations.get(SERVICE_ACCOUNT_NAME), ANNOTATIONS, Key(SERVICE_ACCOUNT_NAME))
        case "kubernetes.io/dockercfg" | "kubernetes.io/dockerconfigjson":
            (key,) = _KEYS_OF_SECRETS[value.type]
            if key in value.data and not _is_json_object(value.data[key]):
                check.invalid("data", Key(key), value="<not shown>", why="must be an object in JSON")
        case "kubernetes.io/basic-auth":
            if value.data.keys().isdisjoint(("username", "password")):
                check.missing("data", Key("username"), why="give username, password or both")
                check.missing("data", Key("password"), why="give username, password or both")
        case "kubernetes.io/ssh-auth":
            check.required(value.data.get("ssh-privatekey"), "data", Key("ssh-privatekey"))


def _is_json_object(data: bytes) -> bool:
    try:
        found = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return found is None or isinstance(found, dict)


def secret_update(check: Check, new: Secret, old: Secret) -> None:
    object_meta_update(check, new.metadata, old.metadata)
    check.unchanged(new.type or old.type, old.type, "type")
    if old.immutable:
        why = "the Secret is immutable"
        if not new.immutable:
            check.forbidden("immutable", why=why)
        if new.data != old.data:
            check.forbidden("data", why=why)
    secret(check, new)


# PersistentVolumeClaim


def persistent_volume_claim(check: Check, value: PersistentVolumeClaim) -> None:
    object_meta(check, value.metadata, namespaced=True)
    claim_spec(check, value.spec, SPEC)


def persistent_volume_claim_update(check: Check, new: PersistentVolumeClaim, old: PersistentVolumeClaim) -> None:
    """Once made, a claim can be bound (volumeName), grow, and change its attributes class."""
    object_meta_update(check, new.metadata, old.metadata)
    persistent_volume_claim(check, new)
    if not _class_moved_from_annotation(new, old):
        new_class = new.metadata.annotations.get(STORAGE_CLASS, "")
        check.unchanged(new_class, old.metadata.annotations.get(STORAGE_CLASS, ""), ANNOTATIONS, STORAGE_CLASS)
    if not same(_with_what_may_change(new, old), old.spec):
        why = "cannot be changed, except the size and the attributes class of a bound claim"
        check.forbidden(SPEC, why=why)
    size, old_size = (claim.spec.resources.requests.get("storage", "0") for claim in (new, old))
    shrinks = quantity.compare(size, old_size) < 0
    if shrinks and quantity.compare(size, old.status.capacity.get("storage", "0")) <= 0:
        check.forbidden(SPEC, "resources", "requests", "storage", why="must be more than status.capacity")
    check.unchanged(new.spec.volume_mode, old.spec.volume_mode, "volumeMode")
    class_name, in_use = new.spec.volume_attributes_class_name, old.status.current_volume_attributes_class_name
    if not class_name and class_name != old.spec.volume_attributes_class_name and in_use is not None:
        check.forbidden(SPEC, "volumeAttributesClassName", why="cannot be taken away")


def _class_moved_from_annotation(new: PersistentVolumeClaim, old: PersistentVolumeClaim) -> bool:
    annotated = old.metadata.annotations.get(STORAGE_CLASS)
    return (
        annotated is not None
        and old.spec.storage_class_name is None
        and new.spec.storage_class_name == annotated
        and new.metadata.annotations.get(STORAGE_CLASS, annotated) == annotated
    )


def _with_what_may_change(new: PersistentVolumeClaim, old: PersistentVolumeClaim) -> PersistentVolumeClaimSpec:
    """The new spec with the old values where a change is allowed."""
    spec = new.spec
    if not old.spec.volume_name:
        spec = msgspec.structs.replace(spec, volume_name=old.spec.volume_name)
    annotated = old.metadata.annotations.get(STORAGE_CLASS)
    if old.spec.storage_class_name is None and annotated in (None, spec.storage_class_name):
        spec = msgspec.structs.replace(spec, storage_class_name=None)
    if new.status.phase == "Bound":
        requests = spec.resources.requests
        if requests:
            requests = requests | {"storage": old.spec.resources.requests.get("storage", "0")}
        resources = msgspec.structs.replace(spec.resources, requests=requests)
        class_name = old.spec.volume_attributes_class_name
        spec = msgspec.structs.replace(spec, resources=resources, volume_attributes_class_name=class_name)
    return spec


# Event


def event(check: Check, value: Event) -> None:
    """Its metadata is looked at only where nothing else was found."""
    event_itself(check, value)
    if not check.errors:
        common_metadata(check, value.metadata, namespaced=True, name=path_segment)


def event_itself(check: Check, value: Event) -> None:
    """Events of v1 are checked lightly, for the sake of old clients (events.go, legacyValidateEvent)."""
    namespace, involved = value.metadata.namespace, value.involved_object.namespace
    if value.event_time is None:
        agrees = namespace == involved if involved else namespace in ("", "default")
    else:
        agrees = bool(involved) or namespace in ("default", "kube-system")
        new_event(check, value)
    if not agrees:
        check.invalid("involvedObject", "namespace", value=involved, why="must be the event's namespace")
    check.format(namespace, dns_subdomain, "namespace")


def new_event(check: Check, value: Event) -> None:
    """An event with eventTime names its reporter and action."""
    check.required(value.reporting_component, "reportingComponent")
    check.format(value.reporting_component, qualified_name, "reportingComponent")
    for field, text in (
        ("reportingInstance", value.reporting_instance),
        ("action", value.action),
        ("reason", value.reason),
    ):
        check.required(text, field)
        if len(text.encode()) > 128:
            check.invalid(field, value="", why="must have at most 128 bytes")
    if len(value.message.encode()) > 1024:
        check.invalid("message", value="", why="must have at most 1024 bytes")


def path_segment(value: str) -> str:
    """Anything that can stand between two slashes of a URL."""
    if value in (".", "..") or "/" in value or "%" in value:
        return "must not be '.' or '..', nor contain '/' or '%'"
    return ""


def event_update(check: Check, new: Event, old: Event) -> None:
    event_itself(check, new)
    common_metadata(check, new.metadata, namespaced=True, name=path_segment)
    object_meta_update(check, new.metadata, old.metadata)


# Namespace


def namespace(check: Check, value: Namespace) -> None:
    object_meta(check, value.metadata, namespaced=False, name=dns_label)
    for finalizer in value.spec.finalizers:
        check.format(finalizer, qualified_name, SPEC, "finalizers")
        standard_finalizer(check, finalizer, SPEC, "finalizers")


def namespace_update(check: Check, new: Namespace, old: Namespace) -> None:
    namespace(check, new)
    object_meta_update(check, new.metadata, old.metadata)
