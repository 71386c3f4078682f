"""JSON values as Kubernetes' patches compare and print them (layer 1, pure)."""

from __future__ import annotations

from typing import Any

from minipod.errors import PatchError

Data = dict[str, Any]
List = list[Any]


def same(left: Any, right: Any) -> bool:
    """Deeply equal, types included: 1 is neither True nor 1.0 (Go's reflect.DeepEqual)."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(value, right[key]) for key, value in left.items())
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)


def equal(left: Any, right: Any) -> bool:
    """Deeply equal as JSON is: 1 is 1.0, but not true."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(equal(value, right[key]) for key, value in left.items())
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(equal, left, right))
    return isinstance(left, bool) == isinstance(right, bool) and bool(left == right)


def index_of(items: List, value: Any) -> int:
    """Of the first item that is the same; -1 where there is none."""
    return next((index for index, item in enumerate(items) if same(item, value)), -1)


def distinct(items: List) -> List:
    """Each value once. A repetition is filled with the last item, as Kubernetes does it; the caller sorts anyway."""
    found = list(items)
    first = 0
    while first < len(found):
        second = first + 1
        while second < len(found):
            if same(found[first], found[second]):
                found[second] = found[-1]
                found.pop()
            else:
                second += 1
        first += 1
    return found


def text(value: Any) -> str:
    """As Go's %v prints it: `map[name:web ports:[80]]`."""
    match value:
        case None:
            return "<nil>"
        case bool():
            return str(value).lower()
        case dict():
            return f"map[{' '.join(f'{key}:{text(value[key])}' for key in sorted(value))}]"
        case list():
            return f"[{' '.join(map(text, value))}]"
    return str(value)


_TYPES = {dict: "map[string]interface {}", list: "[]interface {}", str: "string", bool: "bool", int: "int64"}


def type_name(value: Any) -> str:
    """Of a JSON value in Go, as Kubernetes' messages name it."""
    return "%!s(<nil>)" if value is None else _TYPES.get(type(value), "float64")


def wrong_type(expected: type, value: Any) -> PatchError:
    return PatchError(f"expected a {_TYPES[expected]}, but received a {type_name(value)}", code=500)


def as_map(value: Any) -> Data:
    if not isinstance(value, dict):
        raise wrong_type(dict, value)
    return value


def as_list(value: Any) -> List:
    if not isinstance(value, list):
        raise wrong_type(list, value)
    return value


def element_type(*lists: List) -> type | None:
    """The one type of all items; None where there are no items. Raises PatchError where they differ or are lists."""
    types = [type(item) for items in lists for item in items]
    if types[:1] == [list]:
        raise PatchError("lists of lists are not supported", code=422)
    if len(set(types)) > 1:
        raise PatchError(f"list element types are not identical: {text(list(lists))}", code=500)
    return types[0] if types else None


def key_value(item: Any, key: str) -> Any:
    """The merge key's value, which identifies an item. Raises PatchError where the item has no such field."""
    item = as_map(item)
    if key not in item:
        raise PatchError(f"map: {text(item)} does not contain declared merge key: {key}", code=500)
    return item[key]
