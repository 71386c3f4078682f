"""Manifests to objects (layer 1, pure): text in, one `Document` per object out, with every error and its position.

Decodes only: defaults, validation and what minipod supports are `api.check`. Never raises for what a text holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Literal

from minipod.api import types
from minipod.api.decode import DUPLICATE_KEY, MERGED_OVER, SYNTAX, UNKNOWN_FIELD, WRONG_TYPE, Decoder
from minipod.api.field_error import FieldError
from minipod.api.kinds import ALL_KINDS
from minipod.api.positions import positions
from minipod.api.text import (
    Chunk,
    Path,
    Position,
    Reading,
    SyntaxFault,
    chunks,
    decoded,
    keys_text,
    path_keys,
    read,
)
from minipod.terminal import one_line

#: the kinds minipod knows, all of apiVersion v1
KINDS = {kind.name: kind for kind in ALL_KINDS}
_WORKLOADS = ("Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Job", "CronJob", "ReplicationController")
_LISTS = ("List", *(kind + "List" for kind in KINDS))
_REPEATED = {
    DUPLICATE_KEY: "Duplicate value: this key appears twice here",
    MERGED_OVER: "the << after it replaces this value, as in what kubectl sends; write << first",
}
MAX_FAULTY = 1_000
MAX_DOCUMENTS = 10_000


#: what becomes of unknown and repeated fields: the API server's query parameter of this name
FieldValidation = Literal["strict", "warn", "ignore"]


class Source:
    """The text that one or more documents come from; finds positions once, on the first request."""

    __slots__ = ("_chunk", "_places")

    def __init__(self, chunk: Chunk) -> None:
        self._chunk = chunk
        self._places: dict[Path, Position] | None = None

    def position(self, keys: tuple[str, ...]) -> Position:
        """Of the value, or of the nearest one around it; (0, 0) where there is none."""
        if self._places is None:
            self._places = positions(self._chunk)
        path: Path = ()
        for key in keys:
            inner: Path = (path, key)
            if inner not in self._places and key.isdecimal():
                inner = (path, int(key))
            if inner not in self._places:
                break
            path = inner
        return self._places.get(path, (0, 0))


class Document:
    """One object of a file, decoded as far as it could be.

    file, index: where it comes from; documents count from 0. kind, name, namespace: as written, empty where they are
    not. object: the typed object, None where it could not be decoded. errors and warnings: all that is known so far.
    written_empty: paths of lists and maps that are empty in the text.
    """

    __slots__ = ("_prefix", "_source", "errors", "file", "index", "kind", "name", "namespace", "object", "warnings",
                 "written_empty")  # fmt: skip

    def __init__(self, file: str, index: int, source: Source | None = None, prefix: tuple[str, ...] = ()) -> None:
        self.file, self.index = file, index
        self.kind = self.name = self.namespace = ""
        self.object: Any = None
        self.errors: tuple[FieldError, ...] = ()
        self.warnings: tuple[str, ...] = ()
        self.written_empty: frozenset[str] = frozenset()
        self._source, self._prefix = source, prefix

    def __repr__(self) -> str:
        return f"Document({self.file}#{self.index} {self.kind}/{self.name}, {len(self.errors)} errors)"

    @property
    def valid(self) -> bool:
        return not self.errors

    def position(self, field: str) -> Position:
        """(line, column) of a field path, or of the nearest value around it in the text; (0, 0) where there is none."""
        if self._source is None:
            return (0, 0)
        return self._source.position(self._prefix + field_keys(field))

    def placed(self, error: FieldError) -> FieldError:
        """The error with its position, where it has none yet, and without anything that a terminal would obey."""
        line, column = (error.line, error.column) if error.line else self.position(error.field)
        return FieldError(one_line(error.field), error.type, one_line(error.message), line, column)


_PATH_KEY = r"\[([^\]]*)\]|([^.\[\]]+)"


def field_keys(field: str) -> tuple[str, ...]:
    """`spec.containers[0].name` as ("spec", "containers", "0", "name")."""
    return tuple(match.group(2) or match.group(1) for match in re.finditer(_PATH_KEY, field))


def load(text: bytes | str, file: str = "-", validation: FieldValidation = "strict") -> list[Document]:
    """Every object in a text. `validation`: whether unknown and repeated fields are errors, warnings or neither."""
    documents: list[Document] = []
    faulty = 0
    try:
        found = False
        for chunk in chunks(decoded(text)):
            found = True
            for document in _load_chunk(chunk, file, len(documents), validation):
                documents.append(document)
                faulty += bool(document.errors)
                if faulty > MAX_FAULTY or len(documents) > MAX_DOCUMENTS:
                    many = f"{MAX_FAULTY} documents are wrong" if faulty > MAX_FAULTY else f"{MAX_DOCUMENTS} documents"
                    raise SyntaxFault(f"more than {many}; the rest is not read", chunk.line + 1)
        if not found and text.strip():
            raise SyntaxFault("there is no object in it, only comments")
    except SyntaxFault as fault:
        documents.append(_faulty(file, len(documents), fault))
    return documents


def _faulty(file: str, index: int, fault: SyntaxFault) -> Document:
    document = Document(file, index)
    document.errors = (FieldError("", SYNTAX, one_line(str(fault)), fault.line, fault.column),)
    return document


def _load_chunk(chunk: Chunk, file: str, index: int, validation: FieldValidation) -> Iterator[Document]:
    try:
        for reading in read(chunk):
            for document in _load_reading(reading, file, index, validation):
                yield document
                index += 1
    except SyntaxFault as fault:
        yield _faulty(file, index, fault)


def _load_reading(reading: Reading, file: str, index: int, validation: FieldValidation) -> Iterator[Document]:
    data, source = reading.data, Source(reading.chunk)
    if not _is_list(data):
        errors = [error for _, error in _repetitions(reading, is_list=False)]
        yield _decoded(Document(file, index, source), data, validation, errors)
        return
    repetitions = _repetitions(reading, is_list=True)
    for place, item in enumerate(data["items"]):
        document = Document(file, index + place, source, ("items", str(place)))
        errors = [error for of, error in repetitions if of == place]
        yield _decoded(document, _typed(item, data["kind"]), validation, errors)
    if not data["items"] and validation == "strict":
        document = Document(file, index, source)
        document.errors = tuple(error for _, error in repetitions if error.type == DUPLICATE_KEY)
        if document.errors:
            yield document


def _repetitions(reading: Reading, *, is_list: bool) -> list[tuple[int, FieldError]]:
    """(item, error) of the keys that stand twice, with paths as the item has them. The list's own go with its first."""
    found = []
    for kind, places in ((DUPLICATE_KEY, reading.duplicates), (MERGED_OVER, reading.merged_over)):
        for twice in places:
            keys = path_keys(twice.path)
            item = int(keys[1]) if is_list and keys[0] == "items" and len(keys) > 2 else -1
            field = keys_text(keys if item < 0 else keys[2:])
            found.append((max(item, 0), FieldError(field, kind, _REPEATED[kind], twice.line, twice.column)))
    return found


def _typed(item: Any, list_kind: str) -> Any:
    """The items of a PodList need no kind of their own (apimachinery, unstructured.go: decodeToList)."""
    if list_kind == "List" or not isinstance(item, dict) or item.get("kind") or item.get("apiVersion"):
        return item
    return {**item, "apiVersion": "v1", "kind": list_kind.removesuffix("List")}


def _is_list(data: Any) -> bool:
    wanted = isinstance(data, dict) and data.get("apiVersion") == "v1" and data.get("kind") in _LISTS
    return wanted and isinstance(data.get("items"), list)


def _decoded(document: Document, data: Any, validation: FieldValidation, errors: list[FieldError]) -> Document:
    """Fills the document from its data. `errors`: those of its text."""
    struct = _identify(document, data, errors)
    if struct is not None:
        decoder = Decoder()
        document.object = decoder.decode(struct, data)
        document.written_empty = decoder.written_empty
        errors += map(_hidden, decoder.errors) if struct is types.Secret else decoder.errors
    lenient = (MERGED_OVER,) if validation == "strict" else (MERGED_OVER, UNKNOWN_FIELD, DUPLICATE_KEY)
    found = [error for error in errors if error.type in lenient and validation != "ignore"]
    document.warnings = tuple(one_line(f"{error.field}: {error.message}") for error in found)
    document.errors = tuple(document.placed(error) for error in errors if error.type not in lenient)
    if any(error.type == WRONG_TYPE for error in document.errors):
        document.object = None
    return document


def _identify(document: Document, data: Any, errors: list[FieldError]) -> type[types.Object] | None:
    """The struct for the document's kind; records its name."""
    if not isinstance(data, dict):
        errors.append(FieldError("", SYNTAX, "a Kubernetes object is wanted, that is fields such as kind: Pod"))
        return None
    kind, version, metadata = data.get("kind"), data.get("apiVersion"), data.get("metadata")
    document.kind = kind if isinstance(kind, str) else ""
    if isinstance(metadata, dict):
        name, namespace = metadata.get("name"), metadata.get("namespace")
        document.name = name if isinstance(name, str) else ""
        document.namespace = namespace if isinstance(namespace, str) else ""
    for field, value in (("apiVersion", version), ("kind", kind)):
        if value is None or value == "":
            errors.append(FieldError(field, WRONG_TYPE, f"Required value: for example {_EXAMPLES[field]}"))
        elif not isinstance(value, str):
            errors.append(FieldError(field, WRONG_TYPE, "Invalid value: must be a string"))
    if errors and any(error.type == WRONG_TYPE for error in errors):
        return None
    if version == "v1" and kind in KINDS:
        return KINDS[str(kind)].struct
    errors.append(_unknown_kind(str(kind), str(version)))
    return None


def _hidden(error: FieldError) -> FieldError:
    """An error about a value of a Secret, without the value."""
    if not error.field.startswith(("data", "stringData")):
        return error
    return FieldError(error.field, error.type, error.message.partition(", not ")[0], error.line, error.column)


_EXAMPLES = {"apiVersion": "apiVersion: v1", "kind": "kind: Pod"}


def _unknown_kind(kind: str, version: str) -> FieldError:
    from minipod.api.suggest import kind_suggestion

    if kind in KINDS:
        message = f'Unsupported value: "{version[:60]}": {kind} is of apiVersion v1'
        return FieldError("apiVersion", WRONG_TYPE, message)
    message = f'Unsupported value: "{kind[:60]}": minipod knows {", ".join(KINDS)}'
    if kind in _WORKLOADS:
        message = f'Unsupported value: "{kind}": minipod runs Pods; write what is under spec.template as kind: Pod'
    else:
        message += kind_suggestion(kind, list(KINDS))
    return FieldError("kind", WRONG_TYPE, message)
