"""What an agent may ask of a spawner (layer 3), decoded and checked. Pure: neither a socket nor an effect."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from minipod.plan.process.namespaces import Clone
from minipod.runtime.spawner.inbox import BadMessage, decode, named

#: A key names a file of its own in `exits`.
_KEY = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,199}\Z"
_WITHOUT_KEY = ("list",)


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """Any request; `ops` stays raw until it is known to be a spawn."""

    id: Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)]
    do: Literal["spawn", "launch", "kill", "list", "reattach", "close_stdin", "forget"]
    key: Annotated[str, msgspec.Meta(pattern=_KEY)] = ""
    clone: Clone = Clone()
    ops: msgspec.Raw = msgspec.Raw(b"[]")
    stdio: Literal["pipes", "fds", "terminal"] = "pipes"
    stdin: bool = False
    keep: bool = True  # record the end on disk and hold the stdio until `forget`
    to_end: bool = False
    fds: tuple[str, ...] = ()


def request_of(data: bytes | memoryview, fds: list[int]) -> tuple[Request, dict[str, int]]:
    """The request and its descriptors by name. Raises BadMessage."""
    request = decode(data, Request)
    by_name = named(request.fds, fds, request.id)
    if not request.key and request.do not in _WITHOUT_KEY:
        raise BadMessage(f"{request.do} needs a key", request.id)
    for name in _needed(request):
        if name not in by_name:
            raise BadMessage(f"{request.do} needs the descriptor {name}", request.id)
    return request, by_name


def _needed(request: Request) -> tuple[str, ...]:
    return ("program", "target") if request.do == "launch" else ()
