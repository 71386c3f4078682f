"""The quick reader of plain YAML: what it reads is what libyaml reads, and what it leaves is left on purpose."""

from __future__ import annotations

import json
from typing import Any

from minipod.api import plain_yaml
from minipod.api.text import SyntaxFault, _Composer, chunks


def by_libyaml(text: str) -> Any:
    """What libyaml makes of it: the data, or "fault" where there is a fault or a key is repeated."""
    try:
        found = list(chunks(text))
        if len(found) != 1:
            return "fault"
        reading = _Composer(found[0]).document()
    except SyntaxFault:
        return "fault"
    return "fault" if reading.duplicates else reading.data


def same(one: Any, other: Any) -> bool:
    """Equal in type too: 1, 1.0 and true differ; so does the order of keys."""
    return json.dumps(one) == json.dumps(other)


def assert_agrees(text: str) -> bool:
    """Whether it was read; it must then be what libyaml reads."""
    quick = plain_yaml.read(text)
    if quick is not None:
        assert same(quick, by_libyaml(text)), text
    return quick is not None


PLAIN = [
    "a: b\n",
    "a:\n  b: c\n  d:\n  - e\n  -   f: g\n      h: 1\n",
    "a:\n- b\n-  c: d\n   e:\n   - f\nz: 1\n",
    "a: -c # a comment\nb: a#b\n# another\n\nc:   # nothing\nd: x # y # z\n",
    "a: yes\nb: 0o17\nc: 1.50\nd: null\ne: 2001-01-01\nf: 1:30\n",
    "a: \"x: # y\"\nb: ''\nc: ' z '\n",
    'a: [sh, -c, "echo, hi", /bin/sh, yes]\nb: []\nc: {}\nd: ["x"]\n',
    "a: b,c [d] {e} 'f' \"g\" h:i\n",
    "a: $(HOME)/x\nb: registry.example.com:5000/a@sha256:0\n",
    "a.b/c-d: 1\n",
    "a: {b: c, d: {}, e: [f, {g: 1.5}], h: i:1, }\n",
    "a: [ {b: -c} , [] ]\n",
    "a:\nb:\n",
]


def test_plain_yaml_is_read() -> None:
    assert [text for text in PLAIN if not assert_agrees(text)] == []


NOT_PLAIN = [
    "",
    "a",
    "- a\n",
    "a: |\n  b\n",
    "a: b\n  c\n",
    "a: b\n  c: d\n",
    "a: &x b\n",
    "a: *x\n",
    "a: !!str 1\n",
    "a: {b: c\n",
    "a: {b: c}}\n",
    "a: {b: c} d\n",
    "a: {b: c, b: d}\n",
    "a: {b}\n",
    "a: {b:c}\n",
    "a: {b: }\n",
    'a: {"b": c}\n',
    "a: [b c]\n",
    "a: [b: c]\n",
    "a: [-]\n",
    "a: [,]\n",
    "a: [b] # c\n",
    "a: " + "[" * 60 + "]" * 60,
    "a" * 200 + ": b",
    "a: b: c\n",
    "a: b:\n",
    "a: - b\n",
    "a: 'it''s'\n",
    'a: "\\n"\n',
    "a: b\na: c\n",
    "on: x\n",
    "<<: x\n",
    "? a\n: b\n",
    "a:\tb\n",
    "a: b\r\n",
    "a: é\n",
    "a:\n    b: c\n  d: e\n",
    "a:\n- b\n  c\n",
    "- - a\n",
    "a:\n  -\n    b: c\n",
    "a: .inf\n",
    "a: b\n...\n",
    "a: @b\n",
    "a: `b`\n",
    "a: %b\n",
    "a: =\n",
    "'a': b\n",
    "a: 'b' # c\n",
    "  a: b\nc: d\n",
    "a:" + "".join(f"\n{' ' * depth}a:" for depth in range(1, 60)) + " b\n",
    "a: " + "b" * plain_yaml.MAX_TEXT,
]


def test_everything_else_is_left_to_libyaml() -> None:
    assert [text for text in NOT_PLAIN if plain_yaml.read(text) is not None] == []
