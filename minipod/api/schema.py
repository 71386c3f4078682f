"""What the fields of the v1 structs hold, read from their annotations (layer 1, pure): for decoding, tables, explain.

`api.types` is generated and its annotations have few forms (`Int32 | None`, `tuple[Container, ...]`), so they are read
as text: evaluating them, as typing does, takes ten times as long.
"""

from __future__ import annotations

from functools import cache

import msgspec

from minipod.api import types

TEXT, BOOLEAN, INT32, INT64, QUANTITY, TIME, INT_OR_STRING, BYTES, RAW, STRUCT, LIST, MAP = range(12)

_SIMPLE = {
    "str": TEXT,
    "bool": BOOLEAN,
    "Int32": INT32,
    "Int64": INT64,
    "Quantity": QUANTITY,
    "Time": TIME,
    "IntOrString": INT_OR_STRING,
    "bytes": BYTES,
    "Raw": RAW,
}
_LIST, _LIST_END = "tuple[", ", ...]"
_MAP, _MAP_END = "dict[str, ", "]"


class Shape(msgspec.Struct, frozen=True):
    """What a value must look like: `kind`, and the struct, or the shape of the items."""

    kind: int
    struct: type[types.Object] | None = None
    items: Shape | None = None


class Field(msgspec.Struct, frozen=True):
    """A field of a struct: its name in Python, its name on the wire. `kind` is the shape's, for speed."""

    attribute: str
    wire: str
    shape: Shape
    kind: int


@cache
def fields_of(struct: type[types.Object]) -> dict[str, Field]:
    """{wire name: field} of a struct; resolved once, when first needed."""
    annotations = struct.__annotations__
    found = {}
    for attribute, wire in zip(struct.__struct_fields__, struct.__struct_encode_fields__, strict=True):
        shape = _shape(annotations[attribute].removesuffix(" | None"))
        found[wire] = Field(attribute, wire, shape, shape.kind)
    return found


@cache
def _shape(annotation: str) -> Shape:
    if annotation in _SIMPLE:
        return Shape(_SIMPLE[annotation])
    if annotation.startswith(_LIST):
        return Shape(LIST, items=_shape(annotation.removeprefix(_LIST).removesuffix(_LIST_END)))
    if annotation.startswith(_MAP):
        return Shape(MAP, items=_shape(annotation.removeprefix(_MAP).removesuffix(_MAP_END)))
    return Shape(STRUCT, struct=getattr(types, annotation))
