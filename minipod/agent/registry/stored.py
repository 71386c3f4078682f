"""Keeps the objects that are only in the store (layer 5): all kinds but pods. Decides nothing."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from minipod.agent.registry.history import Change, change_of
from minipod.agent.registry.store import Record, Store
from minipod.api.defaults import defaulted
from minipod.api.kinds import NAMESPACE, Kind, kind_named
from minipod.api.timestamps import timestamp
from minipod.api.types import Namespace, ObjectMeta
from minipod.api.validation.prepare import created_metadata
from minipod.errors import HostError

log = logging.getLogger("minipod.agent")

#: these need not be created
BUILT_IN_NAMESPACES = ("default",)

MAX_DECODED_BYTES = 8 << 20  # of the objects that are kept decoded, as JSON

_Key = tuple[str, str, str]


class DamagedError(HostError):
    """What is stored of the object cannot be read; it can be deleted."""


class _Decoded(NamedTuple):
    version: int
    size: int  # in bytes, as JSON
    object: Any


class StoredObjects:
    """A `registry.Keeper`. `publish` is called with each change once it is committed."""

    def __init__(self, store: Store, clock: Callable[[], float], publish: Callable[[Change], None]) -> None:
        self._store = store
        self._clock = clock
        self._publish = publish
        self._decoded: dict[_Key, _Decoded] = {}  # those that were read last, newest last
        self._decoded_bytes = 0

    def create_built_in(self) -> None:
        """Those namespaces that are not there yet. Raises HostError."""
        for name in BUILT_IN_NAMESPACES:
            if self.find(NAMESPACE, "", name) is None:
                self.create(defaulted(Namespace(metadata=ObjectMeta(name=name))))

    def find(self, kind: Kind, namespace: str, name: str) -> Any | None:
        record = self._store.get(kind.name, namespace, name)
        return None if record is None else self._object(record)

    def list(self, kind: Kind, namespace: str | None) -> list[Any]:
        found = []
        for record in self._store.objects(kind.name, namespace):
            try:
                found.append(self._object(record))
            except HostError as error:  # the others are listed
                log.error("%s", error)
        return found

    def _object(self, record: Record) -> Any:
        key = (record.kind, record.namespace, record.name)
        known = self._dropped(key)
        if known is None or known.version != record.version:
            thing = self._from_json(record)
            known = _Decoded(record.version, len(record.data), thing)
        self._decoded[key] = known
        self._decoded_bytes += known.size
        while self._decoded_bytes > MAX_DECODED_BYTES:
            self._dropped(next(iter(self._decoded)))
        return known.object

    def _from_json(self, record: Record) -> Any:
        """Raises HostError for what is damaged."""
        try:
            return msgspec.json.decode(record.data, type=kind_named(record.kind).struct)
        except (msgspec.DecodeError, ValueError) as error:  # ValueError: UTF-8
            name = f"{record.kind} {record.namespace}/{record.name}"
            raise DamagedError(
                f"state database {self._store.path}: {name} is damaged ({error}): delete it and create it anew"
            ) from None

    def _dropped(self, key: _Key) -> _Decoded | None:
        """Forgets the decoded object: what was known of it."""
        known = self._decoded.pop(key, None)
        if known is not None:
            self._decoded_bytes -= known.size
        return known

    def completed(self, thing: Any) -> Any:
        namespace = kind_named(thing.kind).place(thing.metadata.namespace)
        metadata = created_metadata(thing.metadata, namespace, str(uuid.uuid4()), timestamp(self._clock()))
        return msgspec.structs.replace(thing, metadata=metadata)

    def create(self, thing: Any, applied: bytes | None = None) -> Any:
        return self._put(self.completed(thing), None, applied)

    def update(self, new: Any, old: Any, applied: bytes | None = None) -> Any:
        return self._put(new, old, applied)

    def _put(self, thing: Any, old: Any, applied: bytes | None = None) -> Any:
        with self._store.transaction():
            thing, version = self._with_version(thing)
            metadata = thing.metadata
            data = msgspec.json.encode(thing)
            self._store.put(Record(thing.kind, metadata.namespace, metadata.name, metadata.uid, version, data))
            if applied is not None:
                self._store.put_applied(thing.kind, metadata.namespace, metadata.name, metadata.uid, applied)
            change = change_of("ADDED" if old is None else "MODIFIED", old, thing, data)
            self._store.after_commit(lambda: self._publish(change))
        return thing

    def delete(self, thing: Any, grace_period_s: int | None = None) -> Any:
        """Marks an object that may be in use for deletion by its controller; removes any other."""
        kind, metadata = kind_named(thing.kind), thing.metadata
        if not kind.protected:
            self.remove(thing)
            return thing
        if metadata.deletion_timestamp is not None:
            return thing
        now = timestamp(self._clock())
        metadata = msgspec.structs.replace(metadata, deletion_timestamp=now, deletion_grace_period_seconds=0)
        return self._put(msgspec.structs.replace(thing, metadata=metadata), thing)

    def remove(self, thing: Any) -> None:
        """Removes the object from the store, also if it is in use."""
        kind, metadata = thing.kind, thing.metadata
        key = (kind, metadata.namespace, metadata.name)
        with self._store.transaction():
            gone, _ = self._with_version(thing)
            self._store.delete(*key)
            self._store.delete_applied(*key)
            change = change_of("DELETED", thing, gone, msgspec.json.encode(gone))
            self._store.after_commit(lambda: self._publish(change))
        self._dropped(key)

    def remove_damaged(self, kind: Kind, namespace: str, name: str) -> Any:
        """Removes what cannot be read. Returns an object that has nothing but its identity."""
        record = self._store.get(kind.name, namespace, name)
        uid = "" if record is None else record.uid
        thing = kind.struct(metadata=ObjectMeta(name=name, namespace=namespace, uid=uid))
        self.remove(thing)
        return thing

    def _with_version(self, thing: Any) -> tuple[Any, int]:
        version = self._store.next_version()
        metadata = msgspec.structs.replace(thing.metadata, resource_version=str(version))
        return msgspec.structs.replace(thing, metadata=metadata), version
