"""JSON merge patches (RFC 7386) (layer 1, pure): maps are merged, null removes, everything else is replaced."""

from __future__ import annotations

from typing import Any

from minipod.api.merge.values import Data


def json_merge(current: Any, patch: Any) -> Any:
    """The document after the patch; shares with the arguments what did not change.

    Beyond the RFC, as Kubernetes does it: nulls are also left out of maps that stand in lists.
    """
    if isinstance(patch, list):
        return [json_merge(None, item) for item in patch]
    if not isinstance(patch, dict):
        return patch
    result: Data = dict(current) if isinstance(current, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = json_merge(result.get(key), value)
    return result
