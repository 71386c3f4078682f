"""Changes of a pod's containers by words (layer 6, pure): what `minipod set image`, `env` and `resources` do."""

from __future__ import annotations

import copy
import fnmatch
import re

from minipod.cli.values import Object
from minipod.errors import ConflictError, NotFoundError, UsageError

_ENV_NAME = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")
_BOTH = ("containers", "initContainers")


def containers_of(pod: Object, pattern: str = "*") -> list[Object]:
    """Those whose names match; init containers last, as kubectl takes them."""
    spec = pod.get("spec") or {}
    every = [container for key in _BOTH for container in spec.get(key) or []]
    return [container for container in every if fnmatch.fnmatchcase(str(container.get("name")), pattern)]


def with_images(pod: Object, images: dict[str, str]) -> Object:
    """`images`: by container; `*` is all of them. Raises NotFoundError."""
    changed = copy.deepcopy(pod)
    for name, image in images.items():
        found = [each for each in containers_of(changed) if name in ("*", each.get("name"))]
        if not found:
            raise NotFoundError(f'unable to find container named "{name}"')
        for container in found:
            container["image"] = image
    return changed


def with_env(
    pod: Object, pattern: str, variables: list[Object], removed: list[str], *, overwrite: bool = True
) -> Object:
    """`variables`: v1 EnvVars. Raises ConflictError for a value that is there, unless it may be overwritten."""
    changed = copy.deepcopy(pod)
    for container in containers_of(changed, pattern):
        present: list[Object] = container.get("env") or []
        named = {entry["name"]: entry for entry in present}
        if not overwrite:
            for each in variables:
                old = named.get(each["name"])
                if old is not None and old != each:
                    raise ConflictError(
                        f"'{each['name']}' already has a value ({old.get('value', '')}), and --overwrite is false"
                    )
        new = {each["name"]: each for each in variables}
        kept = [new.pop(entry["name"], entry) for entry in present if entry["name"] not in removed]
        env = kept + list(new.values())
        if env or "env" in container:
            container["env"] = env
    return changed


def with_resources(pod: Object, pattern: str, limits: Object, requests: Object) -> Object:
    """The quantities of the named resources; others stay."""
    changed = copy.deepcopy(pod)
    for container in containers_of(changed, pattern):
        resources = container.setdefault("resources", {})
        for key, values in (("limits", limits), ("requests", requests)):
            if values:
                resources[key] = {**(resources.get(key) or {}), **values}
    return changed


def quantities(text: str, option: str) -> Object:
    """`cpu=1,memory=2Gi`. Raises UsageError."""
    from minipod.api.quantity import parse

    found: Object = {}
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        if not equals or not name:
            raise UsageError(f"{option}: invalid argument syntax {part}, expected <resource>=<value>")
        try:
            parse(value)
        except ValueError as error:
            raise UsageError(f"{option}: {part}: {error}") from None
        found[name] = value
    return found


def variable(word: str) -> Object:
    """`KEY=VALUE` as an EnvVar. Raises UsageError."""
    name, _, value = word.partition("=")
    if not _ENV_NAME.fullmatch(name):
        raise UsageError(
            f"\"{name}\" is not a valid key name: use letters, digits, '_', '-' and '.', and no digit at the beginning"
        )
    return {"name": name, "value": value}


def variables_from(thing: Object, keys: list[str], prefix: str) -> list[Object]:
    """One EnvVar for each key of a ConfigMap or Secret, or of those in `keys`; its name is the key in capitals."""
    kind = "configMapKeyRef" if thing["kind"] == "ConfigMap" else "secretKeyRef"
    data = sorted(thing.get("data") or {})
    if missing := sorted(set(keys) - set(data)):
        raise NotFoundError(f"{thing['kind']} {thing['metadata']['name']} has no key {', '.join(missing)}")
    return [
        {
            "name": prefix + re.sub(r"[^a-zA-Z0-9_]", "_", key).upper(),
            "valueFrom": {kind: {"key": key, "name": thing["metadata"]["name"]}},
        }
        for key in data
        if not keys or key in keys
    ]


def env_lines(pod: Object, pattern: str) -> list[str]:
    """What `set env --list` prints."""
    lines: list[str] = []
    for container in containers_of(pod, pattern):
        lines.append(f"# Pod {pod['metadata']['name']}, container {container['name']}")
        for entry in container.get("env") or []:
            source = entry.get("valueFrom")
            lines.append(
                f"# {entry['name']} from {_source(source)}" if source else f"{entry['name']}={entry.get('value', '')}"
            )
    return lines


def _source(source: Object) -> str:
    if "fieldRef" in source:
        return f"field path {source['fieldRef']['fieldPath']}"
    if "resourceFieldRef" in source:
        reference = source["resourceFieldRef"]
        return f"resource field {reference.get('containerName', '')}.{reference['resource']}".replace(" .", " ")
    for key, what in (("configMapKeyRef", "configmap"), ("secretKeyRef", "secret")):
        if key in source:
            return f"{what} {source[key]['name']}, key {source[key]['key']}"
    return "an unknown source"
