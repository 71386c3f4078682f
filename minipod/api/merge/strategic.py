"""Strategic merge patches (layer 1, pure): what Kubernetes' strategicpatch makes of an object and a patch.

Source: apimachinery, pkg/util/strategicpatch. Directives: `$patch: replace|delete`, `$retainKeys`,
`$setElementOrder/LIST`, `$deleteFromPrimitiveList/LIST`. Results share what did not change with the arguments, which
are never changed themselves. All raise PatchError with Kubernetes' words.
"""

from __future__ import annotations

from typing import Any

from minipod.api.merge.fields import field_shape, item_shape, list_rule, shape_of_kind
from minipod.api.merge.order import keys_of, ordered
from minipod.api.merge.rules import Rule
from minipod.api.merge.values import (
    Data,
    List,
    as_list,
    as_map,
    distinct,
    element_type,
    index_of,
    key_value,
    same,
    text,
)
from minipod.api.schema import Shape
from minipod.errors import PatchError

PATCH, RETAIN_KEYS = "$patch", "$retainKeys"
SET_ORDER, DELETE_FROM = "$setElementOrder", "$deleteFromPrimitiveList"
REPLACE, DELETE, MERGE = "replace", "delete", "merge"


def strategic(kind: str, current: Data, patch: Data) -> Data:
    """The object after the patch."""
    return _merged_map(shape_of_kind(kind), current, patch)


def _merged_map(shape: Shape, current: Data, patch: Data) -> Data:
    if PATCH in patch:
        return _directed(patch)
    result = _retained(current, patch)
    rest = {key: value for key, value in patch.items() if key != RETAIN_KEYS}
    for directive in [key for key in rest if key.startswith(SET_ORDER)]:
        key = _field(directive, SET_ORDER, "setElementOrder list")
        order = as_list(rest.pop(directive))
        field_shape(shape, key)
        if key in result or key in rest:
            result[key] = _set_order(shape, key, result, rest, order)
            rest.pop(key, None)
    for key, value in rest.items():
        deletion = key.startswith(DELETE_FROM)
        field = _field(key, DELETE_FROM, "primitive list") if deletion else key
        _merge_field(shape, field, result, value, deletion)
    return result


def _directed(patch: Data) -> Data:
    """A map that says by itself what is done with it."""
    directive = patch[PATCH]
    if directive == REPLACE:
        return {key: value for key, value in patch.items() if key != PATCH}
    if directive == DELETE:
        return {}
    raise PatchError(f"unknown patch type: {text(directive)} in map: {text(patch)}", code=500)


def _retained(current: Data, patch: Data) -> Data:
    """What the patch's `$retainKeys` leave of a map: all of it where there is no such directive."""
    if RETAIN_KEYS not in patch:
        return dict(current)
    retained = patch[RETAIN_KEYS]
    written = [
        key
        for key, value in patch.items()
        if value is not None and key != RETAIN_KEYS and not key.startswith((SET_ORDER, DELETE_FROM))
    ]
    if not isinstance(retained, list) or any(key not in retained for key in written):
        raise PatchError("invalid patch format of retainKeys", code=400)
    return {key: value for key, value in current.items() if key in retained}


def _field(directive: str, prefix: str, name: str) -> str:
    """The list that a directive such as `$setElementOrder/ports` is about."""
    found, slash, field = directive.partition("/")
    if found != prefix or not slash:
        raise PatchError(f"invalid patch format of {name}", code=400)
    return field


def _merge_field(shape: Shape, key: str, result: Data, value: Any, deletion: bool) -> None:
    """Sets one field of the result. deletion: the value lists what is taken out of the list that is there."""
    if value is None:
        result.pop(key, None)
        return
    here = result.get(key)
    if type(here) is not type(value):
        if not deletion:
            _set_plain(result, key, value)
    elif isinstance(value, dict):
        result[key] = _merged_map(field_shape(shape, key), as_map(here), value)
    elif isinstance(value, list):
        result[key] = _merged_list(shape, key, as_list(here), value, deletion)
    else:
        result[key] = value


def _set_plain(result: Data, key: str, value: Any) -> None:
    kept, plain = without_directives(value)
    if kept:
        result[key] = plain
    else:
        result.pop(key, None)


def without_directives(value: Any) -> tuple[bool, Any]:
    """(whether anything is left, the value as it is stored where nothing was before: no nulls, no directives)."""
    if isinstance(value, dict):
        if PATCH in value:
            return False, None
        fields = {
            key: without_directives(item)
            for key, item in value.items()
            if item is not None and not key.startswith((RETAIN_KEYS, SET_ORDER, DELETE_FROM))
        }
        return True, {key: item for key, (kept, item) in fields.items() if kept}
    if isinstance(value, list):
        return True, [item for kept, item in map(without_directives, value) if kept]
    return True, value


def _merged_list(shape: Shape, key: str, current: List, patch: List, deletion: bool = False) -> List:
    rule, items = list_rule(shape, key), item_shape(field_shape(shape, key))
    if MERGE not in rule.strategies:
        return patch
    kind = element_type(current, patch)
    if kind is None:
        return current
    if kind is not dict:
        if deletion:
            return [item for item in current if index_of(patch, item) < 0]
        return ordered(distinct(current + patch), patch, current, "")
    if not rule.merge_key:
        raise PatchError("cannot merge lists without merge key for type struct", code=500)
    current, patch = _specials(current, patch, rule.merge_key)
    merged = _merged_items(items, current, patch, rule)
    return ordered(merged, keys_of(patch, rule.merge_key), current, rule.merge_key)


def _specials(current: List, patch: List, merge_key: str) -> tuple[List, List]:
    """(the list that is there, the patch) after what items with `$patch` ask for, and without these."""
    plain = [item for item in patch if PATCH not in item]
    replaced = False
    for item in patch:
        directive = item.get(PATCH)
        if PATCH not in item:
            continue
        if directive == DELETE:
            gone = key_value(item, merge_key)
            current = [here for here in current if not _is(here, merge_key, gone)]
        elif directive == REPLACE:
            replaced = True
        elif directive == MERGE:
            raise PatchError("merging lists cannot yet be specified in the patch", code=500)
        else:
            raise PatchError(f"unknown patch type: {text(directive)} in map: {text(item)}", code=500)
    return (plain, []) if replaced else (current, plain)


def _is(item: Data, merge_key: str, value: Any) -> bool:
    return merge_key in item and index_of([item[merge_key]], value) == 0


def _merged_items(shape: Shape, current: List, patch: List, rule: Rule) -> List:
    """Each item of the patch merged into the first with its key, or added at the end."""
    merged = list(current)
    for item in patch:
        value = key_value(item, rule.merge_key)
        place = next((at for at, here in enumerate(merged) if _is(here, rule.merge_key, value)), -1)
        if place >= 0:
            merged[place] = _merged_map(shape, merged[place], item)
        else:
            merged.append(without_directives(item)[1])
    return merged


def _set_order(shape: Shape, key: str, current: Data, patch: Data, order: List) -> List:
    """The list in a field, merged, in the order that the patch's `$setElementOrder` gives.

    Kubernetes refuses the order of a list that stays empty; here that is no error, for there is nothing to order.
    """
    merge_key = list_rule(shape, key).merge_key
    here = as_list(current[key]) if key in current else []
    wanted = as_list(patch[key]) if key in patch else []
    _check_order(wanted, order, merge_key)
    if key in current and key in patch:
        merged = _merged_list(shape, key, here, wanted)
    else:
        merged = here if key in current else without_directives(wanted)[1]
    element_type(here, wanted)
    return ordered(merged, keys_of(order, merge_key), here, merge_key)


def _check_order(patch: List, order: List, merge_key: str) -> None:
    """The items of the patch come in the order of `$setElementOrder`, which names them all; deletions aside."""
    if not patch or not order:
        return
    kept = [item for item in patch if not merge_key or as_map(item).get(PATCH) != DELETE]
    named = 0
    for item in kept:
        if named < len(order) and isinstance(item, dict) and PATCH in item:
            continue
        while named < len(order) and not same(_key(item, merge_key), _key(order[named], merge_key)):
            named += 1
        if named == len(order):
            lists = f"The order in patch list:\n{text(patch)}\n doesn't match {SET_ORDER} list:\n{text(order)}\n"
            raise PatchError(lists, code=500)
        named += 1


def _key(item: Any, merge_key: str) -> Any:
    return key_value(item, merge_key) if merge_key else item
