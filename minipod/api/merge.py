"""The three-way merge of `apply` (layer 1, pure): what was applied last, what is applied now, what there is.

Works on plain data as JSON has it. Maps are merged key by key, lists whose items have a key of their own item by item
(the patchMergeKey of k8s.io/api/core/v1/types.go), all other lists are replaced whole.
"""

from __future__ import annotations

from typing import Any

Data = dict[str, Any]

#: list -> the field that tells its items apart
_MERGE_KEYS = {
    **dict.fromkeys(("containers", "initContainers", "ephemeralContainers", "volumes", "env"), "name"),
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "ports": "containerPort",
    "hostAliases": "ip",
    "imagePullSecrets": "name",
}

#: said by the server or by nobody; a manifest that was read from `get -o yaml` brings them along
_NOT_APPLIED = ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields", "selfLink")


def three_way(applied: Data, wanted: Data, current: Data) -> Data:
    """`current` with what `wanted` says, and without what `applied` said and `wanted` does not say any more.

    What others wrote, and neither manifest speaks of, stays (kubectl apply).
    """
    result = dict(current)
    for key in applied:
        if key not in wanted:
            result.pop(key, None)
    for key, value in wanted.items():
        here, before = current.get(key), applied.get(key)
        if isinstance(value, dict):
            nested = here if isinstance(here, dict) else {}
            result[key] = three_way(before if isinstance(before, dict) else {}, value, nested)
        elif key in _MERGE_KEYS and isinstance(value, list) and isinstance(here, list):
            result[key] = _merged_list(_MERGE_KEYS[key], before if isinstance(before, list) else [], value, here)
        else:
            result[key] = value
    return result


def _merged_list(name: str, applied: list[Data], wanted: list[Data], current: list[Data]) -> list[Data]:
    """The items that are wanted, in their order, each merged with its namesake; then those that others added."""
    before = {item.get(name): item for item in applied}
    here = {item.get(name): item for item in current}
    merged = [three_way(before.get(item.get(name), {}), item, here.get(item.get(name), {})) for item in wanted]
    known = {item.get(name) for item in wanted} | before.keys()
    return merged + [item for item in current if item.get(name) not in known]


def without_server_fields(manifest: Data) -> Data:
    """A manifest without its status and what creation writes into metadata."""
    metadata = {key: value for key, value in manifest.get("metadata", {}).items() if key not in _NOT_APPLIED}
    return {**{key: value for key, value in manifest.items() if key != "status"}, "metadata": metadata}
