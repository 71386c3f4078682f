"""The verbs `object.create`, `.update`, `.patch`, `.delete` (layer 6): one object each, as the Kubernetes API has it.

They answer with the object as it is stored, at once; what follows from it is a watch's to see.

Rules: apiserver's registry/generic/registry/store.go and endpoints/handlers.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from minipod.agent.node import Node
from minipod.agent.objects.claims import Claims
from minipod.agent.pods.table import Pods
from minipod.agent.registry.registry import Preconditions, check_preconditions, refuse, with_own
from minipod.api.check import Document, check
from minipod.api.field_error import FieldError
from minipod.api.kinds import POD, Kind
from minipod.api.load import FieldValidation
from minipod.api.patch import PatchType, patched
from minipod.api.types import Object
from minipod.control.verbs.applier import replaced
from minipod.control.verbs.changes import Data, Target, as_data, decoded_object, kind_wanted, update_data
from minipod.control.verbs.patch import SUBRESOURCES
from minipod.control.verbs.requests import converted
from minipod.control.wire import Message
from minipod.errors import ConflictError, UsageError
from minipod.plan.volumes.claims import admitted
from minipod.runtime.offload import off_loop

Subresource = Literal["", "status", "ephemeralcontainers", "resize"]


class CreateRequest(msgspec.Struct, frozen=True):
    """`text`: the object as the client sent it, JSON or YAML. `validation`: what unknown and repeated fields are."""

    kind: str
    text: str
    namespace: str = "default"
    validation: FieldValidation = "strict"
    dry_run: bool = False


class UpdateRequest(msgspec.Struct, frozen=True):
    target: Target
    text: str
    subresource: Subresource = ""
    validation: FieldValidation = "strict"
    dry_run: bool = False


class PatchObjectRequest(msgspec.Struct, frozen=True):
    target: Target
    patch: Any
    type: PatchType = "strategic"
    subresource: Subresource = ""
    dry_run: bool = False


class DeleteObjectRequest(msgspec.Struct, frozen=True):
    """`uid` and the target's resource version: what must hold of the object, where they are not empty."""

    target: Target
    uid: str = ""
    grace_period: int | None = None
    dry_run: bool = False


async def create(node: Node, message: Message) -> dict[str, Any]:
    """Last line: `object`, `warnings`. Raises ManifestError, ConflictError (the name is taken), UsageError."""
    request = converted(message, CreateRequest)
    kind = kind_wanted(request.kind, "create")
    document = await _decoded(kind, request.text, request.namespace, request.validation)
    new = document.object
    if new.metadata.resource_version:
        raise UsageError("resourceVersion should not be set on objects to be created")
    if kind.namespaced and new.metadata.namespace != request.namespace:
        raise UsageError("the namespace of the provided object does not match the namespace sent on the request")
    stored = node.registry.create(admitted(new), dry_run=request.dry_run)
    return {"object": _encoded(stored), "warnings": document.warnings}


async def update(node: Node, pods: Pods, message: Message) -> dict[str, Any]:
    """Replaces the object, or the fields of a subresource. Last line: `object`, `warnings`."""
    request = converted(message, UpdateRequest)
    kind, target = kind_wanted(request.target.kind, "update"), request.target
    data, warnings = await off_loop(_read, kind, request.text, request.validation)
    metadata = data.get("metadata", {})
    if (name := metadata.get("name", target.name)) != target.name:
        raise UsageError(f"the name of the object ({name}) does not match the name on the URL ({target.name})")
    target = msgspec.structs.replace(target, resource_version=metadata.get("resourceVersion", ""))

    def change(current: Data) -> Data:
        if metadata.get("uid", current["metadata"]["uid"]) != current["metadata"]["uid"]:
            raise ConflictError(
                f'Operation cannot be fulfilled on {kind.plural} "{name}": Precondition failed: UID in precondition: '
                f"{metadata['uid']}, UID in object meta: {current['metadata']['uid']}"
            )
        return replaced(data, current)

    done = _changed(node, pods, kind, target, change, request.subresource, request.dry_run)
    return {"object": _encoded(done), "warnings": warnings}


def patch(node: Node, pods: Pods, message: Message) -> dict[str, Any]:
    """Last line: `object`."""
    request = converted(message, PatchObjectRequest)
    kind = kind_wanted(request.target.kind, "patch")

    def change(current: Data) -> Data:
        return patched(kind.name, current, request.patch, request.type)

    return {
        "object": _encoded(_changed(node, pods, kind, request.target, change, request.subresource, request.dry_run))
    }


def _changed(
    node: Node, pods: Pods, kind: Kind, target: Target, change: Any, subresource: Subresource, dry_run: bool
) -> Any:
    """The object after `change(data) -> data`. Raises NotFoundError, ConflictError, ManifestError, UsageError."""
    if not subresource:
        return update_data(node.registry, kind, target, change, dry_run=dry_run).object
    if kind is not POD:
        raise UsageError(f"{kind.plural} have no subresource {subresource}")
    worker = pods.current(target.namespace, target.name)
    new = decoded_object(POD, target.name, change(as_data(worker.pod)))
    wanted = Preconditions(resource_version=target.resource_version)
    check_preconditions(POD, worker.pod, with_own(wanted, new, worker.pod))
    if not dry_run:
        SUBRESOURCES[subresource](node, pods, worker, new)
    return worker.pod


def delete(node: Node, claims: Claims, message: Message) -> dict[str, Any]:
    """Deletes the object or begins its end. Last line: `object`, as it is then, and whether it `exists` still."""
    request = converted(message, DeleteObjectRequest)
    target, kind = request.target, kind_wanted(request.target.kind, "delete")
    preconditions = Preconditions(request.uid, target.resource_version)
    if request.dry_run:
        stored = node.registry.get(kind, target.namespace, target.name)
        check_preconditions(kind, stored, preconditions)
        return {"object": _encoded(stored), "exists": True}
    deleted = node.registry.delete(kind, target.namespace, target.name, preconditions, request.grace_period)
    if kind.protected:
        claims.reconcile()
    found = node.registry.find(kind.struct, target.namespace, target.name)
    return {"object": _encoded(deleted), "exists": found is not None}


async def _decoded(kind: Kind, text: str, namespace: str, validation: FieldValidation) -> Document:
    """A valid object of the kind. Raises ManifestError with its causes."""
    document = (await off_loop(check, text, "-", namespace, validation))[0]
    _refuse_faulty(document, kind, _name(document.object, document.name))
    return document


def _name(thing: Object | None, written: str) -> str:
    metadata = getattr(thing, "metadata", None)
    return str(metadata.name or metadata.generate_name) if metadata is not None else written


def _read(kind: Kind, text: str, validation: FieldValidation) -> tuple[Data, tuple[str, ...]]:
    """The data of an object of the kind, which decodes. Raises ManifestError with its causes."""
    from minipod.api.load import load

    document = load(text, "-", validation)[0]
    _refuse_faulty(document, kind, document.name)
    return as_data(document.object), document.warnings


def _refuse_faulty(document: Document, wanted: Kind, name: str) -> None:
    """Raises ManifestError for an object with faults, or of another kind."""
    found = document.kind
    if not document.errors and found != wanted.name:
        message = f'the object provided is unrecognized (must be of type {wanted.name}): it is a "{found}"'
        refuse(found, "", [FieldError("kind", "WrongType", message)])
    refuse(found or wanted.name, name, list(document.errors))


def _encoded(thing: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(thing))
