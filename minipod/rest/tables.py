"""Tables of objects, as kubectl asks the server for them (layer 6, pure). The columns are `api.object_columns`'.

Rules: apimachinery's meta/v1 types.go (Table); pkg/printers/internalversion/printers.go.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from minipod.api.kinds import Kind

IncludeObject = Literal["None", "Metadata", "Object"]
_INTEGERS = ("DATA", "COUNT")  # cells that are numbers in the API server's tables
_SPELT = {"IP": "IP", "NODE": "Node", "CPU": "CPU"}


class _Partial(msgspec.Struct, frozen=True):
    """Of an object only what a row has of it."""

    metadata: msgspec.Raw


_partial = msgspec.json.Decoder(_Partial)


def column_definitions(kind: Kind) -> list[dict[str, Any]]:
    """Every column; those of `-o wide` have priority 1."""
    table = kind.table
    return [
        {
            "name": _title(title),
            "type": "integer" if title in _INTEGERS else "string",
            "format": "name" if title == "NAME" else "",
            "description": "",
            "priority": int(title in table.wide),
        }
        for title in table.columns
    ]


def _title(title: str) -> str:
    return _SPELT.get(title, title.title())


def table(
    kind: Kind, objects: Sequence[bytes], now_s: float, resource_version: str, include: IncludeObject, *, titles: bool
) -> dict[str, Any]:
    """A Table of objects as JSON. `titles`: with the column definitions, which only the first table of a watch has."""
    metadata = {"resourceVersion": resource_version} if resource_version else {}
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": column_definitions(kind) if titles else None,
        "rows": [{"cells": _cells(kind, data, now_s), "object": _object(data, include)} for data in objects],
    }


def _cells(kind: Kind, data: bytes, now_s: float) -> list[Any]:
    thing = msgspec.json.decode(data, type=kind.struct)
    cells = kind.table.row(thing, now_s, True)
    titles = kind.table.columns
    return [_cell(title, cell) for title, cell in zip(titles, cells, strict=True)]


def _cell(title: str, cell: str) -> Any:
    return int(cell) if title in _INTEGERS and cell.isdecimal() else cell


def _object(data: bytes, include: IncludeObject) -> Any:
    if include == "None":
        return None
    return msgspec.Raw(data) if include == "Object" else partial(data)


def partial(data: bytes) -> dict[str, Any]:
    """PartialObjectMetadata of an object."""
    metadata = _partial.decode(data).metadata
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata}
