"""The order of a merged list (layer 1, pure): the patch's items as the patch has them, the others where they stood.

Kubernetes' rule (apimachinery, strategicpatch: normalizeElementOrder): the relative order of the items that a patch
names is the patch's, the relative order of all others is the one they had; an unnamed item comes before the first
named one that stood behind it.
"""

from __future__ import annotations

from typing import Any

from minipod.api.merge.values import List, index_of, key_value


def keys_of(items: List, merge_key: str) -> List:
    """What identifies the items: themselves, or the value of their merge key."""
    return [key_value(item, merge_key) for item in items] if merge_key else items


def ordered(merged: List, named: List, before: List, merge_key: str) -> List:
    """The merged items. named: keys or items of the patch, in its order. before: the list as it was."""
    before_keys = keys_of(before, merge_key)
    ours: list[tuple[int, Any]] = []
    others: list[tuple[int, Any]] = []
    for item, key in zip(merged, keys_of(merged, merge_key), strict=True):
        place = index_of(named, key)
        if place >= 0:
            ours.append((place, item))
        else:
            others.append((index_of(before_keys, key), item))
    left = [item for _, item in sorted(others, key=_place)]
    right = [item for _, item in sorted(ours, key=_place)]
    return _interleaved(left, right, before_keys, merge_key)


def _place(pair: tuple[int, Any]) -> int:
    return pair[0]


def _interleaved(left: List, right: List, before: List, merge_key: str) -> List:
    left_places = [index_of(before, key) for key in keys_of(left, merge_key)]
    right_places = [index_of(before, key) for key in keys_of(right, merge_key)]
    result: List = []
    taken = 0
    for item, place in zip(right, right_places, strict=True):
        while taken < len(left) and left_places[taken] < place:
            result.append(left[taken])
            taken += 1
        result.append(item)
    return result + left[taken:]
