"""The walk along the schema (layer 1, pure): kind → field → what it holds, and how Kubernetes merges it.

Nothing is guessed by a field's name: the types are `api.types`, the rules for lists are generated from the same
OpenAPI document (`rules.py`, by scripts/generate-types).
"""

from __future__ import annotations

from minipod.api import types
from minipod.api.merge import rules
from minipod.api.schema import LIST, MAP, STRUCT, Shape, fields_of
from minipod.errors import PatchError

_REPLACED = rules.Rule()


def shape_of_kind(kind: str) -> Shape:
    """The shape of an object. Raises PatchError for a kind that is not in the schema."""
    struct = getattr(types, kind, None)
    if not (isinstance(struct, type) and issubclass(struct, types.Object) and "kind" in fields_of(struct)):
        raise PatchError(f"unable to find api type {kind}", code=400)
    return Shape(STRUCT, struct=struct)


def field_shape(shape: Shape, key: str) -> Shape:
    """Of a field of a struct, or of any value of a map. Raises PatchError for a field that Kubernetes does not have."""
    if shape.kind == MAP and shape.items is not None:
        return shape.items
    if shape.kind != STRUCT or shape.struct is None:
        raise PatchError(f"merging an object in json but data type is not struct: {key}", code=500)
    field = fields_of(shape.struct).get(key)
    if field is None:
        raise PatchError(
            f'unable to find api field in struct {shape.struct.__name__} for the json field "{key}"', code=500
        )
    return field.shape


def list_rule(shape: Shape, key: str) -> rules.Rule:
    """How the list in a field is merged."""
    name = shape.struct.__name__ if shape.struct is not None else ""
    return rules.LISTS.get(name, {}).get(key, _REPLACED)


def item_shape(shape: Shape) -> Shape:
    """Of the items of a list."""
    if shape.kind != LIST or shape.items is None:
        raise PatchError("merging a list in json but data type is not slice", code=500)
    return shape.items
