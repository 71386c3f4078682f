"""kubectl's JSONPath templates (layer 6): fields, indices, slices, wildcards, filters, unions, range. Pure.

The grammar is that of client-go's util/jsonpath: text with `{expressions}`, `{range …}{end}`, quoted text.
"""

from __future__ import annotations

import json
import re

from minipod.cli.values import Any
from minipod.errors import UsageError

Values = list[Any]
_TOKEN = re.compile(
    r"(?P<recursive>\.\.)"
    r"|\.(?P<field>(?:\\.|[^.\[\]{}\s'\"()\\*])+)"
    r"|(?P<wild>\.\*|\[\*\]|\*)"
    r"|\[\?\((?P<filter>.*?)\)\]"
    r"|\[(?P<index>-?\d+)\]"
    r"|\[(?P<slice>-?\d*:-?\d*(?::-?\d+)?)\]"
    r"|\[(?P<union>(?:'[^']*'|\"[^\"]*\"|-?\d+)(?:\s*,\s*(?:'[^']*'|\"[^\"]*\"|-?\d+))*)\]"
    r"|(?P<root>[$@])"
    r"|(?P<dot>\.$)"
)
_OPERATOR = re.compile(r"\s*(==|!=|<=|>=|<|>)\s*")


class NotThereError(UsageError):
    """A field that an object does not have, where all must be there."""


def relaxed(expression: str) -> str:
    """kubectl's shorthand: `.a.b`, `a.b` and `{.a.b}` are the same (get.RelaxedJSONPathExpression)."""
    body = expression.strip()
    if body.startswith("{") and body.endswith("}"):
        return body
    return "{" + (body if body.startswith((".", "[", "$", "@")) else f".{body}") + "}"


def find(path: str, value: Any, strict: bool = False, allow_missing: bool = True) -> Values:
    """The values at a path without braces, as `.status.podIPs[*].ip`; what is missing gives nothing.

    `strict`: an index beyond a list's end is an error, as for `kubectl get`. Raises UsageError.
    `allow_missing` False: NotThereError for a field that none of the values has.
    """
    values, position, recursive = [value], 0, False
    path = path.strip()
    while position < len(path):
        token = _TOKEN.match(path, position)
        if token is None and recursive:
            token = _TOKEN.match("." + path, position)  # ..name
            if token is not None:
                path, token = (
                    path[:position] + "." + path[position:],
                    _TOKEN.match(path[:position] + "." + path[position:], position),
                )
        if token is None:
            raise UsageError(f'invalid jsonpath at "{path[position:]}" in "{path}"')
        position = token.end()
        if token["recursive"]:
            values, recursive = [deep for item in values for deep in _descendants(item)], True
            continue
        if token["union"] or token["index"]:
            keys = re.split(r"\s*,\s*", token["union"] or token["index"])  # kubectl: key by key, not item by item
            values = [found for key in keys for item in values for found in _at(item, key, strict)]
        else:
            before, values = values, [found for item in values for found in _step(token, item, value)]
            if token["field"] and before and not values and not allow_missing:
                raise NotThereError(f"{token['field']} is not found")
        recursive = False
    return values


def _descendants(value: Any) -> Values:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [value] + [deep for child in children for deep in _descendants(child)]


def _step(token: re.Match[str], item: Any, root: Any) -> Values:
    if token["root"] or token["dot"]:
        return [root] if token["root"] == "$" else [item]
    if token["field"]:
        name = re.sub(r"\\(.)", r"\1", token["field"])
        return [item[name]] if isinstance(item, dict) and name in item else []
    if token["wild"]:
        return list(item.values()) if isinstance(item, dict) else list(item) if isinstance(item, list) else []
    if token["filter"]:
        return [entry for entry in item if _holds(token["filter"], entry)] if isinstance(item, list) else []
    bounds = [int(part) if part else None for part in token["slice"].split(":")]
    return item[slice(*bounds)] if isinstance(item, list) else []


def _at(item: Any, key: str, strict: bool) -> Values:
    """A quoted key (or, as kubectl has it, a path from here), or an index."""
    if key[0] in "'\"":
        name = key[1:-1]
        if isinstance(item, dict) and name in item:
            return [item[name]]
        return find(f".{name}", item) if "." in name else []
    index = int(key)
    if not isinstance(item, list):
        return []
    if strict and not -len(item) <= index < len(item):
        raise UsageError(f"array index out of bounds: index {index}, length {len(item)}")
    return [item[index]] if -len(item) <= index < len(item) else []


def _holds(condition: str, entry: Any) -> bool:
    parts = _OPERATOR.split(condition, maxsplit=1)
    left = _operand(parts[0], entry)
    if len(parts) == 1:
        return bool(left)
    right = _operand(parts[2], entry)
    if not left or not right:
        return False
    a, b = left[0], right[0]
    if parts[1] in ("==", "!="):
        return bool((a == b) == (parts[1] == "=="))
    try:
        return bool({"<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b}[parts[1]])
    except TypeError:
        raise UsageError(f'jsonpath: cannot compare the two sides of "{condition}"') from None


def _operand(text: str, entry: Any) -> Values:
    text = text.strip()
    if text.startswith("@"):
        return find(text[1:], entry)
    if text[:1] in "'\"" and text:
        return [text[1:-1]]
    try:
        return [json.loads(text)]
    except ValueError:
        raise UsageError(f'jsonpath: "{text}" in a filter is neither a path (@.name) nor a value') from None


class Template:
    """A parsed template. Raises UsageError for what cannot be parsed. `allow_missing`: as of `find`."""

    def __init__(self, text: str, allow_missing: bool = True) -> None:
        self._allow_missing = allow_missing
        self._parts = _split(text)
        depth = 0
        for is_code, part in self._parts:
            depth += (is_code and part.startswith("range ")) - (is_code and part == "end")
            if depth < 0:
                raise UsageError("jsonpath: {end} without {range}")
        if depth:
            raise UsageError("jsonpath: {range} without {end}")

    def render(self, value: Any) -> str:
        return self._render(value, value, 0, len(self._parts))

    def values(self, value: Any) -> Values:
        """What the expressions find, one after the other."""
        return [found for is_code, part in self._parts if is_code for found in self._find(part, value)]

    def _find(self, path: str, value: Any, strict: bool = False) -> Values:
        return find(path, value, strict, self._allow_missing)

    def _render(self, value: Any, root: Any, start: int, end: int) -> str:
        output = []
        index = start
        while index < end:
            is_code, part = self._parts[index]
            if is_code and part.startswith("range "):
                close = self._end_of(index)
                for item in self._find(part[6:], value, strict=True):
                    output.append(self._render(item, root, index + 1, close))
                index = close
            elif is_code:
                output.append(
                    _literal(part)
                    if part[:1] in "'\""
                    else " ".join(text_of(v) for v in self._find(part, value, strict=True))
                )
            else:
                output.append(part)
            index += 1
        return "".join(output)

    def _end_of(self, index: int) -> int:
        depth = 0
        while True:
            is_code, part = self._parts[index]
            depth += (is_code and part.startswith("range ")) - (is_code and part == "end")
            if not depth:
                return index
            index += 1


def _split(text: str) -> list[tuple[bool, str]]:
    """Text and {code} in turn; braces inside quotes are text of the code."""
    parts: list[tuple[bool, str]] = []
    position = 0
    for found in re.finditer(r"\{((?:\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|[^{}\"'])*)\}", text):
        if found.start() > position:
            parts.append((False, text[position : found.start()]))
        parts.append((True, found[1].strip()))
        position = found.end()
    rest = text[position:]
    if "{" in rest or (not parts and not rest):
        raise UsageError(f'jsonpath: unclosed action in "{text}": use for example {{.status.phase}}')
    return [*parts, (False, rest)] if rest else parts


def _literal(part: str) -> str:
    escapes = {"n": "\n", "t": "\t", "r": "\r"}
    return re.sub(r"\\(.)", lambda found: escapes.get(found[1], found[1]), part[1:-1])


def text_of(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, sort_keys=True)
