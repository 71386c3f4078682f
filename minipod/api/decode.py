"""Plain data to the v1 structs (layer 1, pure), strictly, as the API server decodes JSON; every fault with its path.

The rules are those of sigs.k8s.io/json in strict mode: names are case-sensitive, null is "not given", a number is no
text. Quantities become canonical text here, times must be RFC 3339, secrets' data base64. Says nothing about values
that decode but are wrong: that is `api.validation`.
"""

from __future__ import annotations

import binascii
import re
from functools import cache
from typing import Any

from minipod.api import quantity, types
from minipod.api.field_error import FieldError
from minipod.api.scalars import number_text
from minipod.api.schema import (
    BOOLEAN,
    BYTES,
    INT32,
    INT64,
    INT_OR_STRING,
    LIST,
    MAP,
    QUANTITY,
    RAW,
    STRUCT,
    TEXT,
    TIME,
    Shape,
    fields_of,
)
from minipod.api.text import Path, path_text

UNKNOWN_FIELD, DUPLICATE_KEY, WRONG_TYPE, SYNTAX = "UnknownField", "DuplicateKey", "WrongType", "Syntax"
MERGED_OVER = "MergedOver"  # never an error

_WANTED = {
    TEXT: "a string",
    BOOLEAN: "true or false",
    INT32: "an integer",
    INT64: "an integer",
    QUANTITY: "a quantity such as 100m or 64Mi",
    TIME: "a time such as 2026-01-31T12:00:00Z",
    INT_OR_STRING: "an integer or a string",
    BYTES: "base64 text",
    RAW: "an object",
    STRUCT: "an object",
    LIST: "a list",
    MAP: "an object",
}

_INT_RANGE = {INT32: 2**31, INT64: 2**63}
_MAX_SUGGESTIONS = 100  # of one object: looking for similar names takes time
_UNQUOTED = {BOOLEAN: "true|false", INT32: "-?[0-9]+", INT64: "-?[0-9]+"}


@cache
def _zero(struct: type[types.Object]) -> types.Object:
    return struct()


_ZEROS: dict[int, Any] = {TEXT: "", BOOLEAN: False, INT32: 0, INT64: 0, QUANTITY: "0", INT_OR_STRING: 0, BYTES: b""}


class Decoder:
    """Decodes one object; collects the errors in `errors`, and in `written_empty` the paths of lists and maps that are
    empty in the text, which Kubernetes distinguishes from absent ones in some places."""

    def __init__(self) -> None:
        self.errors: list[FieldError] = []
        self._empty: list[Path] = []

    @property
    def written_empty(self) -> frozenset[str]:
        return frozenset(path_text(path) for path in self._empty)

    def decode(self, struct: type[types.Object], data: Any) -> types.Object:
        """The object; meaningless where `errors` is not empty afterwards (but for unknown fields)."""
        decoded: types.Object = self._struct(struct, data, ())
        return decoded

    def _error(self, path: Path, kind: str, message: str) -> None:
        self.errors.append(FieldError(path_text(path), kind, message))

    def _struct(self, struct: type[types.Object], data: Any, path: Path) -> Any:
        if type(data) is not dict:
            self._wrong(Shape(STRUCT), data, path)
            return _zero(struct)
        fields = fields_of(struct)
        values = {}
        for key, item in data.items():
            field = fields.get(key)
            if field is None:
                self._unknown(struct, key, path)
            elif item is not None:
                kind = field.kind
                if kind == TEXT:
                    if type(item) is not str:
                        self._wrong(field.shape, item, (path, key))
                    values[field.attribute] = item
                else:
                    values[field.attribute] = self._value(field.shape, item, (path, key))
        return struct(**values) if values else _zero(struct)

    def _value(self, shape: Shape, data: Any, path: Path) -> Any:
        kind = shape.kind
        if not data and type(data) in (list, dict):
            self._empty.append(path)
        if kind == LIST and type(data) is list:
            item_shape = shape.items
            return tuple([self._item(item_shape, item, (path, index)) for index, item in enumerate(data)])
        if kind == MAP and type(data) is dict:
            item_shape = shape.items
            return {key: self._item(item_shape, item, (path, key)) for key, item in data.items()}
        if kind == BOOLEAN and type(data) is bool:
            return data
        if kind == STRUCT and shape.struct is not None:
            return self._struct(shape.struct, data, path)
        if kind in _INT_RANGE:
            return self._integer(shape, data, path)
        return self._special(shape, data, path)

    def _item(self, shape: Any, data: Any, path: Path) -> Any:
        """An element of a list or a map; null is the zero value there."""
        kind = shape.kind
        if data is None:
            return _zero(shape.struct) if kind == STRUCT else _ZEROS.get(kind)
        if kind == TEXT:
            if type(data) is not str:
                self._wrong(shape, data, path)
            return data
        return self._value(shape, data, path)

    def _integer(self, shape: Shape, data: Any, path: Path) -> int:
        limit = _INT_RANGE[shape.kind]
        if type(data) is float and data.is_integer():
            data = int(data)
        if type(data) is not int:
            self._wrong(shape, data, path)
            return 0
        if not -limit <= data < limit:
            width = 32 if shape.kind == INT32 else 64
            self._error(path, WRONG_TYPE, f"Invalid value: {data}: does not fit {width} bits")
            return 0
        return data

    def _special(self, shape: Shape, data: Any, path: Path) -> Any:
        kind = shape.kind
        try:
            if kind == QUANTITY and type(data) in (str, int, float):
                text = data if type(data) is str else number_text(data) if type(data) is float else str(data)
                return quantity.canonical(text)
            if kind == TIME and type(data) is str:
                from minipod.api import timestamps  # few manifests hold a time

                timestamps.parse_time(data)
                return data
            if kind == INT_OR_STRING and type(data) is str:
                return data
            if kind == INT_OR_STRING and type(data) in (int, float):
                return self._integer(Shape(INT32), data, path)
            if kind == BYTES and type(data) is str:
                return binascii.a2b_base64(data.replace("\n", "").replace("\r", ""), strict_mode=True)
        except quantity.InvalidQuantity as error:
            self._error(path, WRONG_TYPE, f"Invalid value: {error}")
            return "0"
        except binascii.Error:
            self._error(path, WRONG_TYPE, "Invalid value: no base64; plain text belongs into stringData")
            return b""
        except ValueError as error:
            self._error(path, WRONG_TYPE, f"Invalid value: {error}")
            return None
        if kind == RAW and type(data) is dict:
            return data
        self._wrong(shape, data, path)
        return None

    def _wrong(self, shape: Shape, data: Any, path: Path) -> None:
        wanted = _WANTED[shape.kind]
        shown = {True: "true", False: "false"}.get(data, data) if isinstance(data, bool) else data
        message = f"Invalid value: must be {wanted}, not {_described(data, shown)}"
        if shape.kind == TEXT and isinstance(data, bool | int | float):
            message += '; quote it: "…"'
        elif isinstance(data, str) and shape.kind in _UNQUOTED and re.fullmatch(_UNQUOTED[shape.kind], data):
            message += "; remove the quotes"
        elif shape.kind == LIST:
            message += "; begin each item with -"
        self._error(path, WRONG_TYPE, message)

    def _unknown(self, struct: type[types.Object], key: str, path: Path) -> None:
        from minipod.api.suggest import suggestion

        hint = suggestion(struct, key, path) if len(self.errors) < _MAX_SUGGESTIONS else ""
        self._error((path, key), UNKNOWN_FIELD, "unknown field" + (f"; {hint}" if hint else ""))


def _described(data: Any, shown: Any) -> str:
    match data:
        case bool():
            return f"the boolean {shown}"
        case int() | float():
            return f"the number {str(shown)[:30]}"
        case str():
            return f"the string {data[:30]!r}"
        case list():
            return "a list"
    return "an object"
