"""What an unquoted YAML scalar means, and how Go writes a number (layer 1, pure).

YAML 1.1 as go-yaml v2 resolves it for the API server (resolve.go), which differs from PyYAML's own: `y` is a boolean,
`1:30` and dates are text, `0644` and `0o644` are octal, `1_000` is a number.
"""

from __future__ import annotations

import re
from typing import Any

_WORDS: dict[str, Any] = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
}
_SPECIAL_FIRST = frozenset("+-.0123456789yYnNtTfFoO~")
_INTEGER = re.compile(r"[+-]?(?:0[xX][0-9a-fA-F]+|0[oO]?[0-7]+|0[bB][01]+|0|[1-9][0-9]*)", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", re.ASCII)


def plain(text: str) -> Any:
    """What an unquoted scalar means: text, a number, a boolean or None."""
    if text and text[0] not in _SPECIAL_FIRST:
        return text
    if text in _WORDS:
        return _WORDS[text]
    if text[0] in "+-0123456789":
        return _number(text)
    if text[0] == "." and _FLOAT.fullmatch(text):
        return _finite(text, text)
    return text


def _number(text: str) -> Any:
    bare = text.replace("_", "")
    if len(bare) < 80 and _INTEGER.fullmatch(bare):
        digits = bare.lstrip("+-")
        if digits[:1] == "0" and digits[1:].isdigit():
            digits = "0o" + digits[1:]
        number = int(digits, 0)
        if bare[0] == "-":
            number = -number
        if -(2**63) <= number < (2**64 if bare[0] not in "+-" else 2**63):
            return number
    if _FLOAT.fullmatch(bare):
        return _finite(bare, text)
    return text


def _finite(number: str, text: str) -> Any:
    value = float(number)
    return text if value in (float("inf"), float("-inf")) else value


def number_text(number: float) -> str:
    """A float as Go's JSON encoder writes it."""
    if number == 0 or 1e-6 <= abs(number) < 1e21:
        text = f"{number:.0f}" if number.is_integer() else repr(number)
        if "e" in text:
            mantissa, _, exponent = text.partition("e")
            places = len(mantissa.partition(".")[2]) - int(exponent)
            text = f"{number:.{max(places, 0)}f}"
        return text
    return repr(number).replace("e-0", "e-")
