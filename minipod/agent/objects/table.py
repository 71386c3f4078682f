"""ConfigMaps, Secrets, claims, volumes and namespaces (layer 5): kept in the store, told to whoever watches.

Pods are `pods.Pods`. What is valid is the API layer's; who may change what, and merging, is `apply`'s.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from minipod.agent.store import Record, Store
from minipod.api import types
from minipod.api.kinds import kind_named
from minipod.api.timestamps import timestamp
from minipod.errors import ConflictError, NotFoundError

O = TypeVar("O", bound=types.Object)  # noqa: E741 - an object

STRUCTS: dict[str, type[types.Object]] = {
    "ConfigMap": types.ConfigMap,
    "Secret": types.Secret,
    "PersistentVolumeClaim": types.PersistentVolumeClaim,
    "PersistentVolume": types.PersistentVolume,
    "Namespace": types.Namespace,
}
_APPLIED = "applied/"  # + kind: the manifest that `apply` saw last, of an object in the row of the same name


class ObjectChange(msgspec.Struct, frozen=True):
    """One change of a stored object. `type`: ADDED | MODIFIED | DELETED. `old`: as it was before."""

    type: str
    kind: str
    object: Any
    record: Record
    old: Any = None


class Objects:
    """All objects that are no pods. Methods may raise HostError (the store)."""

    def __init__(self, store: Store, clock: Callable[[], float], publish: Callable[[ObjectChange], None]) -> None:
        self._store = store
        self._clock = clock
        self._publish = publish
        self._decoded: dict[tuple[str, str, str], tuple[int, Any]] = {}

    # -- looking up ---------------------------------------------------------------------------------------------

    def find(self, struct: type[O], namespace: str, name: str) -> O | None:
        record = self._store.get(struct.__name__, _space(struct.__name__, namespace), name)
        return None if record is None else self._object(record)

    def get(self, kind: str, namespace: str, name: str) -> Any:
        """The object. Raises NotFoundError in the API server's words."""
        return self._object(self.record(kind, namespace, name))

    def record(self, kind: str, namespace: str, name: str) -> Record:
        record = self._store.get(kind, _space(kind, namespace), name)
        if record is None:
            raise NotFoundError(f'{kind_named(kind).plural} "{name}" not found')
        return record

    def records(self, kind: str, namespace: str | None = None) -> list[Record]:
        """By namespace and name; `namespace` None: all."""
        return self._store.objects(kind, None if namespace is None else _space(kind, namespace))

    def all(self, struct: type[O], namespace: str | None = None) -> list[O]:
        return [self._object(record) for record in self.records(struct.__name__, namespace)]

    def _object(self, record: Record) -> Any:
        key = (record.kind, record.namespace, record.name)
        known = self._decoded.get(key)
        if known is None or known[0] != record.version:
            known = (record.version, msgspec.json.decode(record.data, type=STRUCTS[record.kind]))
            self._decoded[key] = known
        return known[1]

    # -- changing -----------------------------------------------------------------------------------------------

    def create(self, given: O) -> O:
        """Stores a defaulted, valid object. Raises ConflictError where the name is taken."""
        thing: Any = given
        kind, metadata = thing.kind, thing.metadata
        namespace = _space(kind, metadata.namespace)
        if self._store.get(kind, namespace, metadata.name) is not None:
            raise ConflictError(f'{kind_named(kind).plural} "{metadata.name}" already exists')
        metadata = msgspec.structs.replace(
            metadata,
            namespace=namespace,
            uid=str(uuid.uuid4()),
            creation_timestamp=timestamp(self._clock()),
            deletion_timestamp=None,
            deletion_grace_period_seconds=None,
            generation=0,
            resource_version="",
            self_link="",
        )
        stored: O = self._put(msgspec.structs.replace(thing, metadata=metadata), "ADDED", None)
        return stored

    def update(self, new: O, old: O) -> O:
        """Stores `new` in the place of `old`, which has the same name."""
        stored: O = self._put(new, "MODIFIED", old)
        return stored

    def _put(self, thing: Any, change: str, old: Any) -> Any:
        kind, metadata = thing.kind, thing.metadata
        with self._store.transaction():
            version = self._store.next_version()
            thing = msgspec.structs.replace(
                thing, metadata=msgspec.structs.replace(metadata, resource_version=str(version))
            )
            data = msgspec.json.encode(thing)
            record = Record(kind, metadata.namespace, metadata.name, metadata.uid, version, data)
            self._store.put(record)
        self._publish(ObjectChange(change, kind, thing, record, old))
        return thing

    def remove(self, thing: Any) -> None:
        """Takes it out of the store, whatever it is used for."""
        kind, metadata = thing.kind, thing.metadata
        with self._store.transaction():
            version = self._store.next_version()
            self._store.delete(kind, metadata.namespace, metadata.name)
            self.forget_applied(kind, metadata.namespace, metadata.name)
        self._decoded.pop((kind, metadata.namespace, metadata.name), None)
        gone = msgspec.structs.replace(thing, metadata=msgspec.structs.replace(metadata, resource_version=str(version)))
        record = Record(kind, metadata.namespace, metadata.name, metadata.uid, version, msgspec.json.encode(gone))
        self._publish(ObjectChange("DELETED", kind, gone, record, thing))

    # -- what apply saw last ------------------------------------------------------------------------------------

    def applied(self, kind: str, namespace: str, name: str) -> dict[str, Any]:
        """The manifest that was applied last; empty where none was."""
        record = self._store.get(_APPLIED + kind, namespace, name)
        return {} if record is None else msgspec.json.decode(record.data, type=dict[str, Any])

    def set_applied(self, kind: str, namespace: str, name: str, uid: str, manifest: dict[str, Any]) -> None:
        self._store.put(Record(_APPLIED + kind, namespace, name, uid, 0, msgspec.json.encode(manifest)))

    def forget_applied(self, kind: str, namespace: str, name: str) -> None:
        """With the object: the next one of the same name has nothing to do with it."""
        self._store.delete(_APPLIED + kind, namespace, name)


def _space(kind: str, namespace: str) -> str:
    """Where it is kept: objects of the whole host have no namespace."""
    return (namespace or "default") if kind_named(kind).namespaced else ""
