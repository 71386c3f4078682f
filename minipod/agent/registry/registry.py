"""The registry of all objects (layer 5): read, create, update, delete, with Kubernetes' optimistic concurrency.

Everything is synchronous on the event loop, each change is one transaction of the store, and answers with the object
as it is stored; so a change that is made from the stored object (`update`) loses nothing of others' changes, and one
that names the resourceVersion it was made from is refused when there is a newer one. Pods are kept by their workers
(`pods.table`, which is a `Keeper` here), all other kinds by `stored.StoredObjects`. What may change is the API layer's
to say. Rules: apiserver's registry/generic/registry/store.go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec

from minipod.agent.registry.names import named
from minipod.agent.registry.store import Store
from minipod.agent.registry.stored import BUILT_IN_NAMESPACES, DamagedError, StoredObjects
from minipod.api.defaults import defaulted
from minipod.api.field_error import FieldError
from minipod.api.kinds import NAMESPACE, WRITABLE_KINDS, Kind, kind_named, kind_of
from minipod.api.types import Object
from minipod.api.validation import validate_update
from minipod.api.validation.prepare import prepared_update
from minipod.errors import AlreadyExistsError, ConflictError, InvalidError, ManifestError, NotFoundError, UsageError
from minipod.plan.volumes.claims import refusal_to_grow

O = TypeVar("O", bound=Object)  # noqa: E741 - an object

MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


class Preconditions(NamedTuple):
    """What must hold of the object that is changed or deleted; empty fields are not compared."""

    uid: str = ""
    resource_version: str = ""


NO_PRECONDITIONS = Preconditions()


class Keeper(Protocol):
    """Stores the objects of some kinds. Every method may raise HostError (the store); then nothing has changed."""

    def find(self, kind: Kind, namespace: str, name: str) -> Any | None:
        """The stored object; None if there is none."""

    def list(self, kind: Kind, namespace: str | None) -> list[Any]:
        """By namespace and name; `namespace` None: of all."""

    def completed(self, thing: Any) -> Any:
        """A defaulted, valid object with the fields that its creation sets. Stores nothing."""

    def create(self, thing: Any, applied: bytes | None) -> Any:
        """Stores a defaulted, valid object under a name that is free, and the manifest that `apply` made it from."""

    def update(self, new: Any, old: Any, applied: bytes | None) -> Any:
        """Stores `new`, prepared and valid, in the place of `old`, the object as it is stored; and the manifest."""

    def delete(self, thing: Any, grace_period_s: int | None) -> Any:
        """Deletes the object as it is stored, or marks it for its end. Answers with its last state until now."""


class Update(NamedTuple):
    """The result of an update: the stored object, and whether it has changed."""

    object: Any
    changed: bool


class Registry:
    """`add_keeper` sets the keeper of a kind; `others` keeps all other kinds."""

    def __init__(self, store: Store, others: StoredObjects) -> None:
        self._store = store
        self._others = others
        self._keepers: dict[str, Keeper] = {}

    def add_keeper(self, kind: Kind, keeper: Keeper) -> None:
        self._keepers[kind.name] = keeper

    def _keeper(self, kind: Kind) -> Keeper:
        return self._keepers.get(kind.name, self._others)

    # -- reading ------------------------------------------------------------------------------------------------

    def find(self, struct: type[O], namespace: str, name: str) -> O | None:
        kind = kind_named(struct.__name__)
        found: O | None = self._keeper(kind).find(kind, kind.place(namespace), name)
        return found

    def get(self, kind: Kind, namespace: str, name: str) -> Any:
        """The stored object. Raises NotFoundError with the API server's message."""
        found = self._keeper(kind).find(kind, kind.place(namespace), name)
        if found is None:
            raise NotFoundError(f'{kind.plural} "{name}" not found')
        return found

    def objects(self, kind: Kind, namespace: str | None = None) -> list[Any]:
        """By namespace and name; `namespace` None: of all."""
        return self._keeper(kind).list(kind, None if namespace is None else kind.place(namespace))

    def all(self, struct: type[O], namespace: str | None = None) -> list[O]:
        return self.objects(kind_named(struct.__name__), namespace)

    # -- writing ------------------------------------------------------------------------------------------------

    def create(self, thing: O, applied: dict[str, Any] | None = None, *, dry_run: bool = False) -> O:
        """Stores a defaulted, valid object. `applied`: the manifest, where `apply` wrote it.

        `dry_run`: stores nothing, answers with the object as it would be stored. Raises ConflictError where the name is
        taken.
        """
        kind = kind_of(thing)
        if kind.refused:
            raise UsageError(f"{kind.plural}: cannot be created: {kind.refused}")
        keeper, namespace = self._keeper(kind), kind.place(thing.metadata.namespace)  # type: ignore[attr-defined]

        def is_taken(name: str) -> bool:
            return keeper.find(kind, namespace, name) is not None

        new = named(thing, is_taken)
        if is_taken(new.metadata.name):
            raise AlreadyExistsError(f'{kind.plural} "{new.metadata.name}" already exists')
        stored: O = keeper.completed(new) if dry_run else keeper.create(new, _encoded(applied))
        return stored

    def update(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        change: Callable[[Any], Any],
        preconditions: Preconditions = NO_PRECONDITIONS,
        *,
        applied: dict[str, Any] | None = None,
        dry_run: bool = False,
    ) -> Update:
        """Makes another object of the stored one. `change(stored)` answers with what the caller wants instead.

        Its defaults, what a client cannot change and the validation are added here. `applied`: as for `create`.
        Raises NotFoundError; ConflictError where a precondition does not hold; ManifestError where the new object is
        not valid; what `change` raises.
        """
        if kind.refused:
            raise UsageError(f"{kind.plural}: cannot be changed: {kind.refused}")
        old = self.get(kind, namespace, name)
        wanted = change(old)
        check_preconditions(kind, old, with_own(preconditions, wanted, old))
        new = prepared_update(defaulted(wanted, old.metadata.namespace), old)
        changed = _content(new) != _content(old)
        if changed:
            refuse_invalid(new, old)
        if dry_run:
            return Update(new, changed)
        if changed:
            return Update(self._keeper(kind).update(new, old, _encoded(applied)), changed)
        if applied is not None:
            metadata = old.metadata
            self._store.put_applied(kind.name, metadata.namespace, name, metadata.uid, msgspec.json.encode(applied))
        return Update(old, changed)

    def replace(self, new: O, old: O) -> O:
        """A controller's change: `new` was made of `old` and is stored as it is. Raises ConflictError where that is not
        the newest any more, NotFoundError where it is gone.
        """
        kind, metadata = kind_of(old), old.metadata  # type: ignore[attr-defined]  # every kind has it
        stored = self.get(kind, metadata.namespace, metadata.name)
        check_preconditions(kind, stored, Preconditions(metadata.uid, metadata.resource_version))
        replaced: O = self._keeper(kind).update(new, stored, None)
        return replaced

    def delete(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        preconditions: Preconditions = NO_PRECONDITIONS,
        grace_period_s: int | None = None,
    ) -> Any:
        """Deletes it or marks it for its end: the object as it is stored then, or was. Raises NotFoundError;
        ConflictError where a precondition does not hold, and for a namespace that is not empty.
        """
        if kind.refused:
            raise UsageError(f"{kind.plural}: cannot be deleted: {kind.refused}")
        try:
            stored = self.get(kind, namespace, name)
        except DamagedError:
            return self._others.remove_damaged(kind, kind.place(namespace), name)
        check_preconditions(kind, stored, preconditions)
        if kind is NAMESPACE and name in BUILT_IN_NAMESPACES:
            raise ConflictError(f'{kind.plural} "{name}" is forbidden: this namespace may not be deleted')
        if kind.holds_objects:
            self._check_empty(kind, name)
        return self._keeper(kind).delete(stored, grace_period_s)

    def remove(self, thing: Object) -> None:
        """For controllers: removes an object that was marked for deletion and is not used any more."""
        self._others.remove(thing)

    def _check_empty(self, kind: Kind, name: str) -> None:
        """Raises ConflictError where objects are in it: a namespace goes when what is in it was deleted by name."""
        inside = [
            f"{inner.singular}/{thing.metadata.name}"
            for inner in WRITABLE_KINDS
            if inner.namespaced
            for thing in self.objects(inner, name)
        ]
        if inside:
            shown = ", ".join(inside[:5]) + (" …" if len(inside) > 5 else "")
            raise ConflictError(f'{kind.singular} "{name}" is not empty: delete first {shown}')

    # -- applied manifests ----------------------------------------------------------------------------------------

    def applied(self, thing: Any) -> dict[str, Any]:
        """The manifest that was applied last; empty where none was."""
        metadata = thing.metadata
        data = self._store.applied(thing.kind, metadata.namespace, metadata.name)
        return {} if data is None else msgspec.json.decode(data, type=dict[str, Any])


def check_preconditions(kind: Kind, stored: Any, wanted: Preconditions) -> None:
    """Raises ConflictError with the API server's message."""
    metadata = stored.metadata
    start = f'Operation cannot be fulfilled on {kind.plural} "{metadata.name}": '
    if wanted.uid and wanted.uid != metadata.uid:
        raise ConflictError(
            f"{start}Precondition failed: UID in precondition: {wanted.uid}, UID in object meta: {metadata.uid}"
        )
    if wanted.resource_version and wanted.resource_version != metadata.resource_version:
        raise ConflictError(start + MODIFIED)


def with_own(preconditions: Preconditions, wanted: Any, old: Any) -> Preconditions:
    """The preconditions in the new object's metadata, as a client's replacement or patch may set."""
    metadata = wanted.metadata
    return Preconditions(
        preconditions.uid or metadata.uid or old.metadata.uid,
        preconditions.resource_version or metadata.resource_version or old.metadata.resource_version,
    )


def refuse_invalid(new: Any, old: Any) -> None:
    """Raises ManifestError with all faults of the change."""
    if refusal := refusal_to_grow(new, old):
        raise ManifestError(refusal)
    refuse(new.kind, new.metadata.name, validate_update(new, old))


def refuse(kind: str, name: str, errors: list[FieldError]) -> None:
    """Raises ManifestError where there are errors."""
    if errors:
        texts: list[object] = [f"{error.field}: {error.message}" for error in errors]
        causes = tuple((error.type, error.field, error.message) for error in errors)
        raise InvalidError(f'{kind} "{name}" is invalid: {"; ".join(map(str, texts))}', texts, causes)


def _encoded(manifest: dict[str, Any] | None) -> bytes | None:
    return None if manifest is None else msgspec.json.encode(manifest)


def _content(thing: Any) -> bytes:
    """The object's JSON without the fields whose change does not count."""
    metadata = msgspec.structs.replace(thing.metadata, generation=0, resource_version="")
    return msgspec.json.encode(msgspec.structs.replace(thing, metadata=metadata))
