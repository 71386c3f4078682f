"""Compares an object with the table of `api.fields` (layer 1, pure): what is refused, what has no effect."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import msgspec

from minipod.api import types
from minipod.api.field_error import FieldError
from minipod.api.fields import CLUSTER, ROWS, SUPPORTED, UNSUPPORTED, Row
from minipod.api.kinds import kind_of
from minipod.api.schema import LIST, STRUCT, fields_of
from minipod.api.text import Path, path_text

#: FieldError.type of what Kubernetes accepts and minipod does not do
UNSUPPORTED_TYPE = "Unsupported"


class _Rule(msgspec.Struct, frozen=True):
    """What one field of a struct needs: a row to report, a struct to look into."""

    attribute: str
    wire: str
    row: Row | None
    inner: type[types.Object] | None
    many: bool


@cache
def rows_of(struct: str) -> dict[str, Row]:
    """{field: row}"""
    return {name: row for row in ROWS if row.struct == struct for name in row.fields}


@cache
def _rules(struct: type[types.Object]) -> tuple[_Rule, ...]:
    """Only the fields of a struct that may have a finding, themselves or inside."""
    rows = rows_of(struct.__name__)
    found = []
    for field in fields_of(struct).values():
        row = rows.get(field.wire)
        reported = row if row is not None and row.level in (CLUSTER, UNSUPPORTED) else None
        shape = field.shape.items if field.shape.kind == LIST else field.shape
        inner = shape.struct if shape is not None and shape.kind == STRUCT else None
        if row is None or (row.level != SUPPORTED and row.when is None) or inner is None or not _rules(inner):
            inner = None
        if reported or inner:
            found.append(_Rule(field.attribute, field.wire, reported, inner, field.shape.kind == LIST))
    return tuple(found)


class Findings:
    """`errors`: one per place. `warnings`: one per field, however often it is used."""

    def __init__(self) -> None:
        self.errors: list[FieldError] = []
        self.warnings: list[str] = []
        self._reported: set[tuple[str, str]] = set()

    def report(self, row: Row, path: Path, wire: str) -> None:
        if row.level == UNSUPPORTED:
            self.errors.append(FieldError(path_text(path), UNSUPPORTED_TYPE, f"not supported by minipod: {row.note}"))
        elif (row.struct, wire) not in self._reported:
            self._reported.add((row.struct, wire))
            self.warnings.append(f"{path_text(path)}: has no effect here: {row.note}")


def findings(manifest: types.Object) -> Findings:
    """What `run` refuses in an object as it was written (before defaults), and what it ignores."""
    found = Findings()
    kind = kind_of(manifest)
    if kind.refused:
        why = f"not supported by minipod: {kind.name}: {kind.refused}"
        found.errors.append(FieldError("kind", UNSUPPORTED_TYPE, why))
    else:
        _walk(manifest, (), found)
        _annotations(manifest.metadata.annotations if isinstance(manifest, types.Pod) else {}, found)
    return found


_APPARMOR = "container.apparmor.security.beta.kubernetes.io/"
_SECCOMP = ("seccomp.security.alpha.kubernetes.io/", "container.seccomp.security.alpha.kubernetes.io/")


def _annotations(annotations: Mapping[str, str], found: Findings) -> None:
    """Fields of earlier days: AppArmor's are still taken for the field (api.defaults), seccomp's no more since 1.27."""
    for key, value in annotations.items():
        place = f"metadata.annotations[{key}]"
        if key.startswith(_APPARMOR) and value not in ("", "unconfined"):
            note = rows_of("SecurityContext")["appArmorProfile"].note
            found.errors.append(FieldError(place, UNSUPPORTED_TYPE, f"not supported by minipod: {note}"))
        elif key.startswith(_SECCOMP):
            found.warnings.append(f"{place}: has no effect since Kubernetes 1.27: use securityContext.seccompProfile")


def _walk(value: types.Object, path: Path, found: Findings) -> None:
    for rule in _rules(type(value)):
        item = getattr(value, rule.attribute)
        if item is None or item == "" or item == ():
            continue
        row, here = rule.row, (path, rule.wire)
        if row is not None and _applies(row, item, type(value), rule.attribute):
            found.report(row, here, rule.wire)
        elif rule.inner is not None and rule.many:
            for index, element in enumerate(item):
                _walk(element, (here, index), found)
        elif rule.inner is not None:
            _walk(item, here, found)


def _applies(row: Row, item: Any, struct: type[types.Object], attribute: str) -> bool:
    if item in row.fine if row.fine else False:
        return False
    if item == {} or (row.when is not None and not row.when(item)):
        return False
    return bool(item != getattr(_empty(struct), attribute))


@cache
def _empty(struct: type[types.Object]) -> types.Object:
    return struct()
