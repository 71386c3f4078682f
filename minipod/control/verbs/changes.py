"""Shared by the verbs that change objects (layer 6): decoding of objects from JSON, updates by the registry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from minipod.agent.registry.registry import Preconditions, Registry, Update
from minipod.api.kinds import Kind, kind_of_word
from minipod.control.verbs.requests import typed
from minipod.errors import UsageError

Data = dict[str, Any]


class Target(msgspec.Struct, frozen=True):
    """The object that a request is about. `resource_version`: the version that it must still have, if any."""

    kind: str
    name: str
    namespace: str = "default"
    resource_version: str = ""


def kind_wanted(word: str, verb: str) -> Kind:
    """Raises UsageError for a kind that minipod does not know."""
    kind = kind_of_word(word)
    if kind is None:
        raise UsageError(f'{verb}: minipod doesn\'t have a resource type "{word}"')
    return kind


def update_data(
    registry: Registry, kind: Kind, target: Target, change: Callable[[Data], Data], *, dry_run: bool = False
) -> Update:
    """`Registry.update` with a change of JSON data. Raises what that raises."""
    return registry.update(
        kind,
        target.namespace,
        target.name,
        lambda stored: decoded_object(kind, target.name, change(as_data(stored))),
        Preconditions(resource_version=target.resource_version),
        dry_run=dry_run,
    )


def as_data(thing: Any) -> Data:
    """The object as JSON data."""
    data: Data = msgspec.json.decode(msgspec.json.encode(thing))
    return data


def decoded_object(kind: Kind, name: str, data: Data) -> Any:
    """Decodes the object. Raises ManifestError with all faults."""
    return typed(kind.name, name, kind.struct, data)
