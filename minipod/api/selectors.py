"""Label selectors and field selectors (layer 1, pure): the texts of `-l` and `--field-selector`, and LabelSelector.

Rules: apimachinery/pkg/labels/selector.go and pkg/fields/selector.go. Looks nothing up: an object's labels or fields
are arguments.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import msgspec

from minipod.api.types import LabelSelector

MAX_LENGTH = 64 << 10
_KEY = r"[^\s,!=()<>]+"
_TERM = re.compile(  # no two parts of it can take the same spaces: it would try all ways to share them
    rf"\s*(?:(!)\s*)?({_KEY})(?:\s+(in|notin)\s*\(([^()]*)\)|\s*(==|=|!=|>|<)\s*({_KEY}|))?",
    re.ASCII,
)


_SPACE = re.compile(r"\s*")


class InvalidSelector(ValueError):  # noqa: N818 - the text is invalid
    """The text is no selector. `str()` names the place."""

    def __init__(self, text: str, why: str) -> None:
        super().__init__(f"{text if len(text) <= 200 else text[:200] + '…'!r} is no {why}")


class Requirement(msgspec.Struct, frozen=True):
    """`operator`: in, notin, exists, !, gt, lt"""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        match self.operator:
            case "exists":
                return value is not None
            case "!":
                return value is None
            case "in":
                return value in self.values
            case "notin":
                return value not in self.values
        return value is not None and _is_number(value) and _above(self.operator, int(value), int(self.values[0]))


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[+-]?[0-9]{1,19}", text, re.ASCII) is not None


def _above(operator: str, value: int, bound: int) -> bool:
    return value > bound if operator == "gt" else value < bound


def parse_labels(text: str) -> tuple[Requirement, ...]:
    """The requirements of `app=web,tier in (a, b),!old`; none of an empty text. Raises InvalidSelector."""
    _check_length(text)
    found: list[Requirement] = []
    position = 0
    if not text.strip():
        return ()
    while True:
        match = _TERM.match(text, position)
        if match is None:
            raise InvalidSelector(text, f"label selector: at {text[position : position + 20]!r}")
        found.append(_requirement(match, text))
        position = _end_of_space(text, match.end())
        if position == len(text):
            return tuple(found)
        if text[position] != ",":
            raise InvalidSelector(text, f"label selector: a comma is wanted at {text[position : position + 20]!r}")
        position += 1


def _check_length(text: str) -> None:
    if len(text) > MAX_LENGTH:
        raise InvalidSelector(text, f"selector: longer than {MAX_LENGTH >> 10} KiB")


def _end_of_space(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    return found.end() if found is not None else position


def _requirement(match: re.Match[str], text: str) -> Requirement:
    negated, key, word, listed, sign, value = match.groups()
    if negated:
        if word or sign:
            raise InvalidSelector(text, "label selector: ! stands before a key alone")
        return Requirement(key, "!")
    if word:
        return Requirement(key, word, tuple(sorted({item.strip() for item in listed.split(",")})))
    if sign in (">", "<"):
        if not _is_number(value):
            raise InvalidSelector(text, f"label selector: {sign} needs an integer")
        return Requirement(key, "gt" if sign == ">" else "lt", (value,))
    if sign:
        return Requirement(key, "notin" if sign == "!=" else "in", (value,))
    return Requirement(key, "exists")


def matches_labels(requirements: tuple[Requirement, ...], labels: Mapping[str, str]) -> bool:
    return all(requirement.matches(labels) for requirement in requirements)


def from_label_selector(selector: LabelSelector | None) -> tuple[Requirement, ...] | None:
    """The requirements of a LabelSelector; None where it matches nothing because there is none."""
    if selector is None:
        return None
    names = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "!"}
    equal = tuple(Requirement(key, "in", (value,)) for key, value in sorted(selector.match_labels.items()))
    return equal + tuple(
        Requirement(term.key, names.get(term.operator, term.operator), term.values)
        for term in selector.match_expressions
    )


class FieldTerm(msgspec.Struct, frozen=True):
    """`path` must (not) be `value`."""

    path: str
    value: str
    equal: bool = True


_FIELD = re.compile(r"([^=!,]+)(==|=|!=)\s*((?:[^,\\]|\\.)*)")
_ESCAPED = re.compile(r"\\([\\,=])")


def parse_fields(text: str) -> tuple[FieldTerm, ...]:
    """The terms of `status.phase=Running,metadata.name!=x`; none of an empty text. Raises InvalidSelector."""
    _check_length(text)
    terms: list[FieldTerm] = []
    position = 0
    while position < len(text):
        match = _FIELD.match(text, position)
        if match is None or (match.end() < len(text) and text[match.end()] != ","):
            raise InvalidSelector(text, "field selector; write for example status.phase=Running")
        terms.append(FieldTerm(match.group(1).strip(), _ESCAPED.sub(r"\1", match.group(3)), match.group(2) != "!="))
        position = match.end() + 1
    return tuple(terms)


def matches_fields(terms: tuple[FieldTerm, ...], value_of: Callable[[str], str]) -> bool:
    """`value_of(path)` is the field's value as text, empty where it has none."""
    return all((value_of(term.path) == term.value) is term.equal for term in terms)
