"""What the validation tests share: a small valid pod, and changes to it by path."""

from __future__ import annotations

import copy
import json
from typing import Any

from minipod.api import types
from minipod.api.defaults import defaulted
from minipod.api.load import Document, load
from minipod.api.validation import validate

Object = dict[str, Any]

POD: Object = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web", "namespace": "default"},
    "spec": {
        "containers": [{"name": "app", "image": "busybox"}],
        "initContainers": [{"name": "setup", "image": "busybox"}],
        "volumes": [{"name": "data", "emptyDir": {}}, {"name": "disk", "persistentVolumeClaim": {"claimName": "c"}}],
    },
}


def changed(base: Object, changes: Object) -> Object:
    """A copy of `base` with `{"spec.containers.0.name": value}` set; None takes the field away."""
    result = copy.deepcopy(base)
    for path, value in changes.items():
        *steps, last = path.split(".")
        place: Any = result
        for step in steps:
            place = place[int(step)] if isinstance(place, list) else place.setdefault(step, {})
        if isinstance(place, list):
            place.insert(int(last), value)
        elif value is None:
            place.pop(last, None)
        else:
            place[last] = value
    return result


def document(manifest: Object) -> Document:
    (loaded,) = load(json.dumps(manifest))
    assert not loaded.errors, loaded.errors
    return loaded


def stored(manifest: Object) -> Any:
    """The object as the server would store it; not validated."""
    return defaulted(document(manifest).object)


def findings(manifest: Object) -> list[tuple[str, str]]:
    """(field, type without FieldValue) of everything found, sorted."""
    loaded = document(manifest)
    found = validate(defaulted(loaded.object), loaded.written_empty)
    return sorted({(error.field, error.type.removeprefix("FieldValue")) for error in found})


def pod_findings(changes: Object) -> list[tuple[str, str]]:
    return findings(changed(POD, changes))


def pod(changes: Object | None = None) -> types.Pod:
    made = stored(changed(POD, changes or {}))
    assert isinstance(made, types.Pod)
    return made
