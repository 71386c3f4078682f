"""Patches to an object (layer 1, pure): strategic merge, JSON merge and JSON patch, with the API server's errors.

Makes documents only: defaults, validation and what an update may change are the caller's next steps.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

from minipod.errors import PatchError

PatchType = Literal["strategic", "merge", "json"]
PATCH_TYPES: tuple[str, ...] = get_args(PatchType)

#: fields that identify the object: a patch may not change them
_IDENTITY = (("name", "the name on the URL"), ("namespace", "the namespace on the request"))


def patched(kind: str, current: dict[str, Any], patch: Any, type: PatchType) -> dict[str, Any]:
    """The object after the patch, as plain data; `current` and `patch` stay as they are.

    current: the object as JSON has it (complete, as `get -o json` shows it). patch: decoded JSON.
    Raises PatchError; its `code` is the HTTP status that an API server answers with.
    """
    try:
        result = _patched(kind, current, patch, type)
    except RecursionError:
        raise PatchError("patch: nested too deeply", code=400) from None
    return _same_object(current, result)


def _patched(kind: str, current: dict[str, Any], patch: Any, type: PatchType) -> dict[str, Any]:
    from minipod.api.merge.values import type_name

    if type == "json":
        from minipod.api.merge.json_patch import json_patch

        if not isinstance(patch, list):
            raise _undecodable("error decoding patch: ", patch, "[]handlers.jsonPatchOp")
        for operation in patch:
            if not isinstance(operation, dict):
                raise _undecodable("error decoding patch: ", operation, "handlers.jsonPatchOp")
        return json_patch(current, patch)
    if not isinstance(patch, dict):
        raise _undecodable("" if type == "strategic" else "error decoding patch: ", patch, type_name({}))
    if type == "merge":
        from minipod.api.merge.json_merge import json_merge

        merged: dict[str, Any] = json_merge(current, patch)
        return merged
    from minipod.api.merge.strategic import strategic

    return strategic(kind, current, patch)


_JSON_NAMES = {dict: "object", list: "array", str: "string", bool: "bool", type(None): "null"}


def _undecodable(prefix: str, value: Any, wanted: str) -> PatchError:
    name = _JSON_NAMES.get(value.__class__, "number")
    return PatchError(f"{prefix}json: cannot unmarshal {name} into Go value of type {wanted}", code=400)


def _same_object(current: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    """The result. Raises PatchError where it would be another object."""
    for name in ("apiVersion", "kind"):
        if result.get(name) != current.get(name):
            raise PatchError(f"patch: {name} cannot be changed", code=400)
    metadata = result.get("metadata")
    if not isinstance(metadata, dict):
        raise PatchError("patch: metadata must stay an object", code=400)
    here = current.get("metadata", {})
    for name, place in _IDENTITY:
        if metadata.get(name) != here.get(name):
            field = f"the {name} of the object ({metadata.get(name, '')})"
            raise PatchError(f"{field} does not match {place} ({here.get(name, '')})", code=400)
    return result
