"""`minipod explain` (layer 6): a field's type, values and default, and what minipod does with it. Needs no agent."""

from __future__ import annotations

import argparse

from minipod.cli.values import TYPE_CHECKING
from minipod.errors import UsageError

if TYPE_CHECKING:
    from minipod.api.schema import Field, Shape
    from minipod.api.types import Object


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "Describe an object's fields: type, values, default, and whether minipod supports them."
    parser.add_argument("field", metavar="KIND[.FIELD…]", help="for example pod.spec.containers.ports")
    parser.add_argument("-R", "--recursive", action="store_true", help="list the fields of the fields too")
    parser.add_argument("--api-version", metavar="V", help="v1, the only one: another is an error")
    parser.add_argument("-o", "--output", metavar="FORMAT", help="plaintext, the only one: another is an error")


def run(args: argparse.Namespace) -> int:
    if args.api_version not in (None, "v1"):
        raise UsageError(f"explain: there is no version {args.api_version} here; there is v1")
    if args.output not in (None, "plaintext"):
        raise UsageError(f"explain: -o {args.output}: there is plaintext")
    print("\n".join(explained(args.field, args.recursive)))
    return 0


def explained(path: str, recursive: bool = False) -> list[str]:
    """The lines of the answer. Raises UsageError for what there is not."""
    from minipod.api.kinds import ALL_KINDS, kind_named

    first, *names = [part.partition("[")[0] for part in path.split(".") if part.partition("[")[0]] or [""]
    kind = _kind(first, [known.name for known in ALL_KINDS])
    struct: type[Object] | None = kind_named(kind).struct
    owner = ""
    field: Field | None = None
    for name in names:
        if struct is None:
            raise UsageError(f'explain: {path}: there is nothing below the field before "{name}"')
        owner, field = struct.__name__, _field(struct, name, path)
        struct = _struct_in(field.shape)
    lines = [f"KIND:       {kind}", "VERSION:    v1", ""]
    if field is not None:
        lines += [f"FIELD: {field.wire} <{_type(field.shape)}>", *_about(owner, field), ""]
    else:
        lines += [*_words(kind_named(kind).struct.__doc__ or ""), ""]
    if struct is not None:
        lines += ["FIELDS:", *_listing(struct, recursive, "  ", (struct,))]
    return [line.rstrip() for line in lines]


def _kind(word: str, known: list[str]) -> str:
    from minipod.api.kinds import kind_of_word

    kind = kind_of_word(word)
    if kind is None:
        raise UsageError(f'explain: there is no kind "{word}"; there are {", ".join(known)}')
    return kind.name


def _field(struct: type[Object], name: str, path: str) -> Field:
    from minipod.api.schema import fields_of
    from minipod.api.suggest import suggestion

    fields = fields_of(struct)
    if name not in fields:
        hint = suggestion(struct, name, ())
        raise UsageError(f'explain: {path}: {struct.__name__} has no field "{name}"' + (f"; {hint}" if hint else ""))
    return fields[name]


def _struct_in(shape: Shape) -> type[Object] | None:
    while shape.items is not None:
        shape = shape.items
    return shape.struct


def _type(shape: Shape) -> str:
    """kubectl's words: []Container, map[string]string, integer."""
    from minipod.api import schema

    if shape.kind == schema.LIST and shape.items is not None:
        return f"[]{_type(shape.items)}"
    if shape.kind == schema.MAP and shape.items is not None:
        return f"map[string]{_type(shape.items)}"
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


def _about(owner: str, field: Field) -> list[str]:
    """Words, values, default and support of one field."""
    from minipod.api.words import DEFAULTS, VALUES, WORDS

    key = f"{_alias(owner)}.{field.wire}"
    lines = _words(WORDS.get(key, ""))
    if key in VALUES:
        lines.append(f"    VALUES:  {VALUES[key]}")
    if key in DEFAULTS:
        lines.append(f"    DEFAULT: {DEFAULTS[key]}")
    return [*lines, *_support(owner, field.wire)]


def _alias(struct: str) -> str:
    return "Container" if struct == "EphemeralContainer" else struct


def _support(owner: str, wire: str) -> list[str]:
    from minipod.api.support import rows_of

    row = rows_of(_alias(owner)).get(wire)
    if row is None:
        return []
    level = f"{row.level} for some values" if row.when or row.fine else row.level
    return [f"    MINIPOD: {level}" + (f": {row.note}" if row.note else "")]


def _words(text: str) -> list[str]:
    import textwrap

    return textwrap.wrap(text, 100, initial_indent="    ", subsequent_indent="    ")


def _listing(struct: type[Object], recursive: bool, indent: str, above: tuple[object, ...]) -> list[str]:
    from minipod.api.schema import fields_of

    lines: list[str] = []
    for wire, field in sorted(fields_of(struct).items()):
        inner = _struct_in(field.shape)
        lines.append(f"{indent}{wire}\t<{_type(field.shape)}>")
        if recursive and inner is not None and inner not in above:
            lines += _listing(inner, True, indent + "  ", (*above, inner))
        elif not recursive:
            lines += [*_about(struct.__name__, field), ""]
    return lines
