"""The verbs `patch` and `edit` (layer 6): a client's patch, or the difference that was made in an editor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec

from minipod.agent.node import Node
from minipod.agent.pods.table import Pods
from minipod.agent.pods.worker import PodWorker
from minipod.agent.registry.registry import Preconditions, check_preconditions, with_own
from minipod.api.kinds import POD
from minipod.api.merge.difference import difference
from minipod.api.patch import PatchType, patched
from minipod.api.types import Pod
from minipod.control.verbs.changes import Data, Target, as_data, decoded_object, kind_wanted, update_data
from minipod.control.verbs.conditions import set_status
from minipod.control.verbs.debug import set_ephemeral_containers
from minipod.control.verbs.requests import converted
from minipod.control.verbs.resize import request_resize
from minipod.control.wire import Message
from minipod.errors import UsageError

SUBRESOURCES: dict[str, Callable[[Node, Pods, PodWorker, Pod], dict[str, Any]]] = {
    "status": set_status,
    "ephemeralcontainers": set_ephemeral_containers,
    "resize": request_resize,
}
"""Of pods: called with `(node, pods, worker, new)`, takes from the new pod the fields of the subresource."""


class PatchRequest(msgspec.Struct, frozen=True):
    target: Target
    patch: Any
    type: PatchType = "strategic"
    subresource: Literal["", "status", "ephemeralcontainers", "resize"] = ""
    dry_run: bool = False


class EditRequest(msgspec.Struct, frozen=True):
    """`original`: the object as the editor showed it. `edited`: as it was saved."""

    target: Target
    original: Data
    edited: Data


def patch(node: Node, pods: Pods, message: Message) -> dict[str, Any]:
    """Raises NotFoundError, ConflictError, ManifestError."""
    request = converted(message, PatchRequest)
    kind = kind_wanted(request.target.kind, "patch")

    def change(current: Data) -> Data:
        return patched(kind.name, current, request.patch, request.type)

    if not request.subresource:
        done = update_data(node.registry, kind, request.target, change, dry_run=request.dry_run)
        return {"changed": done.changed, "object": done.object}
    if kind is not POD:
        raise UsageError(f"patch: {kind.plural} have no subresource {request.subresource} that can be patched")
    worker = _worker(pods, request.target)
    new = decoded_object(POD, request.target.name, change(as_data(worker.pod)))
    check_preconditions(POD, worker.pod, with_own(Preconditions(), new, worker.pod))
    if request.dry_run:
        return {"changed": new != worker.pod, "object": new}
    return {"changed": True, "object": new, **SUBRESOURCES[request.subresource](node, pods, worker, new)}


def _worker(pods: Pods, target: Target) -> PodWorker:
    worker = pods.current(target.namespace, target.name)
    check_preconditions(POD, worker.pod, Preconditions(resource_version=target.resource_version))
    return worker


def edit(node: Node, message: Message) -> dict[str, Any]:
    """Applies the editor's changes to the object as it is stored now. Raises as `patch`."""
    request = converted(message, EditRequest)
    kind = kind_wanted(request.target.kind, "edit")
    wanted = difference(kind.name, request.original, request.edited)
    done = update_data(
        node.registry, kind, request.target, lambda current: patched(kind.name, current, wanted, "strategic")
    )
    return {"changed": done.changed}
