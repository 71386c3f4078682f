"""Reads the YAML that most manifests are written in, and leaves everything else to libyaml (layer 1, pure).

Block mappings and lists, one line a value: plain words, quotes without escapes, brackets and braces. Anything
beyond that (anchors, tags, text blocks, values of several lines, repeated keys, faults of any kind) is not guessed at:
`read` then returns None and `api.text` asks libyaml, which alone decides what is an error. What is read here is what
libyaml reads, in half the time and without importing PyYAML (decision 054); `tests/corpus` compares the two.
"""

from __future__ import annotations

import math
import re
from typing import Any

from minipod.api.scalars import plain

MAX_TEXT = 64 * 1024
MAX_DEPTH = 50

# indent, dash, key, rest of the line
_KEY = "[A-Za-z_][A-Za-z0-9_./-]{0,127}"
_LINE = re.compile(rf"( *)(- +)?(?:({_KEY}):(?: +|$))?(.*)")
_PLAIN_START = re.compile(r"[A-Za-z0-9_/.$(+]|-[^ ]")
_QUOTED = re.compile(r"\"([^\"\\]*)\"|'([^']*)'")
_FLOW_KEY = re.compile(rf"({_KEY}): +")
_FLOW_CHARACTERS = "[A-Za-z0-9_/.+=@-]"
_FLOW_SCALAR = re.compile(
    rf'"([^"\\]*)"|(?:[A-Za-z0-9_/.+]|-(?=[A-Za-z0-9])){_FLOW_CHARACTERS}*(?::{_FLOW_CHARACTERS}+)*'
)
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
    """All rows, and a last one outside of everything that ends them."""
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
    return _word(text)


def _word(text: str) -> Any:
    value = plain(text)
    if type(value) is float and not math.isfinite(value):
        raise _NotPlain
    return value


def _collection(text: str) -> Any:
    """What is written in brackets or braces, all of it on one line."""
    value, end = _flow(text, 0, 0)
    if end != len(text):
        raise _NotPlain
    return value


def _flow(text: str, at: int, depth: int) -> tuple[Any, int]:
    """The value that begins at an offset of a line, and the offset behind it."""
    if depth > MAX_DEPTH:
        raise _NotPlain
    opening = text[at : at + 1]
    if opening == "[":
        return _flow_list(text, at + 1, depth)
    if opening == "{":
        return _flow_mapping(text, at + 1, depth)
    match = _FLOW_SCALAR.match(text, at)
    if match is None:
        raise _NotPlain
    return (_word(match[0]) if match[1] is None else match[1]), match.end()


def _flow_list(text: str, at: int, depth: int) -> tuple[list[Any], int]:
    items: list[Any] = []
    while (at := _skip(text, at)) < len(text) and text[at] != "]":
        item, at = _flow(text, at, depth + 1)
        items.append(item)
        at = _separated(text, at, "]")
    return items, at + 1


def _flow_mapping(text: str, at: int, depth: int) -> tuple[dict[str, Any], int]:
    found: dict[str, Any] = {}
    while (at := _skip(text, at)) < len(text) and text[at] != "}":
        match = _FLOW_KEY.match(text, at)
        if match is None or match[1] in found or type(plain(match[1])) is not str:
            raise _NotPlain
        found[match[1]], at = _flow(text, match.end(), depth + 1)
        at = _separated(text, at, "}")
    return found, at + 1


def _skip(text: str, at: int) -> int:
    while text.startswith(" ", at):
        at += 1
    return at


def _separated(text: str, at: int, closing: str) -> int:
    """Where the next entry of a list or mapping begins, or its closing bracket stands."""
    at = _skip(text, at)
    if text.startswith(",", at):
        return at + 1
    if not text.startswith(closing, at):
        raise _NotPlain
    return at
