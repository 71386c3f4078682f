"""Reads the YAML that most manifests are written in, and leaves everything else to libyaml (layer 1, pure).

Block mappings and lists, one line a value: plain words, quotes without escapes, short lists in brackets. Whatever goes
beyond that (anchors, tags, text blocks, values of several lines, repeated keys, faults of any kind) is not guessed at:
`read` then returns None and `api.text` asks libyaml, which alone decides what is an error. What is read here is what
libyaml reads, in half the time and without importing PyYAML (decision 054); `tests/unit/test_plain_yaml.py` holds the
two against each other.
"""

from __future__ import annotations

import math
import re
from typing import Any

from minipod.api.scalars import plain

MAX_TEXT = 64 * 1024
MAX_DEPTH = 50

# indent, dash, key, rest of the line
_LINE = re.compile(r"( *)(- +)?(?:([A-Za-z_][A-Za-z0-9_./-]*):(?: +|$))?(.*)")
_WORD = r"[A-Za-z_/][A-Za-z0-9_./-]*|-[A-Za-z][A-Za-z0-9-]*"
_ITEM = rf'"[^"\\]*"|{_WORD}'
_PLAIN_START = re.compile(r"[A-Za-z0-9_/.$(+]|-[^ ]")
_QUOTED = re.compile(r"\"([^\"\\]*)\"|'([^']*)'")
_SHORT_LIST = re.compile(rf"\[ *(?:{_ITEM})(?: *, *(?:{_ITEM}))* *\]")
_ITEMS = re.compile(_ITEM)
_ODD = re.compile(r"[^\n -~]")


class _NotPlain(Exception):  # noqa: N818 - no error: libyaml will read it
    pass


#: one key or list item: indent, key (None for an item), and the rest of its line, empty where the value is below
_Row = tuple[int, str | None, str]


def read(text: str) -> dict[str, Any] | None:
    """The mapping that the text holds; None where the text is not of the plain kind."""
    if len(text) > MAX_TEXT or _ODD.search(text):
        return None
    try:
        rows = _rows(text)
        value, end = _mapping(rows, 0, 0)
    except _NotPlain:
        return None
    return value if end == len(rows) - 1 else None


def _rows(text: str) -> list[_Row]:
    """All rows and one more that ends them all, outside of everything."""
    rows: list[_Row] = []
    for line in text.split("\n"):
        line = line.rstrip(" ")
        match = _LINE.fullmatch(line)
        if match is None:
            raise _NotPlain
        spaces, dash, key, rest = match.groups()
        if key is None:
            nothing = not rest or rest[0] == "#"
            if nothing and not dash:
                continue
            if nothing or not dash:
                raise _NotPlain
            rows.append((len(spaces), None, rest))
            continue
        indent = len(spaces)
        if dash:
            rows.append((indent, None, ""))
            indent += len(dash)
        rows.append((indent, key, "" if rest[:1] == "#" else rest))
    rows.append((-1, None, ""))
    return rows


def _block(rows: list[_Row], at: int, depth: int) -> tuple[Any, int]:
    """The mapping or list that begins at a row, and the row after it."""
    if depth > MAX_DEPTH:
        raise _NotPlain
    return (_list if rows[at][1] is None else _mapping)(rows, at, depth)


def _mapping(rows: list[_Row], at: int, depth: int) -> tuple[dict[str, Any], int]:
    found: dict[str, Any] = {}
    own_indent, key, rest = rows[at]
    indent = own_indent
    while indent == own_indent and key is not None:
        if key in found or type(plain(key)) is not str:
            raise _NotPlain
        at += 1
        below_indent, below_key, _ = rows[at]
        if rest:
            found[key] = _scalar(rest)
        elif below_indent > indent or (below_indent == indent and below_key is None):
            found[key], at = _block(rows, at, depth + 1)
        else:
            found[key] = None
        indent, key, rest = rows[at]
    if indent >= own_indent:
        raise _NotPlain
    return found, at


def _list(rows: list[_Row], at: int, depth: int) -> tuple[list[Any], int]:
    items: list[Any] = []
    own_indent, key, rest = rows[at]
    indent = own_indent
    while indent == own_indent and key is None:
        at += 1
        if rest:
            items.append(_scalar(rest))
        else:
            item, at = _block(rows, at, depth + 1)
            items.append(item)
        indent, key, rest = rows[at]
    if indent > own_indent:
        raise _NotPlain
    return items, at


def _scalar(text: str) -> Any:
    first = text[0]
    if first == '"' or first == "'":
        match = _QUOTED.fullmatch(text)
        if match is None:
            raise _NotPlain
        return match[1] if first == '"' else match[2]
    if first == "[" or first == "{":
        return _collection(text)
    if not _PLAIN_START.match(text):
        raise _NotPlain
    if " #" in text:
        text = text.partition(" #")[0].rstrip(" ")
    if ": " in text or text[-1] == ":":
        raise _NotPlain
    value = plain(text)
    if type(value) is float and not math.isfinite(value):
        raise _NotPlain
    return value


def _collection(text: str) -> Any:
    """`[]`, `{}`, `[sh, -c, "echo hello"]`"""
    if text == "{}":
        return {}
    if text == "[]":
        return []
    if not _SHORT_LIST.fullmatch(text):
        raise _NotPlain
    return [item[1:-1] if item[0] == '"' else plain(item) for item in _ITEMS.findall(text)]
