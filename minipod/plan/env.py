"""A container's environment (layer 2, pure): $(VAR) expansion, sources, the downward API's fields and resources.

Rules: third_party/forked/golang/expansion, pkg/kubelet/kubelet_pods.go makeEnvironmentVariables, pkg/fieldpath,
pkg/api/v1/resource/helpers.go. ConfigMaps and Secrets come from an implementation of `Sources`.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import msgspec

from minipod.api import quantity
from minipod.api.types import (
    ConfigMapKeySelector,
    Container,
    EnvFromSource,
    EnvVarSource,
    FileKeySelector,
    ObjectFieldSelector,
    Pod,
    ResourceFieldSelector,
    SecretKeySelector,
)
from minipod.errors import ContainerError
from minipod.plan.configs import HostFacts

CONFIG_ERROR = "CreateContainerConfigError"

# execve(2) refuses a longer string, and more strings than these together (`argument list too long`). So expansion stops
# where either is exceeded: a manifest of a few hundred bytes could expand to gigabytes that no process ever gets.
MAX_STRING = 32 * mmap.PAGESIZE  # MAX_ARG_STRLEN, linux/binfmts.h
MAX_STRINGS = 6 << 20  # three quarters of _STK_LIM, fs/exec.c bprm_stack_limits


class Sources(Protocol):
    """Where ConfigMaps and Secrets of the pod's namespace come from; None where there is no such object."""

    def config_map(self, name: str) -> Mapping[str, str] | None: ...

    def secret(self, name: str) -> Mapping[str, str] | None: ...

    def env_file(self, volume: str, path: str) -> Mapping[str, str] | None:
        """The variables of a file in one of the pod's volumes (`parse_env_file`); None where there is none."""


class NoSources:
    """A host without any ConfigMap or Secret."""

    def config_map(self, name: str) -> Mapping[str, str] | None:
        return None

    def secret(self, name: str) -> Mapping[str, str] | None:
        return None

    def env_file(self, volume: str, path: str) -> Mapping[str, str] | None:
        return None


class PodFacts(msgspec.Struct, frozen=True):
    """What fieldRef and resourceFieldRef see besides the pod itself; `allocatable` is the node's, as quantities."""

    node_name: str
    host_ips: tuple[str, ...]
    pod_ips: tuple[str, ...]
    allocatable: dict[str, str]


def pod_facts(facts: HostFacts, pod_ips: Sequence[str]) -> PodFacts:
    """`pod_ips`: without prefix length, IPv4 first; those of the host for a pod in the host's network."""
    allocatable = {
        "cpu": str(facts.cpus),
        "memory": str(facts.memory_bytes),
        "ephemeral-storage": str(facts.storage_bytes),
    }
    return PodFacts(facts.node_name, facts.node_ips, tuple(pod_ips), allocatable)


# ---- expansion


def expand(text: str, *variables: Mapping[str, str]) -> str:
    """`text` with each `$(NAME)` replaced by the first of `variables` that knows it.

    `$$` is a single `$` (so `$$(NAME)` stays a reference), an unknown name and an unclosed `$(` stay as they are.
    What is longer than MAX_STRING is cut off somewhere beyond it.
    """
    if "$" not in text:
        return text
    result = []
    position = length = 0
    last_end = text.rfind(")")
    while (dollar := text.find("$", position)) >= 0 and dollar + 1 < len(text):
        result.append(text[position:dollar])
        following = text[dollar + 1]
        end = text.find(")", dollar + 2) if following == "(" and dollar < last_end else -1
        if following == "$":
            result.append("$")
            position = dollar + 2
        elif end >= 0:
            result.append(_value_of(text[dollar + 2 : end], variables))
            position = end + 1
        else:
            result.append(text[dollar : dollar + 2])
            position = dollar + 2
        length += len(result[-1]) + len(result[-2])
        if length > MAX_STRING:
            return "".join(result)
    result.append(text[position:])
    return "".join(result)


def _value_of(name: str, variables: Sequence[Mapping[str, str]]) -> str:
    for mapping in variables:
        if name in mapping:
            return mapping[name]
    return f"$({name})"


def expand_all(texts: Sequence[str], variables: Mapping[str, str]) -> tuple[str, ...]:
    """Command and arguments of a container; what comes after MAX_STRINGS is left out."""
    result = []
    length = 0
    for text in texts:
        result.append(expand(text, variables))
        length += len(result[-1])
        if length > MAX_STRINGS:
            break
    return tuple(result)


def expand_sub_path(expression: str, variables: Mapping[str, str]) -> str:
    """volumeMounts[].subPathExpr: every name has to have a value. Raises ContainerError."""
    missing: set[str] = set()

    class Required(dict[str, str]):
        def __contains__(self, name: object) -> bool:
            if not variables.get(str(name)):
                missing.add(str(name))
            return True

        def __getitem__(self, name: str) -> str:
            return variables.get(name, "")

    expanded = expand(expression, Required())
    if missing:
        raise ContainerError(f"missing value for {', '.join(sorted(missing))}", CONFIG_ERROR)
    return expanded


# ---- environment


def environment(pod: Pod, container: Container, facts: PodFacts, sources: Sources | None = None) -> dict[str, str]:
    """The variables that the pod declares for a container, in order of declaration: envFrom, then env over it.

    The image's own variables lie below these and are not seen by `$(NAME)`. What comes after MAX_STRINGS is left out.
    Raises ContainerError with reason CreateContainerConfigError where a source that is not optional is missing.
    """
    result: dict[str, str] = {}
    length = 0
    for name, value in _declared(pod, container, facts, sources or NoSources(), result):
        if "\0" in value:
            raise ContainerError(f"env {name}: a value with a NUL byte cannot be passed to a process", CONFIG_ERROR)
        length += len(value) - len(result.get(name, ""))
        result[name] = value
        if length > MAX_STRINGS:
            break
    return result


def _declared(
    pod: Pod, container: Container, facts: PodFacts, sources: Sources, before: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Names and values in their order; `before`: those that were taken until now."""
    for source in container.env_from:
        yield from _env_from(source, sources).items()
    for variable in container.env:
        value: str | None = variable.value
        if variable.value:
            value = expand(variable.value, before)
        elif variable.value_from is not None:
            value = _from_source(variable.value_from, pod, container, facts, sources)
        if value is not None:
            yield variable.name, value


def _env_from(source: EnvFromSource, sources: Sources) -> dict[str, str]:
    if source.config_map_ref is not None:
        name, optional, kind = source.config_map_ref.name, source.config_map_ref.optional, "configmap"
        data = sources.config_map(name)
    elif source.secret_ref is not None:
        name, optional, kind = source.secret_ref.name, source.secret_ref.optional, "secret"
        data = sources.secret(name)
    else:
        return {}
    if data is None:
        if optional:
            return {}
        raise ContainerError(f'{kind} "{name}" not found', CONFIG_ERROR)
    return {source.prefix + key: value for key, value in data.items()}


def _from_source(source: EnvVarSource, pod: Pod, container: Container, facts: PodFacts, sources: Sources) -> str | None:
    """The value, or None where an optional source is missing and the variable is left out."""
    if source.field_ref is not None:
        return field_value(source.field_ref, pod, facts)
    if source.resource_field_ref is not None:
        return resource_value(source.resource_field_ref, pod, container, facts)
    if source.config_map_key_ref is not None:
        selector = source.config_map_key_ref
        return _key(sources.config_map(selector.name), "ConfigMap", selector, pod.metadata.namespace)
    if source.secret_key_ref is not None:
        secret = source.secret_key_ref
        return _key(sources.secret(secret.name), "Secret", secret, pod.metadata.namespace)
    if source.file_key_ref is not None:
        return _from_file(source.file_key_ref, sources)
    return ""


def _from_file(selector: FileKeySelector, sources: Sources) -> str | None:
    variables = sources.env_file(selector.volume_name, selector.path)
    place = env_file_place(selector.volume_name, selector.path)
    if variables is None:
        if selector.optional:
            return None
        raise ContainerError(f"file {place} not found", CONFIG_ERROR)
    value = variables.get(selector.key, "")
    if value or selector.optional:
        return value or None
    raise ContainerError(f'environment variable key "{selector.key}" not found in file {place}', CONFIG_ERROR)


def _key(
    data: Mapping[str, str] | None, kind: str, wanted: ConfigMapKeySelector | SecretKeySelector, namespace: str
) -> str | None:
    if data is not None and wanted.key in data:
        return data[wanted.key]
    if wanted.optional:
        return None
    if data is None:
        raise ContainerError(f'{kind.lower()} "{wanted.name}" not found', CONFIG_ERROR)
    raise ContainerError(f"couldn't find key {wanted.key} in {kind} {namespace}/{wanted.name}", CONFIG_ERROR)


def env_file_place(volume: str, path: str) -> str:
    return f"{path} in volume {volume}"


def parse_env_file(text: str, place: str) -> dict[str, str]:
    """`NAME='value'` lines; a value may hold newlines, and nothing in it is special (pkg/kubelet/util/env ParseEnv).

    The first of two lines of one name counts. Errors (ContainerError) hold the line's number, never its text.
    """
    found: dict[str, str] = {}
    lines = iter(enumerate(text.split("\n"), 1))
    for number, whole in lines:
        line = whole.removesuffix("\r").lstrip(" \t")
        if not line or line.startswith("#"):
            continue
        name, equals, rest = line.partition("=")
        if not equals or not name or name != name.rstrip(" \t"):
            raise ContainerError(f"file {place}: line {number}: must be NAME='value'", CONFIG_ERROR)
        if rest.startswith((" ", "\t")):
            found.setdefault(name, "")
            continue
        if not rest.startswith("'"):
            raise ContainerError(f"file {place}: line {number}: the value must be in single quotes", CONFIG_ERROR)
        value, quote, after = rest[1:].partition("'")
        while not quote:
            _, more = next(lines, (0, None))
            if more is None:
                raise ContainerError(f"file {place}: line {number}: the quote is not closed", CONFIG_ERROR)
            part, quote, after = more.partition("'")
            value += "\n" + part
        if (after := after.strip(" \t\r")) and not after.startswith("#"):
            raise ContainerError(f"file {place}: line {number}: something follows the closing quote", CONFIG_ERROR)
        found.setdefault(name, value)
    return found


# ---- downward API


def field_value(selector: ObjectFieldSelector, pod: Pod, facts: PodFacts) -> str:
    """What `fieldRef` names. Raises ContainerError for a path that has no value here."""
    path = selector.field_path
    metadata = pod.metadata
    base, _, key = path.removesuffix("']").partition("['") if path.endswith("']") else (path, "", "")
    if key:
        maps = {"metadata.labels": metadata.labels, "metadata.annotations": metadata.annotations}
        if base in maps:
            return maps[base].get(key, "")
    simple = {
        "metadata.name": metadata.name,
        "metadata.namespace": metadata.namespace,
        "metadata.uid": metadata.uid,
        "spec.nodeName": pod.spec.node_name or facts.node_name,
        "spec.host": pod.spec.node_name or facts.node_name,
        "spec.serviceAccountName": pod.spec.service_account_name,
        "status.hostIP": facts.host_ips[0] if facts.host_ips else "",
        "status.hostIPs": ",".join(facts.host_ips),
        "status.podIP": facts.pod_ips[0] if facts.pod_ips else "",
        "status.podIPs": ",".join(facts.pod_ips),
    }
    if path in simple:
        return simple[path]
    if path == "metadata.labels":
        return format_map(metadata.labels)
    if path == "metadata.annotations":
        return format_map(metadata.annotations)
    raise ContainerError(f"unsupported fieldPath: {path}", CONFIG_ERROR)


def format_map(mapping: Mapping[str, str]) -> str:
    """Sorted `key="value"` lines without a last newline, values quoted as Go quotes them."""
    return "\n".join(f"{key}={go_quote(mapping[key])}" for key in sorted(mapping))


_GO_ESCAPES = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
    "\\": "\\\\",
    '"': '\\"',
}


def go_quote(text: str) -> str:
    """strconv.Quote."""
    result = []
    for char in text:
        code = ord(char)
        if char in _GO_ESCAPES:
            result.append(_GO_ESCAPES[char])
        elif char.isprintable():
            result.append(char)
        elif code < 0x80:
            result.append(f"\\x{code:02x}")
        else:
            result.append(f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
    return '"' + "".join(result) + '"'


def resource_value(selector: ResourceFieldSelector, pod: Pod, container: Container, facts: PodFacts) -> str:
    """What `resourceFieldRef` names, divided and rounded up; a limit that is not set is the pod's or the node's."""
    own = container
    limits_defaulted = True
    if selector.container_name:
        own, limits_defaulted = _named(pod, selector.container_name)
    kind, _, name = selector.resource.partition(".")
    known = name in ("cpu", "memory", "ephemeral-storage") or name.startswith("hugepages-")
    if kind not in ("limits", "requests") or not known:
        raise ContainerError(f"unsupported container resource: {selector.resource}", CONFIG_ERROR)
    amount = (own.resources.limits if kind == "limits" else own.resources.requests).get(name, "0")
    if kind == "limits" and limits_defaulted and not quantity.sign(amount):
        amount = _default_limit(name, pod, facts)
    divisor = selector.divisor if selector.divisor and quantity.sign(selector.divisor) else "1"
    number = quantity.millis if name == "cpu" else quantity.value
    return str(-(-number(amount) // number(divisor)))


def _named(pod: Pod, name: str) -> tuple[Container, bool]:
    """The container of that name; the kubelet fills in missing limits for the main containers only."""
    for containers, main in ((pod.spec.containers, True), (pod.spec.init_containers, False)):
        for container in containers:
            if container.name == name:
                return container, main
    raise ContainerError(f"container {name} not found", CONFIG_ERROR)


def _default_limit(name: str, pod: Pod, facts: PodFacts) -> str:
    if pod.spec.resources is not None and name in ("cpu", "memory"):
        own = pod.spec.resources.limits.get(name, "0")
        if quantity.sign(own):
            return own
    return facts.allocatable.get(name, "0")
