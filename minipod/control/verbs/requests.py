"""Shared by all verbs (layer 6): decoding of requests, waiting until the client disconnects."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar, cast

import msgspec

from minipod.agent.registry.registry import refuse
from minipod.api.decode import Decoder
from minipod.api.types import Object
from minipod.control.wire import Connection, Message, WireError, decoded
from minipod.errors import UsageError

T = TypeVar("T")
Typed = TypeVar("Typed", bound=Object)


async def or_gone(connection: Connection, awaitable: Awaitable[T]) -> T | None:
    """The result; None when the peer disconnects first. The awaitable never outlives this."""
    task = asyncio.ensure_future(awaitable)
    try:
        await asyncio.wait((task, connection.gone), return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        task.cancel()


def converted(request: Message, kind: type[T], part: msgspec.Raw | None = None) -> T:
    """The request's fields, or those of a part of it. Raises UsageError naming the field that is wrong."""
    try:
        return decoded(request.line if part is None else bytes(part), kind)
    except WireError as error:
        raise UsageError(f"{request.head.verb}: {error}") from None


def typed(kind: str, name: str, struct: type[Typed], data: object) -> Typed:
    """An object or a part of one that a request holds as data, decoded as in a manifest.

    `kind`, `name`: the object, for messages. Raises ManifestError with every fault.
    """
    decoder = Decoder()
    made = decoder.decode(struct, data)
    refuse(kind, name, decoder.errors)
    return cast(Typed, made)
