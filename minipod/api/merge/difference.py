"""The patch that leads from one document to another (layer 1, pure), and `apply`'s three-way merge made of two.

Source: apimachinery, strategicpatch: CreateTwoWayMergePatch, CreateThreeWayMergePatch.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from minipod.api.merge.fields import field_shape, item_shape, list_rule, shape_of_kind
from minipod.api.merge.order import keys_of
from minipod.api.merge.rules import Rule
from minipod.api.merge.strategic import DELETE, DELETE_FROM, MERGE, PATCH, RETAIN_KEYS, SET_ORDER, strategic
from minipod.api.merge.values import Data, List, distinct, element_type, index_of, same, text
from minipod.api.schema import Shape
from minipod.errors import PatchError


class _Wanted(NamedTuple):
    """Which differences the patch is made of."""

    deletions: bool = True
    changes: bool = True


def difference(kind: str, before: Data, after: Data) -> Data:
    """A strategic merge patch that makes `after` of `before`. Raises PatchError where they do not fit the schema."""
    return _maps(shape_of_kind(kind), before, after, _Wanted())


def three_way(kind: str, applied: Data, wanted: Data, current: Data) -> Data:
    """`current` with what `wanted` specifies, and without what `applied` specified and `wanted` does not any more.

    What neither manifest mentions stays (kubectl apply). Unlike kubectl, which makes one patch of the two, nothing that
    is wanted is lost: there, one of two ports with the same number takes the other along when it goes.
    Raises PatchError where the documents do not fit the schema.
    """
    shape = shape_of_kind(kind)
    kept = strategic(kind, current, _maps(shape, applied, wanted, _Wanted(changes=False)))
    return strategic(kind, kept, _maps(shape, kept, wanted, _Wanted(deletions=False)))


def _maps(shape: Shape, before: Data, after: Data, wanted: _Wanted, retain: bool = False) -> Data:
    """retain: the map is one whose patch lists the keys that stay."""
    patch: Data = {}
    for key, value in after.items():
        here = before.get(key)
        if key not in before or type(here) is not type(value):
            if wanted.changes:
                patch[key] = value
        elif isinstance(value, dict):
            if inner := _maps(field_shape(shape, key), before[key], value, wanted):
                patch[key] = inner
        elif isinstance(value, list):
            patch |= _lists(shape, key, before[key], value, wanted)
        elif wanted.changes and here != value:
            patch[key] = value
    gone = [key for key in before if key not in after]
    if wanted.deletions:
        patch |= dict.fromkeys(gone)
    kept = sorted(key for key, value in after.items() if value is not None)
    if retain and kept and (patch or any(before[key] is not None for key in gone)):
        patch[RETAIN_KEYS] = kept
    return patch


def _lists(shape: Shape, key: str, before: List, after: List, wanted: _Wanted) -> Data:
    """What the patch says on a list: up to three fields."""
    rule = list_rule(shape, key)
    if MERGE not in rule.strategies:
        return {key: after} if wanted.changes and not same(before, after) else {}
    if not before:
        return {key: after} if after and wanted.changes else {}
    if element_type(before, after) is dict:
        if not rule.merge_key:
            raise PatchError("cannot merge lists without merge key for type struct", code=500)
        return _lists_of_maps(item_shape(field_shape(shape, key)), key, before, after, rule, wanted)
    return _lists_of_scalars(key, before, after, wanted)


def _lists_of_scalars(key: str, before: List, after: List, wanted: _Wanted) -> Data:
    added = [item for item in distinct(after) if index_of(before, item) < 0]
    gone = [item for item in distinct(before) if index_of(after, item) < 0]
    patch: Data = {}
    if wanted.changes and added:
        patch[key] = sorted(added, key=lambda item: index_of(after, item))
    if wanted.deletions and gone:
        patch[f"{DELETE_FROM}/{key}"] = gone
    if after and ((wanted.deletions and gone) or (wanted.changes and not same(before, after))):
        patch[f"{SET_ORDER}/{key}"] = after
    return patch


def _lists_of_maps(shape: Shape, key: str, before: List, after: List, rule: Rule, wanted: _Wanted) -> Data:
    name = rule.merge_key
    before_keys, after_keys = keys_of(before, name), keys_of(after, name)
    changed: List = []
    gone: List = []
    for old, new in _pairs(before, before_keys, after, after_keys):
        if new is None:
            gone.append({name: old[name], PATCH: DELETE})
        elif old is None:
            changed += [new] if wanted.changes else []
        elif inner := _maps(shape, old, new, wanted, "retainKeys" in rule.strategies):
            changed.append({**inner, name: new[name]})
    changed.sort(key=lambda item: index_of(after_keys, item[name]))
    items = changed + (gone if wanted.deletions else [])
    patch: Data = {key: items} if items else {}
    if after and (items or (wanted.changes and not same(before_keys, after_keys))):
        patch[f"{SET_ORDER}/{key}"] = [{name: value} for value in after_keys]
    return patch


def _pairs(before: List, before_keys: List, after: List, after_keys: List) -> list[tuple[Any, Any]]:
    """(old, new) of each key; None where an item has no counterpart. Repeated keys pair up from the end."""
    olds = _by_text(before, before_keys)
    news = _by_text(after, after_keys)
    pairs: list[tuple[Any, Any]] = []
    for name in sorted(olds.keys() | news.keys()):
        old, new = olds.get(name, []), news.get(name, [])
        common = min(len(old), len(new))
        pairs += zip(old[:common], new[:common], strict=True)
        pairs += [(item, None) for item in old[common:]]
        pairs += [(None, item) for item in new[common:]]
    return pairs


def _by_text(items: List, keys: List) -> dict[str, List]:
    found: dict[str, List] = {}
    for item, key in zip(reversed(items), reversed(keys), strict=True):
        found.setdefault(text(key), []).append(item)
    return found
