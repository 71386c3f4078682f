"""The verbs `label` and `annotate` (layer 6): set and remove keys of the object as it is stored now."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from minipod.agent.node import Node
from minipod.agent.registry.registry import Preconditions
from minipod.api.keys import changed
from minipod.control.verbs.changes import Target, kind_wanted
from minipod.control.verbs.requests import converted
from minipod.control.wire import Message


class MetadataRequest(msgspec.Struct, frozen=True):
    """`set`: keys and values; `remove`: keys. `overwrite`: existing values may be changed."""

    target: Target
    field: Literal["labels", "annotations"]
    set: dict[str, str] = {}
    remove: tuple[str, ...] = ()
    overwrite: bool = False
    dry_run: bool = False


def change_metadata(node: Node, message: Message) -> dict[str, Any]:
    """Raises NotFoundError, ConflictError, ManifestError. Answers with the field before and after, and the object."""
    request = converted(message, MetadataRequest)
    target, field = request.target, request.field
    before: dict[str, str] = {}

    def change(stored: Any) -> Any:
        before.update(getattr(stored.metadata, field))
        after = changed(field, before, request.set, request.remove, request.overwrite)
        return replace(stored, metadata=replace(stored.metadata, **{field: after}))

    done = node.registry.update(
        kind_wanted(target.kind, message.head.verb),
        target.namespace,
        target.name,
        change,
        Preconditions(resource_version=target.resource_version),
        dry_run=request.dry_run,
    )
    return {"before": before, "after": getattr(done.object.metadata, field), "object": done.object}
