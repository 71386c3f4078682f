"""Label selectors (layer 6): `a=b,c!=d,e in (f,g),!h` as a predicate (apimachinery labels.Parse). Pure."""

from __future__ import annotations

import re
from collections.abc import Callable

from minipod.errors import UsageError

Labels = dict[str, str]
_KEY = r"[A-Za-z0-9]([-A-Za-z0-9_./]*[A-Za-z0-9])?"
_VALUE = r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?"
_EQUALITY = re.compile(rf"(?P<key>{_KEY})\s*(?P<op>==|!=|=)\s*(?P<value>{_VALUE})")
_SET = re.compile(rf"(?P<key>{_KEY})\s+(?P<op>in|notin)\s*\((?P<values>[^()]*)\)")
_EXISTS = re.compile(rf"(?P<not>!?)\s*(?P<key>{_KEY})")


def matcher(text: str) -> Callable[[Labels], bool]:
    """A function that says whether labels match all requirements. Raises UsageError."""
    requirements = [_requirement(part.strip(), text) for part in re.split(r",(?![^(]*\))", text)]
    return lambda labels: all(requirement(labels) for requirement in requirements)


def _requirement(part: str, whole: str) -> Callable[[Labels], bool]:
    if found := _EQUALITY.fullmatch(part):
        key, value = found["key"], found["value"]
        if found["op"] == "!=":
            return lambda labels: labels.get(key) != value
        return lambda labels: labels.get(key) == value
    if found := _SET.fullmatch(part):
        key, values = found["key"], {value.strip() for value in found["values"].split(",")}
        if found["op"] == "notin":
            return lambda labels: labels.get(key) not in values
        return lambda labels: labels.get(key) in values
    if found := _EXISTS.fullmatch(part):
        key, wanted = found["key"], not found["not"]
        return lambda labels: (key in labels) == wanted
    raise UsageError(f'unable to parse selector "{whole}" at "{part}": use for example app=web,tier!=db')
