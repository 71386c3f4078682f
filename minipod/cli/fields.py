"""The fields of objects by their paths (layer 6): `pod.spec.containers`, for explain and completion. Prints nothing."""

from __future__ import annotations

from minipod.cli.values import TYPE_CHECKING
from minipod.errors import UsageError

if TYPE_CHECKING:
    from minipod.api.kinds import Kind
    from minipod.api.schema import Field, Shape
    from minipod.api.types import Object


def fields_at(path: str) -> list[tuple[str, str]]:
    """The fields below a path, with their types, by name. Raises UsageError for a path that there is not."""
    from minipod.api.schema import fields_of

    struct: type[Object] | None = kind_at(path).struct
    for name in path.split(".")[1:]:
        struct = struct_in(field_of(struct, name, path).shape) if struct is not None else None
    found = fields_of(struct) if struct is not None else {}
    return [(wire, type_text(field.shape)) for wire, field in sorted(found.items())]


def kind_at(path: str) -> Kind:
    """The kind that a path begins with, by any of its names. Raises UsageError."""
    from minipod.api.kinds import ALL_KINDS, kind_of_word

    word = path.partition(".")[0]
    kind = kind_of_word(word)
    if kind is None:
        known = ", ".join(kind.name for kind in ALL_KINDS)
        raise UsageError(f'explain: there is no kind "{word}"; there are {known}')
    return kind


def field_of(struct: type[Object], name: str, path: str) -> Field:
    from minipod.api.schema import fields_of
    from minipod.api.suggest import suggestion

    fields = fields_of(struct)
    if name not in fields:
        hint = suggestion(struct, name, ())
        raise UsageError(f'explain: {path}: {struct.__name__} has no field "{name}"' + (f"; {hint}" if hint else ""))
    return fields[name]


def struct_in(shape: Shape) -> type[Object] | None:
    while shape.items is not None:
        shape = shape.items
    return shape.struct


def type_text(shape: Shape) -> str:
    """kubectl's words: []Container, map[string]string, integer."""
    from minipod.api import schema

    if shape.kind == schema.LIST and shape.items is not None:
        return f"[]{type_text(shape.items)}"
    if shape.kind == schema.MAP and shape.items is not None:
        return f"map[string]{type_text(shape.items)}"
    if shape.struct is not None:
        return shape.struct.__name__
    return {
        schema.TEXT: "string",
        schema.BOOLEAN: "boolean",
        schema.INT32: "integer",
        schema.INT64: "integer",
        schema.QUANTITY: "Quantity",
        schema.TIME: "Time",
        schema.INT_OR_STRING: "IntOrString",
        schema.BYTES: "base64",
    }.get(shape.kind, "Object")
