"""Comparing objects, and reading structs out of annotations, as Kubernetes does both (layer 1, pure)."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from minipod.api import quantity

S = TypeVar("S", bound=msgspec.Struct)


def same(a: Any, b: Any) -> bool:
    """Equal in meaning: quantities as numbers, whatever their format (apiequality.Semantic.DeepEqual)."""
    if a == b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, msgspec.Struct):
        return all(_same_field(a, b, name) for name in a.__struct_fields__)
    return False


def _same_field(a: msgspec.Struct, b: msgspec.Struct, name: str) -> bool:
    left, right = getattr(a, name), getattr(b, name)
    if left == right or "Quantity" not in str(type(a).__annotations__[name]):
        return same(left, right)
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(quantity.equal(left[key], right[key]) for key in left)
    return isinstance(left, str) and isinstance(right, str) and quantity.equal(left, right)


def structs_in_json(text: str, struct: type[S]) -> tuple[S, ...]:
    """A JSON list as Go reads it: field names in any case, unknown ones ignored. Raises msgspec.ValidationError."""
    try:
        entries = msgspec.json.decode(text, type=tuple[dict[str, Any], ...] | None) or ()
    except msgspec.DecodeError as error:
        raise msgspec.ValidationError(str(error)) from None
    names = {name.lower(): name for name in struct.__struct_encode_fields__}
    plain = [
        {names[name.lower()]: value for name, value in entry.items() if name.lower() in names and value is not None}
        for entry in entries
    ]
    return msgspec.convert(plain, tuple[struct, ...])  # type: ignore[valid-type]  # a type made at run time
