"""States of pods that the store could not take (layer 5): files in the root, which is another file system as a rule.

While the disk is full, read-only or broken, pods go on: what happens to them is kept here, also over the agent's death,
and is stored once that works again. So an exit code that was reported stays, and a pod can be deleted: its rows then go
later. A reboot empties the root; the pod then continues from what was stored last.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import zlib

import msgspec

from minipod.agent.registry.store import Store
from minipod.errors import HostError
from minipod.runtime.records import save

log = logging.getLogger("minipod.agent")

SAVE_AGAIN_S = 5.0  # after a failed save (a full disk); the pod continues without


_GONE = b"null"
_VERSION = "version"  # a file among those of pods


class _Reserved(msgspec.Struct, frozen=True):
    version: int


class _Entry(msgspec.Struct, frozen=True):
    """`over`: the checksum of the state that the store has, which this one is newer than. `state` null: the pod is
    gone, and `logs` the directory of its logs."""

    uid: str
    namespace: str
    name: str
    over: int = 0
    state: msgspec.Raw = msgspec.Raw(_GONE)
    logs: str = ""


class Unsaved:
    """`<run-dir>/unsaved/<uid>`, one file a pod. Methods raise OSError where the root is full as well."""

    def __init__(self, folder: str, store: Store) -> None:
        self._folder = folder
        self._store = store
        self._gone: dict[str, _Entry] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._reserve_versions()

    def _reserve_versions(self) -> None:
        """Those that the store cannot reserve are reserved here."""
        path = f"{self._folder}/{_VERSION}"
        with contextlib.suppress(OSError, ValueError), open(path, "rb") as file:
            self._store.continue_after(msgspec.json.decode(file.read(), type=_Reserved).version)

        def reserve(version: int) -> None:
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            save(path, _Reserved(version))

        self._store.reserve_elsewhere = reserve

    def put(self, uid: str, namespace: str, name: str, state: bytes) -> None:
        """Keeps the state of a pod until `drop`."""
        self._save(_Entry(uid, namespace, name, _checksum(self._store, uid), msgspec.Raw(state)))

    def drop(self, uid: str) -> None:
        """The state is in the store."""
        with contextlib.suppress(OSError):  # else the next agent finds by its checksum that it is old
            os.unlink(f"{self._folder}/{uid}")

    def put_gone(self, uid: str, namespace: str, name: str, logs: str) -> None:
        """Nothing is left of the pod but logs and its rows in the store; these go once that is possible."""
        entry = _Entry(uid, namespace, name, logs=logs)
        self._save(entry)
        self._gone[uid] = entry
        self._flush_later()

    def _save(self, entry: _Entry) -> None:
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        save(f"{self._folder}/{entry.uid}", entry)

    def flush(self) -> None:
        """Removes the rows of pods that are gone. Raises HostError."""
        for uid, entry in list(self._gone.items()):
            with self._store.transaction():
                self._store.delete_pod_object(entry.namespace, entry.name, uid)
                self._store.delete_pod(uid, entry.logs)
            del self._gone[uid]
            self.drop(uid)

    def _flush_later(self) -> None:
        if self._timer is None and self._gone:
            self._timer = asyncio.get_running_loop().call_later(SAVE_AGAIN_S, self._flush_now)

    def _flush_now(self) -> None:
        self._timer = None
        with contextlib.suppress(HostError):
            self.flush()
        self._flush_later()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def take_over(self, stored: dict[str, bytes]) -> dict[str, bytes]:
        """The states by uid that an earlier agent could not store and that are newer than `stored`, where those of pods
        that are gone are taken out."""
        found: dict[str, bytes] = {}
        for uid in _names(self._folder):
            entry = _read(f"{self._folder}/{uid}")
            if entry is None or entry.uid != uid:
                continue
            if bytes(entry.state) == _GONE:
                stored.pop(uid, None)
                self._gone[uid] = entry
            elif entry.over == zlib.crc32(stored.get(uid, b"")):
                found[uid] = bytes(entry.state)
            else:
                self.drop(uid)
        self._flush_now()
        return found


def _read(path: str) -> _Entry | None:
    try:
        with open(path, "rb") as file:
            return msgspec.json.decode(file.read(), type=_Entry)
    except (OSError, ValueError) as error:  # ValueError: JSON, UTF-8
        log.error("%s: %s", path, error)
        return None


def _checksum(store: Store, uid: str) -> int:
    try:
        return zlib.crc32(store.state(uid) or b"")
    except HostError:  # damaged: the next agent has to have another store, without this pod
        return zlib.crc32(b"")


def _names(folder: str) -> list[str]:
    try:
        return [name for name in os.listdir(folder) if not name.endswith(".new") and name != _VERSION]
    except FileNotFoundError:
        return []
