"""What an agent may ask of a spawner (layer 3), decoded and checked. Pure: neither a socket nor an effect."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from minipod.plan.process.namespaces import Clone
from minipod.runtime.spawner.inbox import BadMessage, named, number_of
from minipod.runtime.spawner.messages import CHECKS, decode, struct_of

#: A key names a file of its own in `exits`.
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")
_WITHOUT_KEY = ("list",)
_VERBS = ("spawn", "launch", "kill", "list", "adopt", "reattach", "hold", "close_stdin", "forget")
_STDIO = ("pipes", "fds", "terminal")
_NEEDED = {"launch": ("program", "target"), "hold": ("pidfd",)}
_ID_LIMIT = 1 << 53


class Request(NamedTuple):
    """Any request. `operations` are checked one by one when they are made."""

    id: int
    do: str
    key: str = ""
    clone: Clone = Clone()
    ops: tuple[Any, ...] = ()
    stdio: str = "pipes"
    stdin: bool = False
    keep: bool = True  # record the end on disk and hold the stdio until `forget`
    to_end: bool = False
    after: str = ""
    pid: int = 0
    started_at_ns: int = 0
    fds: tuple[str, ...] = ()


def request_of(data: bytes | memoryview, fds: list[int]) -> tuple[Request, dict[str, int]]:
    """The request and its descriptors by name. Raises BadMessage."""
    value = decode(data)
    fields = {}
    for name, check in _FIELDS.items():
        if name in value:
            try:
                fields[name] = check(value[name])
            except ValueError as error:
                raise BadMessage(f"not understood: {name}: {error}", number_of(data)) from None
        elif name in ("id", "do"):
            raise BadMessage(f"not understood: {name} is missing", number_of(data))
    request = Request(**fields)
    by_name = named(request.fds, fds, request.id)
    if not request.key and request.do not in _WITHOUT_KEY:
        raise BadMessage(f"{request.do} needs a key", request.id)
    for name in _needed(request):
        if name not in by_name:
            raise BadMessage(f"{request.do} needs the descriptor {name}", request.id)
    return request, by_name


def _needed(request: Request) -> tuple[str, ...]:
    return _NEEDED.get(request.do, ())


def _below(limit: int, meaning: str) -> Callable[[object], int]:
    def check(value: object) -> int:
        if type(value) is not int or not 0 <= value < limit:
            raise ValueError(f"must be {meaning}")
        return value

    return check


def _key(value: object) -> str:
    if type(value) is not str or (value and not _KEY.fullmatch(value)):
        raise ValueError("must be the name of a file")
    return value


def _one_of(*values: str) -> Callable[[object], str]:
    def check(value: object) -> str:
        if type(value) is not str or value not in values:
            raise ValueError(f"must be one of {', '.join(values)}")
        return value

    return check


def _operations(value: object) -> tuple[Any, ...]:
    if type(value) is not list:
        raise ValueError("must be a list")
    return tuple(value)


_FIELDS: Mapping[str, Callable[[object], Any]] = {
    "id": _below(_ID_LIMIT, "a number of a request"),
    "do": _one_of(*_VERBS),
    "key": _key,
    "clone": lambda value: struct_of(Clone, value),
    "ops": _operations,
    "stdio": _one_of(*_STDIO),
    "stdin": CHECKS["bool"],
    "keep": CHECKS["bool"],
    "to_end": CHECKS["bool"],
    "after": _key,
    "pid": _below(1 << 31, "a process"),
    "started_at_ns": _below(1 << 63, "a time"),
    "fds": CHECKS["tuple[str, ...]"],
}
