"""Rules for a container's environment: env, envFrom, and what both refer to (layer 1, pure)."""

from __future__ import annotations

from minipod.api import quantity
from minipod.api.types import (
    ConfigMapEnvSource,
    ConfigMapKeySelector,
    EnvFromSource,
    EnvVar,
    EnvVarSource,
    FileKeySelector,
    ObjectFieldSelector,
    PodSpec,
    ResourceFieldSelector,
    SecretEnvSource,
    SecretKeySelector,
)
from minipod.api.validation.check import Check, Path
from minipod.api.validation.formats import (
    annotation_key,
    config_key,
    dns_label,
    dns_subdomain,
    dns_subdomain_prefix,
    env_name,
    no_backsteps,
    qualified_name,
)
from minipod.api.validation.visit import every_container

ENV_FIELDS = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)
VOLUME_FIELDS = ("metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid")

_DOWNWARD_FIELDS = frozenset((*ENV_FIELDS, *VOLUME_FIELDS, "spec.restartPolicy", "spec.schedulerName", "status.phase"))
"""What a fieldPath may name at all; only some of it can be had in an env, or in a volume."""

RESOURCES = (
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
)
_HUGE_PAGES = ("limits.hugepages-", "requests.hugepages-")

_CPU_DIVISORS = ("1m", "1")
_BYTE_DIVISORS = ("1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei")


def env(check: Check, variables: tuple[EnvVar, ...], path: Path) -> None:
    for index, variable in enumerate(variables):
        check.named(variable.name, env_name, path, index, "name", why="give the variable a name")
        if variable.value_from is not None:
            value_from(check, variable.value_from, variable.value, (path, index, "valueFrom"))


def value_from(check: Check, source: EnvVarSource, value: str, path: Path) -> None:
    if source.field_ref is not None:
        field_selector(check, source.field_ref, ENV_FIELDS, (path, "fieldRef"))
    if source.resource_field_ref is not None:
        resource_selector(check, source.resource_field_ref, (path, "resourceFieldRef"), container_required=False)
    if source.config_map_key_ref is not None:
        key_selector(check, source.config_map_key_ref, (path, "configMapKeyRef"))
    if source.secret_key_ref is not None:
        key_selector(check, source.secret_key_ref, (path, "secretKeyRef"))
    if source.file_key_ref is not None:
        file_key_selector(check, source.file_key_ref, (path, "fileKeyRef"))

    references = (
        source.field_ref,
        source.resource_field_ref,
        source.config_map_key_ref,
        source.secret_key_ref,
        source.file_key_ref,
    )
    count = len(references) - references.count(None)
    if count == 0:
        why = "must have one of fieldRef, resourceFieldRef, configMapKeyRef, secretKeyRef, fileKeyRef"
        check.invalid(path, value="", why=why)
    elif value:
        check.invalid(path, value="", why="cannot be given together with value")
    elif count > 1:
        check.invalid(path, value="", why="must have one source only")


def env_from(check: Check, sources: tuple[EnvFromSource, ...], path: Path) -> None:
    for index, source in enumerate(sources):
        if source.prefix:
            check.format(source.prefix, env_name, path, index, "prefix")
        if source.config_map_ref is not None:
            whole_source(check, source.config_map_ref, path, index, "configMapRef")
        if source.secret_ref is not None:
            whole_source(check, source.secret_ref, path, index, "secretRef")
        # The server reports these two at the list, not at the entry.
        if source.config_map_ref is None and source.secret_ref is None:
            check.invalid(path, value="", why=f"entry {index} must have configMapRef or secretRef")
        elif source.config_map_ref is not None and source.secret_ref is not None:
            check.invalid(path, value="", why=f"entry {index} must have one source only")


def whole_source(check: Check, source: ConfigMapEnvSource | SecretEnvSource, *path: object) -> None:
    check.named(source.name, dns_subdomain_prefix, *path, "name")


def key_selector(check: Check, selector: ConfigMapKeySelector | SecretKeySelector, path: Path) -> None:
    check.format(selector.name, dns_subdomain, path, "name")
    check.named(selector.key, config_key, path, "key")


def file_key_selector(check: Check, selector: FileKeySelector, path: Path) -> None:
    check.named(selector.key, env_name, path, "key")
    check.named(selector.volume_name, dns_label, path, "volumeName")
    check.named(selector.path, no_backsteps, path, "path")


def field_selector(check: Check, selector: ObjectFieldSelector, allowed: tuple[str, ...], path: Path) -> None:
    """`metadata.name`, or one label or annotation: `metadata.labels['app']`."""
    if not check.required(selector.api_version, path, "apiVersion"):
        return
    if not check.required(selector.field_path, path, "fieldPath"):
        return
    field, key = split_subscript(selector.field_path)
    if selector.api_version != "v1":
        check.invalid(path, "fieldPath", value=selector.field_path, why="apiVersion must be v1")
    elif key is not None and field == "metadata.annotations":
        check.format(key, annotation_key, path)
    elif key is not None and field == "metadata.labels":
        check.format(key, qualified_name, path)
    elif key is not None:
        check.invalid(path, "fieldPath", value=selector.field_path, why="only labels and annotations have keys")
    elif field != "spec.host" and field not in _DOWNWARD_FIELDS:
        supported = ", ".join(allowed)
        check.invalid(path, "fieldPath", value=selector.field_path, why=f"no such field; supported are {supported}")
    else:
        # spec.host is spec.nodeName to old clients
        check.one_of("spec.nodeName" if field == "spec.host" else field, allowed, path, "fieldPath")


def split_subscript(field_path: str) -> tuple[str, str | None]:
    """`metadata.labels['app']` -> ("metadata.labels", "app"); without a subscript (field_path, None)."""
    field, bracket, key = field_path.partition("['")
    if not field or not bracket or not key.endswith("']"):
        return field_path, None
    return field, key[:-2]


def resource_selector(check: Check, selector: ResourceFieldSelector, path: Path, *, container_required: bool) -> None:
    resource = selector.resource
    if container_required and not selector.container_name:
        check.missing(path, "containerName")
    elif check.required(resource, path, "resource") and not resource.startswith(_HUGE_PAGES):
        check.one_of(resource, RESOURCES, path, "resource")
    divisor(check, resource, selector.divisor, path)


def divisor(check: Check, resource: str, value: str, path: Path) -> None:
    if quantity.sign(value) == 0:
        return
    if resource in ("limits.cpu", "requests.cpu"):
        allowed: tuple[str, ...] = _CPU_DIVISORS
    elif resource in RESOURCES or resource.startswith(_HUGE_PAGES):
        allowed = _BYTE_DIVISORS
    else:
        return
    if quantity.canonical(value) not in allowed:
        check.invalid(path, "divisor", value=value, why=f"must be one of {', '.join(allowed)}")


def file_key_volumes(check: Check, spec: PodSpec, path: Path) -> None:
    """What fileKeyRef reads from is an emptyDir of this pod."""
    volumes = {volume.name: volume for volume in spec.volumes}
    for container, at in every_container(spec, path):
        for index, variable in enumerate(container.env):
            if variable.value_from is None or variable.value_from.file_key_ref is None:
                continue
            name = variable.value_from.file_key_ref.volume_name
            field = (at, "env", index, "valueFrom", "fileKeyRef", "volumeName")
            if name not in volumes:
                check.not_found(field, value=name)
            elif volumes[name].empty_dir is None:
                check.invalid(field, value=name, why="must be a volume of type emptyDir")
