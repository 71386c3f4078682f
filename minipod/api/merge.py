"""The three-way merge of `apply` (layer 1, pure): what was applied last, what is applied now, what there is.

Works on plain data as JSON has it. Maps are merged key by key, lists are replaced whole.
"""

from __future__ import annotations

from typing import Any

Data = dict[str, Any]

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
        else:
            result[key] = value
    return result


def without_server_fields(manifest: Data) -> Data:
    """A manifest without its status and what creation writes into metadata."""
    metadata = {key: value for key, value in manifest.get("metadata", {}).items() if key not in _NOT_APPLIED}
    return {**{key: value for key, value in manifest.items() if key != "status"}, "metadata": metadata}
