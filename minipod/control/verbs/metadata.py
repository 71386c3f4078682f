"""The verbs `label` and `annotate` (layer 6): set and remove keys of the object as it is stored now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from minipod.agent.node import Node
from minipod.agent.registry.registry import Preconditions
from minipod.control.verbs.changes import Target, kind_wanted
from minipod.control.verbs.requests import converted
from minipod.control.wire import Message
from minipod.errors import ConflictError


class MetadataRequest(msgspec.Struct, frozen=True):
    """`set`: keys and values; `remove`: keys. `overwrite`: existing values may be changed."""

    target: Target
    field: Literal["labels", "annotations"]
    set: dict[str, str] = {}
    remove: tuple[str, ...] = ()
    overwrite: bool = False
    dry_run: bool = False


def change_metadata(node: Node, message: Message) -> dict[str, Any]:
    """Raises NotFoundError, ConflictError, ManifestError. Answers with the field before and after."""
    request = converted(message, MetadataRequest)
    target, field = request.target, request.field
    before: dict[str, str] = {}

    def change(stored: Any) -> Any:
        before.update(getattr(stored.metadata, field))
        after = changed(before, request.set, request.remove, request.overwrite)
        return replace(stored, metadata=replace(stored.metadata, **{field: after}))

    done = node.registry.update(
        kind_wanted(target.kind, message.head.verb),
        target.namespace,
        target.name,
        change,
        Preconditions(resource_version=target.resource_version),
        dry_run=request.dry_run,
    )
    return {"before": before, "after": getattr(done.object.metadata, field)}


def changed(
    before: Mapping[str, str], new: Mapping[str, str], removed: tuple[str, ...], overwrite: bool
) -> dict[str, str]:
    """The keys and values after the change. Raises ConflictError where it would overwrite a value."""
    after = dict(before)
    for key, value in new.items():
        if not overwrite and before.get(key, value) != value:
            raise ConflictError(f"'{key}' already has a value ({before[key]}), and --overwrite is false")
        after[key] = value
    for key in removed:
        after.pop(key, None)
    return after
