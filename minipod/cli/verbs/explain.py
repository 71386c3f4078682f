"""`minipod explain` (layer 6): a field's type, values and default, and what minipod does with it. Needs no agent."""

from __future__ import annotations

import argparse

from minipod.cli.fields import field_of, kind_at, struct_in, type_text
from minipod.cli.values import TYPE_CHECKING
from minipod.errors import UsageError

if TYPE_CHECKING:
    from minipod.api.schema import Field
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
    first, *names = [part.partition("[")[0] for part in path.split(".") if part.partition("[")[0]] or [""]
    kind = kind_at(first)
    struct: type[Object] | None = kind.struct
    owner = ""
    field: Field | None = None
    for name in names:
        if struct is None:
            raise UsageError(f'explain: {path}: there is nothing below the field before "{name}"')
        owner, field = struct.__name__, field_of(struct, name, path)
        struct = struct_in(field.shape)
    lines = [f"KIND:       {kind.name}", "VERSION:    v1", ""]
    if field is not None:
        lines += [f"FIELD: {field.wire} <{type_text(field.shape)}>", *_about(owner, field), ""]
    else:
        lines += [*_words(kind.struct.__doc__ or ""), ""]
    if struct is not None:
        lines += ["FIELDS:", *_listing(struct, recursive, "  ", (struct,))]
    return [line.rstrip() for line in lines]


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
        inner = struct_in(field.shape)
        lines.append(f"{indent}{wire}\t<{type_text(field.shape)}>")
        if recursive and inner is not None and inner not in above:
            lines += _listing(inner, True, indent + "  ", (*above, inner))
        elif not recursive:
            lines += [*_about(struct.__name__, field), ""]
    return lines
