"""What the server makes of an update before it validates it (layer 1, pure): BeforeUpdate and PrepareForUpdate.

What a client cannot change is taken from the object as it is stored; each subresource takes over only its own fields.
The result is the `new` of the `validate_…` functions, and is stored where they find no error.
"""

from __future__ import annotations

from typing import Any, TypeVar

from msgspec.structs import replace

from minipod.api.types import Container, Namespace, Object, ObjectMeta, Pod, PodSpec, Secret
from minipod.api.validation.same import same

O = TypeVar("O", bound=Object)  # noqa: E741 - an object


def created_metadata(metadata: ObjectMeta, namespace: str, uid: str, created: str, generation: int = 0) -> ObjectMeta:
    """What the server fills in at creation, whatever a client sends (registry/rest/create.go BeforeCreate).

    `created`: an RFC 3339 time.
    """
    return replace(
        metadata,
        namespace=namespace,
        uid=uid,
        creation_timestamp=created,
        deletion_timestamp=None,
        deletion_grace_period_seconds=None,
        generation=generation,
        resource_version="",
        self_link="",
    )


def prepared_update(new: O, old: O) -> O:
    """An update of the object itself: its status and what the system keeps in metadata stay."""
    sent: Any = new
    stored: Any = old
    changes: dict[str, object] = {"metadata": _system_metadata(sent.metadata, stored.metadata)}
    if hasattr(stored, "status"):
        changes["status"] = stored.status
    if isinstance(new, Secret) and not new.type:
        changes["type"] = stored.type
    if isinstance(new, Namespace):
        changes["spec"] = stored.spec
    result: Any = replace(sent, **changes)
    if isinstance(new, Pod):
        result = _next_generation(result, stored)
    prepared: O = result
    return prepared


def prepared_ephemeral_containers(new: Pod, old: Pod) -> Pod:
    """Only the ephemeral containers are taken over."""
    spec = replace(old.spec, ephemeral_containers=new.spec.ephemeral_containers)
    return _next_generation(_only_spec(new, old, spec), old)


def prepared_resize(new: Pod, old: Pod) -> Pod:
    """Only resources and resize policies are taken over; validation reports added, removed or moved containers."""
    ours, theirs = new.spec, old.spec
    if len(ours.containers) != len(theirs.containers) or len(ours.init_containers) != len(theirs.init_containers):
        return new
    spec = replace(
        theirs,
        resources=ours.resources,
        containers=_with_new_resources(ours.containers, theirs.containers),
        init_containers=_with_new_resources(ours.init_containers, theirs.init_containers),
    )
    return _next_generation(_only_spec(new, old, spec), old)


def _with_new_resources(new: tuple[Container, ...], old: tuple[Container, ...]) -> tuple[Container, ...]:
    pairs = list(zip(new, old, strict=True))
    if any(ours.name != theirs.name for ours, theirs in pairs):
        return new
    return tuple(replace(theirs, resources=ours.resources, resize_policy=ours.resize_policy) for ours, theirs in pairs)


def _only_spec(new: Pod, old: Pod, spec: PodSpec) -> Pod:
    metadata = replace(
        _system_metadata(new.metadata, old.metadata),
        self_link=old.metadata.self_link,
        deletion_timestamp=old.metadata.deletion_timestamp,
        labels=old.metadata.labels,
        annotations=old.metadata.annotations,
        finalizers=old.metadata.finalizers,
        owner_references=old.metadata.owner_references,
    )
    return replace(new, metadata=metadata, spec=spec, status=old.status)


def _system_metadata(new: ObjectMeta, old: ObjectMeta) -> ObjectMeta:
    return replace(
        new,
        generation=old.generation,
        uid=new.uid or old.uid,
        creation_timestamp=old.creation_timestamp or new.creation_timestamp,
        deletion_timestamp=old.deletion_timestamp or new.deletion_timestamp,
        deletion_grace_period_seconds=(
            old.deletion_grace_period_seconds
            if new.deletion_grace_period_seconds is None
            else new.deletion_grace_period_seconds
        ),
    )


def _next_generation(new: Pod, old: Pod) -> Pod:
    if same(new.spec, old.spec):
        return new
    return replace(new, metadata=replace(new.metadata, generation=new.metadata.generation + 1))
