"""Objects that users cannot write (layer 5): events, the node. Their makers publish the changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from minipod.api.kinds import Kind, kind_of
from minipod.errors import UsageError


class ReadOnly:
    """A `registry.Keeper` of what a function lists, in its order."""

    def __init__(self, objects: Callable[[], Sequence[Any]]) -> None:
        self._objects = objects

    def find(self, _kind: Kind, namespace: str, name: str) -> Any | None:
        places = ((thing.metadata.namespace, thing.metadata.name, thing) for thing in self._objects())
        return next((thing for *place, thing in places if place == [namespace, name]), None)

    def list(self, _kind: Kind, namespace: str | None) -> list[Any]:
        return [thing for thing in self._objects() if namespace in (None, thing.metadata.namespace)]

    def completed(self, thing: Any) -> NoReturn:
        _refuse(thing)

    def create(self, thing: Any, _applied: bytes | None) -> NoReturn:
        _refuse(thing)

    def update(self, new: Any, _old: Any, _applied: bytes | None) -> NoReturn:
        _refuse(new)

    def delete(self, thing: Any, _grace_period_s: int | None) -> NoReturn:
        _refuse(thing)


def _refuse(thing: Any) -> NoReturn:
    kind = kind_of(thing)
    raise UsageError(f"{kind.plural}: cannot be changed: {kind.refused}")
