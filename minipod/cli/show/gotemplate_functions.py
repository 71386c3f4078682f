"""The functions of Go templates and how Go prints values (layer 6, pure): funcs.go, fmt, kubectl's."""

from __future__ import annotations

import base64
import binascii
import html as markup
import re
from collections.abc import Callable
from dataclasses import dataclass

from minipod.cli.values import Any

MANY = 1000
_WIDEST = 1_000_000  # fmt refuses what is wider


class CallError(Exception):
    """What a function cannot do, in Go's words."""


class _Missing:
    """What stands where a map has no such key: Go's invalid value."""


MISSING = _Missing()


class Int64(int):
    """A whole number of the object; Go's templates have `int` for those that stand in them."""


@dataclass(frozen=True, slots=True)
class Function:
    """`least`, `most`: how many values it takes."""

    of: Callable[..., Any]
    least: int
    most: int


def encoded(text: str) -> bytes:
    """A string of Go's is bytes: what was decoded from base64 need not be UTF-8."""
    return text.encode(errors="surrogateescape")


def is_true(value: Any) -> bool:
    """text/template IsTrue: false is what is empty, zero, nil or not there."""
    return value is not MISSING and bool(value)


def type_of(value: Any) -> str:
    for kind, name in ((bool, "bool"), (Int64, "int64"), (int, "int"), (float, "float64"), (str, "string")):
        if isinstance(value, kind):
            return name
    return "[]interface {}" if isinstance(value, list) else "map[string]interface {}"


def text_of(value: Any) -> str:
    """As Go's %v."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, dict):
        return f"map[{' '.join(f'{key}:{text_of(value[key])}' for key in sorted(value))}]"
    if isinstance(value, list):
        return f"[{' '.join(map(text_of, value))}]"
    return "<nil>" if value is None or value is MISSING else str(value)


def _float(value: float) -> str:
    """The fewest digits that mean the number, with an exponent from 21 on."""
    digits, _, exponent = f"{value!r}".partition("e")
    if exponent or abs(value) >= 1e21 or (value and abs(value) < 1e-4):
        mantissa, _, power = f"{value:.17e}".partition("e")
        for precision in range(18):
            mantissa, _, power = f"{value:.{precision}e}".partition("e")
            if float(f"{mantissa}e{power}") == value:
                break
        if not -4 <= int(power) < 21:
            return f"{mantissa}e{power[0]}{abs(int(power)):02d}"
        return f"{value:.{max(0, precision - int(power))}f}"
    return digits.removesuffix(".0")


def _length(value: Any) -> int:
    if isinstance(value, str):
        return len(encoded(value))
    if isinstance(value, (list, dict)):
        return len(value)
    if value is None or value is MISSING:
        raise CallError("reflect: call of reflect.Value.Type on zero Value")
    raise CallError(f"len of type {type_of(value)}")


def _index(item: Any, *keys: Any) -> Any:
    if item is None or item is MISSING:
        raise CallError("index of untyped nil")
    for key in keys:
        if item is None:
            raise CallError("index of nil pointer")
        if isinstance(item, dict):
            if not isinstance(key, str):
                raise CallError(
                    "value is nil; should be of type string"
                    if key in (None, MISSING)
                    else f"value has type {type_of(key)}; should be string"
                )
            item = item.get(key)
        elif isinstance(item, (list, str)):
            sequence = encoded(item) if isinstance(item, str) else item
            item = sequence[_place(key, len(sequence), inclusive=False)]
        else:
            raise CallError(f"can't index item of type {type_of(item)}")
    return item


def _place(key: Any, length: int, inclusive: bool) -> int:
    if key is None or key is MISSING:
        raise CallError("cannot index slice/array with nil")
    if not isinstance(key, int) or isinstance(key, bool):
        raise CallError(f"cannot index slice/array with type {type_of(key)}")
    if not 0 <= key < length + inclusive:
        raise CallError(f"index out of range: {key}")
    return key


def _slice(item: Any, *keys: Any) -> Any:
    if item is None or item is MISSING:
        raise CallError("slice of untyped nil")
    if len(keys) > 3:
        raise CallError(f"too many slice indexes: {len(keys)}")
    if not isinstance(item, (str, list)):
        raise CallError(f"can't slice item of type {type_of(item)}")
    if isinstance(item, str) and len(keys) == 3:
        raise CallError("cannot 3-index slice a string")
    sequence = encoded(item) if isinstance(item, str) else item
    bounds = [_place(key, len(sequence), inclusive=True) for key in keys]
    start = bounds[0] if bounds else 0
    end = bounds[1] if len(bounds) > 1 else len(sequence)
    if start > end:
        raise CallError(f"invalid slice index: {start} > {end}")
    part = sequence[start:end]
    return part.decode(errors="surrogateescape") if isinstance(part, bytes) else part


def _kind(value: Any) -> str:
    return type_of(value).removesuffix("64") if isinstance(value, (bool, int, float, str)) else ""


def _equal(first: Any, *others: Any) -> bool:
    if not others:
        raise CallError("missing argument for comparison")
    for other in others:
        here = {first is None or first is MISSING, other is None or other is MISSING}
        if here == {True}:
            return True
        if here == {True, False}:
            continue
        _check_same(first, other)
        if not _kind(first):
            raise CallError(f"non-comparable type {text_of(first)}: {type_of(first)}")
        if first == other:
            return True
    return False


def _check_same(first: Any, second: Any) -> None:
    if _kind(first) != _kind(second):
        raise CallError(f"incompatible types for comparison: {type_of(first)} and {type_of(second)}")


def _less(first: Any, second: Any) -> bool:
    for value in (first, second):
        if not _kind(value):
            raise CallError("invalid type for comparison")
    _check_same(first, second)
    if isinstance(first, bool):
        raise CallError("invalid type for comparison")
    return bool(encoded(first) < encoded(second) if isinstance(first, str) else first < second)


def _print(*values: Any) -> str:
    """fmt.Sprint: a space between two values that are no strings."""
    output = ""
    for number, value in enumerate(values):
        if number and not isinstance(value, str) and not isinstance(values[number - 1], str):
            output += " "
        output += text_of(value)
    return output


def _printf(format_: Any, *values: Any) -> str:
    """fmt.Sprintf with the verbs that values of JSON have."""
    if not isinstance(format_, str):
        raise CallError(f"wrong type for value; expected string; got {type_of(format_)}")
    rest = list(values)

    def shown(found: re.Match[str]) -> str:
        if found["verb"] == "%":
            return "%"
        if not rest:
            return f"%!{found['verb']}(MISSING)"
        for part, fault in (("width", "BADWIDTH"), ("precision", "BADPREC")):
            if len(found[part] or "") > len(str(_WIDEST)) or int(found[part] or 0) > _WIDEST:
                return f"%!({fault}){text_of(rest.pop(0))}"
        return _padded(_verb(found["verb"], found["precision"], found["flags"], rest.pop(0)), found)

    text = re.sub(r"%(?P<flags>[-+# 0]*)(?P<width>\d*)(?:\.(?P<precision>\d*))?(?P<verb>.)", shown, format_)
    if rest:
        extra = ", ".join("<nil>" if v in (None, MISSING) else f"{type_of(v)}={text_of(v)}" for v in rest)
        text += f"%!(EXTRA {extra})"
    return text


def _verb(verb: str, precision: str | None, flags: str, value: Any) -> str:
    digits = int(precision) if precision else 0 if precision == "" else None
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    sign = "+" if "+" in flags and isinstance(value, (int, float)) and value >= 0 else ""
    if verb == "T":
        return "<nil>" if value in (None, MISSING) else type_of(value)
    if verb in "vs" and (verb == "v" or isinstance(value, str)):
        text = text_of(value)
        return text[:digits] if isinstance(value, str) else sign + text
    if verb == "q" and isinstance(value, str):
        return quoted(value)
    if verb == "t" and isinstance(value, bool):
        return text_of(value)
    if verb == "c" and is_integer:
        return chr(value)
    if verb in "dxXob" and is_integer:
        return sign + format(value, verb)
    if verb == "x" and isinstance(value, str):
        return encoded(value).hex()
    if verb in "feEgG" and isinstance(value, float):
        if verb == "g" and digits is None:
            return sign + text_of(value)
        return sign + format(value, f".{6 if digits is None else digits}{verb}")
    if verb in "sdq" and isinstance(value, (list, dict)):
        return _nested(verb, value)
    return f"%!{verb}({'<nil>' if value in (None, MISSING) else f'{type_of(value)}={text_of(value)}'})"


def _nested(verb: str, value: Any) -> str:
    if isinstance(value, dict):
        inner = " ".join(f"{_verb(verb, None, '', key)}:{_verb(verb, None, '', value[key])}" for key in sorted(value))
        return f"map[{inner}]"
    return f"[{' '.join(_verb(verb, None, '', item) for item in value)}]"


def _padded(text: str, found: re.Match[str]) -> str:
    width = int(found["width"] or 0)
    if "-" in found["flags"]:
        return text.ljust(width)
    zeros = "0" in found["flags"] and found["verb"] in "dfeEgGxXob"
    return text.zfill(width) if zeros else text.rjust(width)


def quoted(text: str) -> str:
    """As Go's %q."""
    import json

    return "".join(
        char if char.isprintable() else json.dumps(char)[1:-1] for char in json.dumps(text, ensure_ascii=False)
    )


def _joined(values: tuple[Any, ...]) -> str:
    return values[0] if len(values) == 1 and isinstance(values[0], str) else _print(*values)


def _html(*values: Any) -> str:
    return markup.escape(_joined(values)).replace("&quot;", "&#34;").replace("&#x27;", "&#39;").replace("\0", "\ufffd")


def _urlquery(*values: Any) -> str:
    from urllib.parse import quote_plus

    return quote_plus(_joined(values), safe="")


def _base64decode(value: Any) -> str:
    if not isinstance(value, str):
        if value is None or value is MISSING:
            raise CallError("invalid value; expected string")
        raise CallError(f"wrong type for value; expected string; got {type_of(value)}")
    try:
        return base64.b64decode(value.replace("\n", "").replace("\r", ""), validate=True).decode(
            errors="surrogateescape"
        )
    except binascii.Error:
        bad = re.search(r"[^A-Za-z0-9+/]", value.rstrip("="))
        at = bad.start() if bad else len(value)
        raise CallError(f"base64 decode failed: illegal base64 data at input byte {at}") from None


def _exists(item: Any, *keys: Any) -> bool:
    """kubectl's own: whether `index` finds something."""
    try:
        found = _index(item, *keys)
    except CallError:
        return False
    return found is not None and found is not MISSING


FUNCTIONS: dict[str, Function] = {
    "not": Function(lambda value: not is_true(value), 1, 1),
    "eq": Function(_equal, 1, MANY),
    "ne": Function(lambda first, second: not _equal(first, second), 2, 2),
    "lt": Function(_less, 2, 2),
    "le": Function(lambda first, second: _less(first, second) or first == second, 2, 2),
    "gt": Function(lambda first, second: not _less(first, second) and first != second, 2, 2),
    "ge": Function(lambda first, second: not _less(first, second), 2, 2),
    "len": Function(_length, 1, 1),
    "index": Function(_index, 1, MANY),
    "slice": Function(_slice, 1, MANY),
    "print": Function(_print, 0, MANY),
    "printf": Function(_printf, 1, MANY),
    "println": Function(lambda *values: " ".join(map(text_of, values)) + "\n", 0, MANY),
    "html": Function(_html, 0, MANY),
    "urlquery": Function(_urlquery, 0, MANY),
    "base64decode": Function(_base64decode, 1, 1),
    "exists": Function(_exists, 1, MANY),
}
