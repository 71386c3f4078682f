"""Kubernetes' protobuf form of request bodies (layer 6, pure): read only.

Typed clients of client-go send objects in no other form. The numbers and types of fields are data
(`data/protobuf.json`), so there is one decoder for all messages. What comes out is the object as JSON would have it.
Rules: apimachinery's serializer/protobuf, go-to-protobuf's mapping of Go's types.
"""

from __future__ import annotations

import base64
import functools
import struct
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib import resources
from typing import Any, NamedTuple

import msgspec

MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\0"
_MAX_DEPTH = 64
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_SCALARS = {"string", "int32", "int64", "bool", "bytes", "double"}


class ProtobufError(ValueError):
    """The bytes are no such message; one line."""


class Field(NamedTuple):
    """`inline`: the fields of the message are those of the one around it. `pointer`: zero is not the same as absent."""

    name: str
    type: str
    is_list: bool
    is_map: bool
    inline: bool
    pointer: bool


@functools.cache
def _messages() -> dict[str, list[str]]:
    text = resources.files("minipod.rest").joinpath("data/protobuf.json").read_bytes()
    messages: dict[str, list[str]] = msgspec.json.decode(text)["messages"]
    return messages


@functools.cache
def _fields(message: str) -> dict[int, Field]:
    """By number. Raises ProtobufError for a message that is not known."""
    if message not in _messages():
        raise ProtobufError(f"{message}: no such message is known")
    return dict(map(_field, _messages()[message]))


def _field(entry: str) -> tuple[int, Field]:
    """`2 .name *Type?` as data/protobuf.json has it."""
    number, name, type_ = entry.split(" ", 2)
    is_map = type_.startswith("map ")
    plain = type_.removeprefix("map ").removeprefix("*").removesuffix("?")
    return int(number), Field(
        name.removeprefix("."), plain, type_.startswith("*"), is_map, name.startswith("."), type_.endswith("?")
    )


def decode(body: bytes) -> dict[str, Any]:
    """The object in a body, with its kind and apiVersion. Raises ProtobufError."""
    if not body.startswith(_MAGIC):
        raise ProtobufError("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")
    kind = version = ""
    raw = b""
    for number, _, value in _pairs(body[len(_MAGIC) :]):
        if number == 1:
            names = {inner: _text(text) for inner, _, text in _pairs(value)}
            version, kind = names.get(1, ""), names.get(2, "")
        elif number == 2:
            raw = value
    if not kind:
        raise ProtobufError("the message has no kind")
    return {"apiVersion": version, "kind": kind, **_message(kind, raw, 0)}


def _message(name: str, data: bytes, depth: int) -> dict[str, Any]:
    if depth > _MAX_DEPTH:
        raise ProtobufError("the message is nested too deeply")
    fields = _fields(name)
    found: dict[str, Any] = {}
    for number, wire, value in _pairs(data):
        field = fields.get(number)
        if field is None:
            continue  # of a newer Kubernetes
        if field.is_map:
            key, item = _entry(field.type, value, depth)
            found.setdefault(field.name, {})[key] = item
            continue
        decoded = _value(field.type, wire, value, depth)
        if field.is_list:
            found.setdefault(field.name, []).append(decoded)
        elif field.inline:
            found |= decoded
        elif field.pointer or decoded not in ("", 0, False, {}, None):
            found[field.name] = decoded
    return found


def _entry(type_: str, data: Any, depth: int) -> tuple[str, Any]:
    key, item = "", "" if type_ in ("string", "bytes") else None
    for number, wire, value in _pairs(data):
        if number == 1:
            key = _text(value)
        elif number == 2:
            item = _value(type_, wire, value, depth)
    return key, item


def _value(type_: str, wire: int, value: Any, depth: int) -> Any:
    if (wire == _BYTES) == (type_ in ("int32", "int64", "bool", "double")):
        raise ProtobufError(f"a field of type {type_} has wire type {wire}")
    match type_:
        case "string":
            return _text(value)
        case "bytes":
            return base64.b64encode(value).decode()
        case "bool":
            return bool(value)
        case "int32" | "int64":
            return value - (1 << 64) if value >> 63 else value
        case "double":
            return struct.unpack("<d", value)[0]
    special = _SPECIAL.get(type_)
    if special is not None:
        return special({number: inner for number, _, inner in _pairs(value)})
    return _message(type_, value, depth + 1)


def _quantity(fields: dict[int, Any]) -> str:
    return _text(fields.get(1, b""))


def _int_or_string(fields: dict[int, Any]) -> int | str:
    if fields.get(1, 0) == 0:
        number = int(fields.get(2, 0))
        return number - (1 << 64) if number >> 63 else number
    return _text(fields.get(3, b""))


def _time(fields: dict[int, Any]) -> str | None:
    """RFC 3339, as metav1.Time; None for Go's zero time, which is an empty message."""
    if not fields:
        return None
    return f"{_moment(fields):%Y-%m-%dT%H:%M:%SZ}"


def _micro_time(fields: dict[int, Any]) -> str | None:
    if not fields:
        return None
    return f"{_moment(fields):%Y-%m-%dT%H:%M:%S}.{fields.get(2, 0) // 1000:06d}Z"


def _moment(fields: dict[int, Any]) -> datetime:
    seconds = int(fields.get(1, 0))
    try:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds - (1 << 64) if seconds >> 63 else seconds)
    except OverflowError:
        raise ProtobufError("a time is out of range") from None


def _json(fields: dict[int, Any]) -> Any:
    try:
        return msgspec.json.decode(fields.get(1, b"") or b"null")
    except msgspec.MsgspecError as error:
        raise ProtobufError(str(error)) from None


_SPECIAL = {
    "Quantity": _quantity,
    "IntOrString": _int_or_string,
    "Time": _time,
    "MicroTime": _micro_time,
    "FieldsV1": _json,
    "RawExtension": _json,
}


def _text(value: Any) -> str:
    if not isinstance(value, bytes):
        raise ProtobufError("a text is wanted")
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise ProtobufError("a text is not UTF-8") from None


def _pairs(data: Any) -> Iterator[tuple[int, int, Any]]:
    """Number, wire type and value of every field: a number, or bytes."""
    if not isinstance(data, bytes):
        raise ProtobufError("a message is wanted")
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value: Any
            value, at = _varint(data, at)
        else:
            if wire == _BYTES:
                size, at = _varint(data, at)
            else:
                size = {_FIXED64: 8, _FIXED32: 4}.get(wire, -1)
            if size < 0 or at + size > len(data):
                raise ProtobufError("the message ends too early")
            value, at = data[at : at + size], at + size
        yield number, wire, value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 64:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & ((1 << 64) - 1), at
        shift += 7
    raise ProtobufError("a number ends too early, or is too long")
