"""The vocabulary in which all validation is written (layer 1, pure): paths, findings, and a handful of rules.

Every rule takes the value first and the path of its field last: `check.required(port.name, path, "name")`. The path is
the tuple that Python makes of those arguments anyway, its first element usually being the path of the parent, so that
nothing is built or joined while there is nothing to report. Error types, their standard first words and the way paths
are written are Kubernetes' (apimachinery/pkg/util/validation/field). Knows no Kubernetes type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sized
from typing import Any

import msgspec

from minipod.api.field_error import FieldError

Path = tuple[Any, ...]
"""Field names, list indexes (int) and map keys (Key); the first element may be the parent's Path."""

Format = Callable[[str], str]
"""What a string must look like: returns the complaint, empty where there is none (`formats.py`)."""


class Key(str):
    """A map key as a path segment: written `labels[app]`, not `labels.app`."""

    __slots__ = ()


def render(path: Path) -> str:
    """`((("spec",), "containers", 0), "ports", 1, "name")` -> `spec.containers[0].ports[1].name`."""
    text = ""
    for segment in path:
        if type(segment) is tuple:
            text = render(segment)
        elif type(segment) is int or type(segment) is Key or segment == "":
            text += f"[{segment}]"
        else:
            text = f"{text}.{segment}" if text else segment
    return text


def quote(value: object) -> str:
    """A value as the messages show it: JSON, shortened where it is long."""
    if type(value) is Key:
        value = str(value)
    text = msgspec.json.encode(value, enc_hook=str).decode()
    return text if len(text) <= 120 else f"{text[:100]}…"


class Check:
    """Collects the findings about one object. Methods named after an error type report it; the others are rules,
    which report what they find and return True where the value passed.

    `written_empty`: paths of the lists and maps that are empty in the text. To Kubernetes they differ from absent
    ones where a field must not be set at all; in the structs both are the same."""

    __slots__ = ("errors", "written_empty")

    def __init__(self, written_empty: frozenset[str] = frozenset()) -> None:
        self.errors: list[FieldError] = []
        self.written_empty = written_empty

    # Findings

    def _add(self, path: Path, kind: str, message: str) -> None:
        self.errors.append(FieldError(render(path), f"FieldValue{kind}", message))

    def missing(self, *path: Any, why: str = "") -> None:
        self._add(path, "Required", f"Required value: {why}" if why else "Required value")

    def invalid(self, *path: Any, value: object, why: str) -> None:
        self._add(path, "Invalid", f"Invalid value: {quote(value)}: {why}")

    def duplicate(self, *path: Any, value: object) -> None:
        self._add(path, "Duplicate", f"Duplicate value: {quote(value)}")

    def unsupported(self, *path: Any, value: object, allowed: tuple[str, ...]) -> None:
        supported = ", ".join(quote(word) for word in allowed)
        meant = [word for word in allowed if word.lower() == str(value).lower()]
        hint = f"; did you mean {quote(meant[0])}?" if meant else ""
        self._add(path, "NotSupported", f"Unsupported value: {quote(value)}: supported values: {supported}{hint}")

    def not_found(self, *path: Any, value: object, why: str = "") -> None:
        self._add(path, "NotFound", f"Not found: {quote(value)}" + (f": {why}" if why else ""))

    def forbidden(self, *path: Any, why: str) -> None:
        self._add(path, "Forbidden", f"Forbidden: {why}")

    def too_long(self, *path: Any, limit: int) -> None:
        self._add(path, "TooLong", f"Too long: may not be more than {limit} bytes")

    def too_many(self, *path: Any, count: int, limit: int) -> None:
        self._add(path, "TooMany", f"Too many: {count}: must have at most {limit} items")

    def internal(self, *path: Any, why: str) -> None:
        """The server could not continue, and reports that instead of a result."""
        self.errors.append(FieldError(render(path), "InternalError", f"Internal error: {why}"))

    # Rules

    def required(self, value: object, *path: Any, why: str = "") -> bool:
        """Set and not empty."""
        if value:
            return True
        self.missing(*path, why=why)
        return False

    def format(self, value: str | None, form: Format, *path: Any) -> bool:
        """Has the form. None counts as empty."""
        complaint = form(value or "")
        if complaint:
            self.invalid(*path, value=value or "", why=complaint)
        return not complaint

    def named(self, value: str | None, form: Format, *path: Any, why: str = "") -> bool:
        """Set, and has the form."""
        return self.required(value, *path, why=why) and self.format(value, form, *path)

    def one_of(self, value: str | None, allowed: tuple[str, ...], *path: Any) -> bool:
        """One of the allowed words; empty is not one of them."""
        if value in allowed:
            return True
        self.unsupported(*path, value=value or "", allowed=allowed)
        return False

    def choice(self, value: str | None, allowed: tuple[str, ...], *path: Any) -> bool:
        """Set, and one of the allowed words."""
        return self.required(value, *path) and self.one_of(value, allowed, *path)

    def in_range(self, value: int, low: int, high: int, *path: Any) -> bool:
        if low <= value <= high:
            return True
        self.invalid(*path, value=value, why=f"must be between {low} and {high}, inclusive")
        return False

    def not_negative(self, value: int | None, *path: Any) -> bool:
        if value is None or value >= 0:
            return True
        self.invalid(*path, value=value, why="must be 0 or more")
        return False

    def unique(self, value: str, seen: set[str], *path: Any) -> bool:
        """Not seen before; is remembered."""
        if value in seen:
            self.duplicate(*path, value=value)
            return False
        seen.add(value)
        return True

    def absent(self, value: object, *path: Any, why: str) -> bool:
        """Not set at all."""
        if value is None:
            return True
        self.forbidden(*path, why=why)
        return False

    def unchanged(self, new: object, old: object, *path: Any) -> bool:
        if new == old:
            return True
        self.invalid(*path, value=new, why="may not be changed")
        return False

    def short_enough(self, value: Sized, limit: int, *path: Any) -> bool:
        size = len(value.encode()) if isinstance(value, str) else len(value)
        if size <= limit:
            return True
        self.too_long(*path, limit=limit)
        return False

    def only_defaults(
        self, value: object, default: object, fields: Iterable[tuple[str, str]], path: Path, *, why: str
    ) -> None:
        """None of these fields (attribute, name on the wire) of a struct is set, not even to an empty list."""
        for attribute, name in fields:
            found = getattr(value, attribute)
            if found != getattr(default, attribute) or self.is_written_empty(found, path, name):
                self.forbidden(path, name, why=why)

    def is_written_empty(self, value: object, *path: Any) -> bool:
        """The text has an empty list or map here, or within a struct that otherwise is as if absent."""
        if not self.written_empty:
            return False
        text = render(path)
        if isinstance(value, tuple | dict):
            return text in self.written_empty
        return any(path.startswith(f"{text}.") for path in self.written_empty)
