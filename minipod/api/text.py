"""Manifest text to plain data (layer 1, pure): YAML and JSON as the API server reads them. Knows no Kubernetes types.

The rules are those of sigs.k8s.io/yaml (YAML 1.1 as go-yaml v2 resolves it, then JSON) and of
apimachinery/pkg/util/yaml/decoder.go (documents end at a line that begins with `---`). PyYAML's C parser delivers
events only; what a scalar means is decided here, so no tag can make anything be constructed or run.

Bounded on purpose: the size of a document (the API server's request limit), its nesting and its number of values,
aliases counted as often as they are used. Where things are is `api.positions`.
"""

from __future__ import annotations

import binascii
import json
import re
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import msgspec

from minipod.api import plain_yaml
from minipod.api.scalars import number_text, plain

MAX_TEXT_BYTES = 16 * 2**20
MAX_DOCUMENT_BYTES = 3 * 2**20  # MaxRequestBodyBytes of the API server
MAX_NODES = 100_000
MAX_DEPTH = 100
MAX_DUPLICATES = 100  # reported for one document

#: a path as linked pairs, root `()`: cheap to extend for every value, spelled out only for an error
Path = tuple[Any, ...]
Position = tuple[int, int]


def path_keys(path: Path) -> tuple[Any, ...]:
    """The keys and indexes from the root on."""
    keys: list[Any] = []
    while path:
        path, last = path
        keys.append(last)
    return tuple(reversed(keys))


def keys_text(keys: tuple[Any, ...]) -> str:
    """`spec.containers[0].name`, as Kubernetes writes paths."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).lstrip(".")


def path_text(path: Path) -> str:
    return keys_text(path_keys(path))


class SyntaxFault(ValueError):  # noqa: N818 - a fault of the text, not of this program
    """The text cannot be read. Line and column count from 1."""

    def __init__(self, message: str, line: int = 1, column: int = 1) -> None:
        super().__init__(message)
        self.line, self.column = line, column


class Duplicate(msgspec.Struct, frozen=True):
    """A key that occurs twice in one mapping."""

    path: Path
    line: int
    column: int


_JSON_START = re.compile(r'\s*\{\s*["}]')


class Chunk(msgspec.Struct, frozen=True):
    """The text of one document; `line` is how many lines of the file come before it, `column` how many characters of
    its first line.

    A file that begins with a brace and a quoted key is JSON and nothing else, so its errors are reported as JSON's. A
    bare key, or a document after `---`, may be KYAML, which kubectl reads too once it has found it to be no JSON.
    """

    text: str
    line: int
    first: bool = False
    column: int = 0

    @property
    def has_brace(self) -> bool:
        return self.text.lstrip(" \t\r\n")[:1] == "{"

    @property
    def is_only_json(self) -> bool:
        return self.first and self.has_brace and _JSON_START.match(self.text) is not None


class Reading(msgspec.Struct, frozen=True):
    """What one document holds: JSON-like data, and the keys that occur twice (the last one won).

    `merged_over`: keys before a `<<` whose value the merged mapping replaced.
    """

    chunk: Chunk  # of this value alone
    data: Any
    duplicates: tuple[Duplicate, ...] = ()
    merged_over: tuple[Duplicate, ...] = ()


def decoded(raw: bytes | str) -> str:
    """The text without its byte order mark. UTF-8, or UTF-16 where it has such a byte order mark."""
    if isinstance(raw, str):
        return raw.removeprefix("\ufeff")
    if len(raw) > MAX_TEXT_BYTES:
        raise SyntaxFault(f"the file is larger than {MAX_TEXT_BYTES // 2**20} MiB; split it")
    encoding = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        line = before.count(b"\n") + 1
        raise SyntaxFault(
            f"invalid {error.encoding}: {error.reason}", line, error.start - before.rfind(b"\n")
        ) from None


_SEPARATOR = re.compile(r"^---(.*)$", re.MULTILINE)


def chunks(text: str) -> Iterator[Chunk]:
    """The documents of a text. Documents without anything but comments are left out."""
    start = line = 0
    for match in _SEPARATOR.finditer(text):
        rest = match.group(1).strip()
        here = line + text.count("\n", start, match.start())
        yield from _worth(Chunk(text[start : match.start()], line, start == 0))
        if rest and not rest.startswith("#"):
            raise SyntaxFault(f"nothing but a comment may follow --- on its line: {rest[:40]!r}", here + 1)
        start, line = match.end(), here
    yield from _worth(Chunk(text[start:], line, start == 0))


_CONTENT = re.compile(r"^[ \t\r]*[^\s#]", re.MULTILINE)


def _worth(chunk: Chunk) -> Iterator[Chunk]:
    if _CONTENT.search(chunk.text):
        yield chunk


def read(chunk: Chunk) -> Iterator[Reading]:
    """The data of a document: one, or several where JSON objects follow one another; raises SyntaxFault."""
    if len(chunk.text) > MAX_DOCUMENT_BYTES or len(chunk.text.encode(errors="replace")) > MAX_DOCUMENT_BYTES:
        message = f"the document is larger than {MAX_DOCUMENT_BYTES // 2**20} MiB, the API server's limit"
        raise SyntaxFault(message, chunk.line + 1)
    if chunk.has_brace:
        try:
            yield from _read_json(chunk) if chunk.is_only_json else list(_read_json(chunk))
            return
        except SyntaxFault:
            if chunk.is_only_json:
                raise
    data = plain_yaml.read(chunk.text)
    yield _Composer(chunk).document() if data is None else Reading(chunk, data)


# --- JSON ---

_WHITE = re.compile(r"[ \t\r\n]*")
_SURROGATE = "[\ud800-\udfff]"


def _read_json(chunk: Chunk) -> Iterator[Reading]:
    text, lone = chunk.text, re.search(r"\\u[dD][89a-fA-F]", chunk.text) is not None
    duplicated, nodes, lines = False, 0, _Lines(chunk)

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal duplicated, nodes
        nodes += len(items)
        if nodes > MAX_NODES:
            raise SyntaxFault(f"more than {MAX_NODES} values", chunk.line + 1)
        found = dict(items)
        duplicated = duplicated or len(found) != len(items)
        return found

    def refuse(name: str) -> Any:
        raise ValueError(f"{name} is no JSON")

    decoder = json.JSONDecoder(object_pairs_hook=pairs, parse_constant=refuse)
    at = _skip(text, 0)
    while at < len(text):
        begin, duplicated = at, False
        line, column = lines.place(begin)
        try:
            data, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            raise SyntaxFault(error.msg.lower(), chunk.line + error.lineno, error.colno) from None
        except RecursionError:
            raise SyntaxFault("nested too deeply", chunk.line + 1) from None
        except SyntaxFault:
            raise
        except ValueError as error:  # a number of thousands of digits, NaN
            raise SyntaxFault(str(error).split(";")[0].lower(), chunk.line + 1) from None
        own = Chunk(text[begin:at], line - 1, chunk.first, column - 1)
        twice: tuple[Duplicate, ...] = ()
        if duplicated:
            repeated = (Duplicate(path, *place) for path, place, again in json_places(own) if again)
            twice = tuple(islice(repeated, MAX_DUPLICATES))
        yield Reading(own, _mended(data) if lone else data, twice)
        at = _skip(text, at)


def _skip(text: str, at: int) -> int:
    match = _WHITE.match(text, at)
    return match.end() if match else at


def _mended(data: Any) -> Any:
    """Half a surrogate pair is U+FFFD, as in Go: no text may hold what cannot be encoded."""
    match data:
        case str():
            return re.sub(_SURROGATE, "\ufffd", data)
        case dict():
            return {_mended(key): _mended(item) for key, item in data.items()}
        case list():
            return [_mended(item) for item in data]
    return data


_JSON_TOKEN = r'[{}\[\],]|"(?:[^"\\]|\\.)*"(\s*:)?|[^\s{}\[\],"]+'


def _json_keys(text: str, begin: int) -> Iterator[tuple[Path, int, bool]]:
    """(path, offset, whether the key is a repetition) of every value of the object at `begin`."""
    levels: list[tuple[Path, set[str] | None, int]] = []  # path of the container, keys seen or None for a list, index
    path: Path = ()
    for match in re.compile(_JSON_TOKEN).finditer(text, begin):
        token = match.group()
        if token in ("]", "}"):
            levels.pop()
            if not levels:
                return
            continue
        if token == ",":
            if levels[-1][1] is None:
                parent, _, index = levels[-1]
                levels[-1] = (parent, None, index + 1)
            continue
        if match.group(1) is not None:
            parent, seen, _ = levels[-1]
            quoted = token[: -len(match.group(1))]
            key = json.loads(quoted) if "\\" in quoted else quoted[1:-1]
            path = (parent, key)
            yield path, match.start(), key in (seen or ())
            if seen is not None:
                seen.add(key)
            continue
        if levels and levels[-1][1] is None:
            path = (levels[-1][0], levels[-1][2])
            yield path, match.start(), False
        if token in ("[", "{"):
            levels.append((path, set() if token == "{" else None, 0))


def json_places(chunk: Chunk) -> Iterator[tuple[Path, Position, bool]]:
    """(path, position, whether the key is a repetition) of every value of a JSON text."""
    lines = _Lines(chunk)
    for path, offset, again in _json_keys(chunk.text, 0):
        yield path, lines.place(offset), again


class _Lines:
    """Positions of rising offsets in a chunk; looks at each character once."""

    def __init__(self, chunk: Chunk) -> None:
        self.text, self.line, self.start, self.seen = chunk.text, chunk.line + 1, -chunk.column, 0

    def place(self, offset: int) -> Position:
        passed = self.text.count("\n", self.seen, offset)
        if passed:
            self.line += passed
            self.start = self.text.rfind("\n", self.seen, offset) + 1
        self.seen = offset
        return self.line, offset - self.start + 1


# --- YAML ---

_TAG = "tag:yaml.org,2002:"
_RESOLVED_TAGS = {"str": str, "bool": bool, "int": int, "float": float, "null": type(None), "timestamp": str}


class _Composer:
    """Builds the data of one YAML document from libyaml's events."""

    def __init__(self, chunk: Chunk) -> None:
        self.chunk = chunk
        self.nodes = 0
        self.anchors: dict[str, tuple[Any, int] | None] = {}  # None while it is being read
        self.duplicates: list[Duplicate] = []
        self.merged_over: list[Duplicate] = []

    def document(self) -> Reading:
        import yaml
        from yaml._yaml import CParser

        self.yaml, self.scalar_event = yaml, yaml.ScalarEvent
        parser = CParser(self.chunk.text)
        self.next: Callable[[], Any] = parser.get_event
        try:
            self.next()  # the start of the stream
            if not isinstance(self.next(), yaml.DocumentStartEvent):
                return Reading(self.chunk, None)
            data = self.node(self.next(), (), None, 0)
            self.next()
            if not isinstance(event := self.next(), yaml.StreamEndEvent):
                raise self.fault("one document ends here and another begins without ---", event)
        except yaml.YAMLError as error:
            raise self.translated(error) from None
        except ValueError as error:
            if isinstance(error, SyntaxFault):
                raise
            raise SyntaxFault(f"unreadable: {error}", self.chunk.line + 1) from None
        finally:
            parser.dispose()
        return Reading(self.chunk, data, tuple(self.duplicates), tuple(self.merged_over))

    def translated(self, error: Any) -> SyntaxFault:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
        line, column = (mark.line, mark.column) if mark else (0, 0)
        lines: list[str] = self.chunk.text.split("\n", line + 1)
        if line < len(lines) and "\t" in lines[line][: column + 1]:
            problem = "a tab is no indentation in YAML; use spaces"
        return SyntaxFault(str(problem).replace("\n", " "), self.chunk.line + line + 1, column + 1)

    def fault(self, message: str, event: Any) -> SyntaxFault:
        return SyntaxFault(message, *self.place(event))

    def place(self, event: Any) -> Position:
        mark = event.start_mark
        return self.chunk.line + mark.line + 1, mark.column + 1

    def node(self, event: Any, path: Path, key: Any, depth: int) -> Any:
        """The value that begins with `event`, the one under `key` of what is at `path`."""
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise self.fault(f"more than {MAX_NODES} values, aliases counted as often as they are used", event)
        kind, anchor = type(event), event.anchor
        if kind is self.scalar_event:
            value = self.scalar(event)
            if anchor is not None:
                self.anchors[anchor] = (value, 1)
            return value
        if kind is self.yaml.AliasEvent:
            return self.alias(event)
        if depth >= MAX_DEPTH:
            raise self.fault(f"nested deeper than {MAX_DEPTH} levels", event)
        before = self.nodes
        if anchor is not None:
            self.anchors[anchor] = None
        read = self.sequence if kind is self.yaml.SequenceStartEvent else self.mapping
        value = read((path, key) if depth else (), depth + 1)
        if anchor is not None:
            self.anchors[anchor] = (value, self.nodes - before + 1)
        return value

    def alias(self, event: Any) -> Any:
        if event.anchor not in self.anchors:
            raise self.fault(f"unknown anchor {event.anchor!r}", event)
        known = self.anchors[event.anchor]
        if known is None:
            raise self.fault(f"anchor {event.anchor!r} contains itself", event)
        self.nodes += known[1]
        return known[0]

    def sequence(self, path: Path, depth: int) -> list[Any]:
        items: list[Any] = []
        following, end = self.next, self.yaml.SequenceEndEvent
        while type(event := following()) is not end:
            items.append(self.node(event, path, len(items), depth))
        return items

    def mapping(self, path: Path, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        merged: set[str] = set()  # keys that only a `<<` has set so far
        following, end, scalar_event = self.next, self.yaml.MappingEndEvent, self.scalar_event
        while type(event := following()) is not end:
            if type(event) is scalar_event and event.value == "<<" and _is_merge(event):
                self.merge(self.node(following(), path, "<<", depth), found, merged, path, event)
                continue
            key = self.node(event, path, None, depth)
            if type(key) is not str:
                key = self.key_text(key, event)
            if key in merged:
                merged.discard(key)
            elif key in found:
                self.note(self.duplicates, path, key, event)
            found[key] = self.node(following(), path, key, depth)
        return found

    def merge(self, value: Any, found: dict[str, Any], merged: set[str], path: Path, event: Any) -> None:
        """`<<`: what comes later wins, as in the JSON that kubectl makes of the text and sends (go-yaml v2, decode.go).

        So a key that stands before the `<<` loses its own value, unlike in YAML 1.1's merge type.
        """
        sources = value[::-1] if isinstance(value, list) else [value]
        for source in sources:
            if not isinstance(source, dict):
                raise self.fault("<< wants a mapping or a list of mappings", event)
            for key, item in source.items():
                if key in found and key not in merged and found[key] != item:
                    self.note(self.merged_over, path, key, event)
            merged |= source.keys() - found.keys()
            found.update(source)

    def note(self, notes: list[Duplicate], path: Path, key: str, event: Any) -> None:
        if len(notes) < MAX_DUPLICATES:
            notes.append(Duplicate((path, key), *self.place(event)))

    def key_text(self, value: Any, event: Any) -> str:
        """A key that is no text, as JSON has it."""
        match value:
            case bool():
                return "true" if value else "false"
            case int():
                return str(value)
            case float():
                return number_text(value)
        raise self.fault("a key must be a text, a number or a boolean", event)

    def scalar(self, event: Any) -> Any:
        text: str = event.value
        if event.tag is not None:
            value = self.tagged(text, event.tag, event)
        elif event.implicit[0]:
            value = plain(text)
        else:
            return text
        if type(value) is float and (value != value or value in (float("inf"), float("-inf"))):
            raise self.fault(f"{text} is no JSON number; quote it if it is meant as text", event)
        return value

    def tagged(self, text: str, tag: str, event: Any) -> Any:
        """The standard scalar tags are obeyed, all others are passed over, as in go-yaml."""
        name = tag.removeprefix(_TAG) if tag.startswith(_TAG) else ""
        if name == "binary":
            try:
                return binascii.a2b_base64("".join(text.split()), strict_mode=True).decode(errors="replace")
            except ValueError:
                raise self.fault("!!binary holds invalid base64", event) from None
        wanted = _RESOLVED_TAGS.get(name)
        if wanted is None or wanted is str:
            return text
        value = plain(text)
        if wanted is float and type(value) is int:
            return float(value)
        if type(value) is not wanted:
            raise self.fault(f"{text[:40]!r} is no !!{name}", event)
        return value


def _is_merge(event: Any) -> bool:
    """A scalar `<<` that is not quoted."""
    return bool(event.implicit[0]) or event.tag == _TAG + "merge"
