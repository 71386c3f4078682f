"""Objects as YAML, as kubectl writes them (layer 6): sorted keys, no aliases. Importing PyYAML would cost 20 ms."""

from __future__ import annotations

import json
import re

from minipod.cli.values import Any, Object

# What stands plain: printable, no indicator at its beginning, nothing that ends a scalar inside it …
_PLAIN = re.compile(r"(?:[^\s\-?:,\[\]{}#&*!|>'\"%@`]|[-?:](?=\S))(?:[^:#\s]|:(?! |$)|(?<! )#| (?! *$))*")
# … and no reader of YAML 1.1 or 1.2 takes it for a number, a time, a word with a meaning or a merge.
_NUMBER = re.compile(
    r"[-+]?(?:0b[01_]+|0x[0-9a-f_]+|0o?[0-7_]+|(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:e[-+]?[0-9]+)?|\.inf)|\.nan"
    r"|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?"
    r"|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:(?:t|[ \t]+)[0-9:.]+.*)?",
    re.IGNORECASE,
)
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null", "~", "<<", "="})
_ASCII = re.compile(r"[ -~]*")
# What a reader of YAML does not take as it is, and what turns the direction of the line: `minipod.terminal`.
_HIDDEN = "\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff\ufffe\uffff"
_UNPRINTABLE = re.compile(f"[{_HIDDEN}]")
_BLOCK = re.compile(f"[^\x00-\x09\x0b-\x1f{_HIDDEN}]*")


def to_yaml(value: Any) -> str:
    """One document, ending with a newline."""
    lines: list[str] = []
    if isinstance(value, dict) and value:
        _mapping(value, 0, lines)
    elif isinstance(value, list) and value:
        _sequence(value, 0, lines)
    else:
        lines.append(scalar(value))
    return "\n".join(lines) + "\n"


def _mapping(value: Object, indent: int, lines: list[str]) -> None:
    for key in sorted(value):
        _entry(f"{' ' * indent}{scalar(key)}:", value[key], indent, lines)


def _entry(head: str, item: Any, indent: int, lines: list[str]) -> None:
    if isinstance(item, dict) and item:
        lines.append(head)
        _mapping(item, indent + 2, lines)
    elif isinstance(item, list) and item:
        lines.append(head)
        _sequence(item, indent, lines)
    elif isinstance(item, str) and _is_block(item):
        _literal(head, item, indent + 2, lines)
    else:
        lines.append(f"{head} {scalar(item)}")


def _sequence(value: list[Any], indent: int, lines: list[str]) -> None:
    for item in value:
        if isinstance(item, (dict, list)) and item:
            start = len(lines)
            if isinstance(item, dict):
                _mapping(item, indent + 2, lines)
            else:
                _sequence(item, indent + 2, lines)
            # the dash stands where the first line's indentation ends
            lines[start] = f"{' ' * indent}- {lines[start][indent + 2 :]}"
        else:
            _entry(f"{' ' * indent}-", item, indent, lines)


def _is_block(text: str) -> bool:
    """Whether a literal block can hold the text unchanged."""
    return "\n" in text and text[0] not in " \n" and _BLOCK.fullmatch(text) is not None


def _literal(head: str, text: str, indent: int, lines: list[str]) -> None:
    body = text.rstrip("\n")
    newlines = len(text) - len(body)
    mark = {0: "|-", 1: "|"}.get(newlines, "|+")
    lines.append(f"{head} {mark}")
    lines += [f"{' ' * indent}{line}" if line else "" for line in body.split("\n")]
    lines += [""] * (newlines - 1)


def scalar(value: Any) -> str:
    """A value on one line; strings plain where no reader can mistake them."""
    if not isinstance(value, str):
        return json.dumps(value)
    if value and _ASCII.fullmatch(value) and value.lower() not in _WORDS and not _NUMBER.fullmatch(value):
        if _PLAIN.fullmatch(value) and value not in ("---", "..."):
            return value
        return "'" + value.replace("'", "''") + "'"
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False))
