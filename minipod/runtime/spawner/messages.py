"""Messages between agent and spawner as the spawner reads and writes them (layer 3): JSON, checked by hand. Pure.

With json and not msgspec, for its memory (`light`). What is in a message is checked all the same: the agent is trusted,
but a child's report may be written by a process of the container that may trace it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from minipod.errors import utf8
from minipod.runtime.spawner.inbox import BadMessage, number_of
from minipod.runtime.spawner.light import annotations_of

T = TypeVar("T")

DESCRIPTION_LIMIT = 300  # characters of what failed
_MESSAGE_LIMIT = 4096  # and of the whole error message

_CHECKS_OF: dict[type, tuple[tuple[str, Callable[[object], object]], ...]] = {}
_encode: Callable[[object], str] = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_INTEGER_LIMIT = 1 << 63  # what the agent's decoder takes for a number


def encode(message: object) -> bytes:
    """Raises UnicodeEncodeError for what is no text."""
    return _encode(message).encode()


def decode(data: bytes | memoryview) -> dict[str, Any]:
    """An object of JSON. Raises BadMessage."""
    try:
        value = json.loads(str(data, "utf-8"))
    except (ValueError, RecursionError) as error:
        raise BadMessage(f"not understood: {error}", number_of(data)) from None
    if type(value) is not dict:
        raise BadMessage("not understood: no object", None)
    return value


def report_of(data: bytes | memoryview) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """(facts, error) of a child, of which nothing is believed but what is asked for. Raises BadMessage."""
    value = decode(data)
    try:
        facts = {_text(name): _fact(fact) for name, fact in _mapping(value.get("facts", {})).items()}
        error = value.get("error")
        return facts, None if error is None else _error(_mapping(error))
    except ValueError as error:
        raise BadMessage(f"not understood: {error}", None) from None


def struct_of(kind: type[T], value: object) -> T:
    """A struct from what JSON has for it; other fields are left alone, as msgspec does. Raises ValueError."""
    mapping = _mapping(value)
    fields = {}
    if kind not in _CHECKS_OF:
        prepare(kind)
    for name, check in _CHECKS_OF[kind]:
        if name in mapping:
            try:
                fields[name] = check(mapping[name])
            except ValueError as error:
                raise ValueError(f"{kind.__name__}.{name}: {error}") from None
    try:
        return kind(**fields)
    except TypeError as error:
        raise ValueError(str(error)) from None


def prepare(*kinds: type) -> None:
    """Work out what checks their fields. Raises KeyError for a type that no operation has had so far."""
    for kind in kinds:
        _CHECKS_OF[kind] = tuple((name, CHECKS[annotation]) for name, annotation in annotations_of(kind))


def error_fields(error: BaseException, doing: str, described: Callable[[], str] | None = None) -> dict[str, Any]:
    """What an answer says of a failure. `doing`: the operation; `described`: how it is shown to people."""
    message = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or type(error).__name__
    if isinstance(error, OSError) and error.filename:
        message = f"{error.filename}: {message}"
    if described is not None:
        message = f"{described()[:DESCRIPTION_LIMIT]}: {message}"
    return {
        "message": utf8(message)[:_MESSAGE_LIMIT],
        "errno": getattr(error, "errno", 0) or 0,
        "reason": getattr(error, "reason", ""),
        "op": doing,
    }


def _mapping(value: object) -> dict[str, Any]:
    if type(value) is not dict:
        raise ValueError("must be an object")
    return value


def _text(value: object) -> str:
    if type(value) is not str:
        raise ValueError("must be a string")
    value.encode()  # raises where it has half of a surrogate pair
    return value


def _integer(value: object) -> int:
    if type(value) is not int:
        raise ValueError("must be an integer")
    return value


def _flag(value: object) -> bool:
    if type(value) is not bool:
        raise ValueError("must be true or false")
    return value


def _texts(value: object) -> tuple[str, ...]:
    return tuple(_text(item) for item in _list(value))


def _integers(value: object) -> tuple[int, ...]:
    return tuple(_integer(item) for item in _list(value))


def _list(value: object) -> list[Any]:
    if type(value) is not list:
        raise ValueError("must be a list")
    return value


def _text_by_text(value: object) -> dict[str, str]:
    return {_text(key): _text(item) for key, item in _mapping(value).items()}


def _integer_or_none(value: object) -> int | None:
    return None if value is None else _integer(value)


def _fact(value: object) -> object:
    """A number, a text, or a list of numbers: it goes to the agent as it is, whose decoder has limits."""
    if type(value) is str:
        return _text(value)
    numbers = _list(value) if type(value) is list else [value]
    if not all(type(number) is int and -_INTEGER_LIMIT <= number < _INTEGER_LIMIT for number in numbers):
        raise ValueError("must be numbers of 64 bits")
    return value


def _error(value: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "message": _text(value.get("message", "")),
        "errno": _fact(_integer(value.get("errno", 0))),
        "reason": _text(value.get("reason", "")),
        "op": _text(value.get("op", "")),
    }


#: by the text of the annotation
CHECKS: Mapping[str, Callable[[object], object]] = {
    "str": _text,
    "int": _integer,
    "bool": _flag,
    "int | None": _integer_or_none,
    "tuple[str, ...]": _texts,
    "tuple[int, ...]": _integers,
    "dict[str, str]": _text_by_text,
}
