"""The node agent's database (layer 5): objects, pod states and events in one SQLite file. Decides nothing.

Calls are synchronous and take microseconds to a few milliseconds: WAL with synchronous=NORMAL never waits for the
disk but at a checkpoint. After a crash of the agent every committed row is there; after a crash of the machine the
last seconds may be missing, which recovery takes as "never happened".
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import msgspec

from minipod.agent.registry.schema import SCHEMA_VERSION, refuse_newer
from minipod.errors import HostError
from minipod.failpoint import reached

log = logging.getLogger("minipod.agent")

_BUSY_S = 60.0  # a checkpoint holds the writer up for one sync of the disk at most
LOCKED_MS = 50  # how long a write waits for a process that has locked the file: everything else waits with it
_RESERVED_AT_ONCE = 1000
_LOGS = "logs"  # no kind of objects: of a pod that is gone: the directory of its logs, in a row of its uid
_APPLIED = "applied/"  # + kind: the manifest that `apply` wrote last, in the row of the same name

_SCHEMA = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    """CREATE TABLE objects (
        kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, uid TEXT NOT NULL,
        version INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (kind, namespace, name)) WITHOUT ROWID""",
    "CREATE TABLE pod_states (uid TEXT PRIMARY KEY, data BLOB NOT NULL) WITHOUT ROWID",
    "CREATE TABLE pod_operations (uid TEXT PRIMARY KEY, data BLOB NOT NULL) WITHOUT ROWID",
    "CREATE TABLE pod_owners (uid TEXT PRIMARY KEY, owner TEXT NOT NULL) WITHOUT ROWID",
    """CREATE TABLE events (
        uid TEXT PRIMARY KEY, namespace TEXT NOT NULL, pod_uid TEXT NOT NULL, last_s REAL NOT NULL,
        data BLOB NOT NULL) WITHOUT ROWID""",
)


class Record(msgspec.Struct, frozen=True):
    """One object as it is stored: `data` is the whole v1 object as JSON, its resourceVersion included."""

    kind: str
    namespace: str
    name: str
    uid: str
    version: int
    data: bytes


class EventRecord(msgspec.Struct, frozen=True):
    """One v1 Event. `last_s` is lastTimestamp in seconds since the epoch, for expiry and order."""

    uid: str
    namespace: str
    pod_uid: str
    last_s: float
    data: bytes


class Store:
    """`<data-dir>/minipod.db`. One process, one thread. Every method may raise HostError (disk full, damaged file)."""

    def __init__(self, path: str) -> None:
        """Opens or makes the file. Raises HostError naming the file, what is wrong with it and what to do."""
        self.path = path
        self._version = self._reserved = 0
        self._patient = True
        self._after_commit: list[Callable[[], None]] = []
        self._on_rollback: list[Callable[[], None]] = []
        self._unstored: dict[str, str] = {}  # of `note`
        self.reserve_elsewhere: Callable[[int], None] | None = None  # versions, on a full disk; may raise OSError
        with self._reported("open"):
            try:
                self._open()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
                    raise
                # A full disk has no room for the index of the log, which is shared memory in a file: then without it.
                self._open("PRAGMA locking_mode=EXCLUSIVE", "PRAGMA wal_autocheckpoint=1000")

    def _open(self, *modes: str) -> None:
        self._db = sqlite3.connect(self.path, timeout=_BUSY_S, isolation_level=None, cached_statements=64)
        try:
            self._db.execute("PRAGMA wal_autocheckpoint=0")  # it would wait for the disk: `checkpoints` does
            for mode in modes:
                self._db.execute(mode)
            self._prepare()
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        self._db.close()

    def _prepare(self) -> None:
        os.chmod(self.path, 0o600)
        found = self._db.execute("PRAGMA user_version").fetchone()[0]
        refuse_newer(self.path, found)  # before anything in it is changed
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute("PRAGMA cache_size=-512")
        if found < SCHEMA_VERSION:
            self._upgrade(found)
        self._version = self._reserved = int(self.meta("version") or 0)
        self._db.execute(f"PRAGMA busy_timeout={LOCKED_MS}")  # until here SQLite's own, 5 s: it may have to recover

    def _upgrade(self, found: int) -> None:
        """From the format `found`, 0 for an empty file. Raises HostError where that was empty."""
        try:
            with self.transaction():
                for statement in _SCHEMA if found == 0 else ():
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        except HostError as error:
            if found == 0:
                raise
            log.error("%s", error)  # a full disk: a version that cannot read what this one leaves is not kept out

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """A transaction: all writes inside are stored, or none. May be nested; the outermost commits."""
        if self._db.in_transaction:
            yield
            return
        with self._reported("write"):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                unstored = dict(self._unstored)
                for key, value in unstored.items():
                    self.set_meta(key, value)
                yield
                reached("store.written")
                self._db.execute("COMMIT")
                self._be_patient(True)
            except BaseException:
                # A failing commit or a full disk may have rolled back by itself.
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                self._end(self._on_rollback[::-1])
                raise
        for key in unstored:
            del self._unstored[key]
        reached("store.committed")
        self._end(self._after_commit)
        reached("store.announced")

    def _end(self, actions: list[Callable[[], None]]) -> None:
        self._after_commit, self._on_rollback = [], []
        for action in actions:
            action()

    def after_commit(self, action: Callable[[], None]) -> None:
        """Calls it after the commit of the open transaction, never after a rollback; at once without a transaction."""
        if self._db.in_transaction:
            self._after_commit.append(action)
        else:
            action()

    def on_rollback(self, action: Callable[[], None]) -> None:
        """Calls it if the open transaction is rolled back, last first, to restore values in memory."""
        if self._db.in_transaction:
            self._on_rollback.append(action)

    @contextlib.contextmanager
    def _reported(self, verb: str) -> Iterator[None]:
        """Turns SQLite's errors into HostErrors: one line with a remedy."""
        try:
            yield
        except sqlite3.Error as error:
            self._be_patient(getattr(error, "sqlite_errorcode", 0) != sqlite3.SQLITE_BUSY)
            raise HostError(f"state database {self.path}: {verb}: {_remedy(error, self.path)}") from error

    def _be_patient(self, patient: bool) -> None:
        """While another process has the file locked, only the first write waits for it: the others would add up."""
        if patient != self._patient:
            self._patient = patient
            self._db.execute(f"PRAGMA busy_timeout={LOCKED_MS if patient else 0}")

    def _write(self, sql: str, values: tuple[object, ...]) -> None:
        with self._reported("write"):
            self._db.execute(sql, values)

    # -- meta ---------------------------------------------------------------------------------------------------

    def meta(self, key: str) -> str | None:
        if key in self._unstored:
            return self._unstored[key]
        with self._reported("read"):
            row = self._db.execute("SELECT value FROM meta WHERE key=?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def set_meta(self, key: str, value: str) -> None:
        self._write("INSERT INTO meta VALUES (?,?) ON CONFLICT (key) DO UPDATE SET value=excluded.value", (key, value))

    def note(self, key: str, value: str) -> None:
        """`set_meta` of what an agent can do without. Where it cannot be stored (a full disk), the log says so, and it
        is stored with the next transaction that is possible: an earlier boot id would be taken for a boot.
        """
        self._unstored[key] = value
        try:
            with self.transaction():
                pass
        except HostError as error:
            log.error("%s: %s", key, error)

    def next_version(self) -> int:
        """The next resourceVersion: grows over all kinds and over restarts. Call it inside a transaction.

        They are reserved by the thousand, so that none is given to two changes even where what the first one wrote is
        lost (a full disk, a crash of the machine): a restart continues after all that were reserved.
        """
        if self._version >= self._reserved:
            self._reserve(self._version + _RESERVED_AT_ONCE)
        self._version += 1
        return self._version

    def _reserve(self, version: int) -> None:
        in_transaction = self._db.in_transaction
        try:
            self.set_meta("version", str(version))
        except HostError as error:
            if in_transaction or self.reserve_elsewhere is None:
                raise
            try:
                self.reserve_elsewhere(version)
            except OSError:
                raise error from None
        self.on_rollback(partial(setattr, self, "_reserved", self._reserved))
        self._reserved = version

    def continue_after(self, version: int) -> None:
        """The next version is a later one, also than those that the store has reserved."""
        self._version = self._reserved = max(self._reserved, version)

    @property
    def version(self) -> int:
        """The resourceVersion of the newest change, or one after it."""
        return self._version

    # -- objects ------------------------------------------------------------------------------------------------

    def put(self, record: Record) -> None:
        """Inserts or replaces the object."""
        self._write(
            "INSERT INTO objects VALUES (?,?,?,?,?,?) ON CONFLICT (kind, namespace, name) DO UPDATE SET "
            "uid=excluded.uid, version=excluded.version, data=excluded.data",
            (record.kind, record.namespace, record.name, record.uid, record.version, record.data),
        )

    def put_pods(self, records: Iterable[Record], states: Iterable[tuple[str, bytes]]) -> None:
        """Inserts new pods with their states: a tenth of the time that it takes one by one."""
        with self._reported("write"):
            self._db.executemany(
                "INSERT OR REPLACE INTO objects VALUES (?,?,?,?,?,?)", (msgspec.structs.astuple(r) for r in records)
            )
            self._db.executemany("INSERT OR REPLACE INTO pod_states VALUES (?,?)", states)

    def get(self, kind: str, namespace: str, name: str) -> Record | None:
        found = self._objects("WHERE kind=? AND namespace=? AND name=?", (kind, namespace, name))
        return found[0] if found else None

    def objects(self, kind: str, namespace: str | None = None) -> list[Record]:
        """By namespace and name; `namespace` None: all of them."""
        if namespace is None:
            return self._objects("WHERE kind=? ORDER BY namespace, name", (kind,))
        return self._objects("WHERE kind=? AND namespace=? ORDER BY name", (kind, namespace))

    def _objects(self, where: str, values: tuple[object, ...]) -> list[Record]:
        with self._reported("read"):
            rows = self._db.execute(f"SELECT kind, namespace, name, uid, version, data FROM objects {where}", values)
            return [Record(*row) for row in rows]

    def delete(self, kind: str, namespace: str, name: str) -> None:
        self._write("DELETE FROM objects WHERE kind=? AND namespace=? AND name=?", (kind, namespace, name))

    def applied(self, kind: str, namespace: str, name: str) -> bytes | None:
        """The manifest that `apply` wrote last of the object, as JSON."""
        found = self.get(_APPLIED + kind, namespace, name)
        return None if found is None else found.data

    def put_applied(self, kind: str, namespace: str, name: str, uid: str, data: bytes) -> None:
        self.put(Record(_APPLIED + kind, namespace, name, uid, 0, data))

    def delete_applied(self, kind: str, namespace: str, name: str) -> None:
        """Deletes the manifest; called when the object is deleted, so that the next one of this name has none."""
        self.delete(_APPLIED + kind, namespace, name)

    # -- pod states ---------------------------------------------------------------------------------------------

    def put_state(self, uid: str, data: bytes) -> None:
        self._write(
            "INSERT INTO pod_states VALUES (?,?) ON CONFLICT (uid) DO UPDATE SET data=excluded.data", (uid, data)
        )

    def states(self) -> dict[str, bytes]:
        with self._reported("read"):
            return dict(self._db.execute("SELECT uid, data FROM pod_states"))

    def state(self, uid: str) -> bytes | None:
        with self._reported("read"):
            row = self._db.execute("SELECT data FROM pod_states WHERE uid=?", (uid,)).fetchone()
        return None if row is None else bytes(row[0])

    def put_operations(self, uid: str, data: bytes) -> None:
        """Stores the operations executed for the pod's volumes."""
        self._write(
            "INSERT INTO pod_operations VALUES (?,?) ON CONFLICT (uid) DO UPDATE SET data=excluded.data", (uid, data)
        )

    def operations(self, uid: str) -> bytes | None:
        with self._reported("read"):
            row = self._db.execute("SELECT data FROM pod_operations WHERE uid=?", (uid,)).fetchone()
        return None if row is None else bytes(row[0])

    def delete_operations(self, uid: str) -> None:
        self._write("DELETE FROM pod_operations WHERE uid=?", (uid,))

    def put_owner(self, uid: str, owner: str) -> None:
        """Stores the process that owns a foreground pod (`processes.identity`)."""
        self._write(
            "INSERT INTO pod_owners VALUES (?,?) ON CONFLICT (uid) DO UPDATE SET owner=excluded.owner", (uid, owner)
        )

    def owners(self) -> dict[str, str]:
        with self._reported("read"):
            return dict(self._db.execute("SELECT uid, owner FROM pod_owners"))

    def delete_pod_object(self, namespace: str, name: str, uid: str) -> None:
        """Deletes the object and its manifest, but not those of another pod that has the name now."""
        for kind in ("Pod", _APPLIED + "Pod"):
            where = "DELETE FROM objects WHERE kind=? AND namespace=? AND name=? AND uid=?"
            self._write(where, (kind, namespace, name, uid))

    def delete_pod(self, uid: str, logs: str) -> None:
        """Forgets everything but the object and the events. `logs`: the directory that is still to be removed."""
        with self.transaction():
            for table in ("pod_states", "pod_operations", "pod_owners"):
                self._write(f"DELETE FROM {table} WHERE uid=?", (uid,))
            self.put(Record(_LOGS, "", uid, uid, 0, msgspec.json.encode(logs)))

    def logs_of_gone(self) -> dict[str, str]:
        """The directories of logs that are still to be removed, by the uid of the pod that is gone."""
        return {record.uid: msgspec.json.decode(record.data, type=str) for record in self.objects(_LOGS)}

    def logs_removed(self, uid: str) -> None:
        self.delete(_LOGS, "", uid)

    # -- events -------------------------------------------------------------------------------------------------

    def put_event(self, event: EventRecord) -> None:
        self._write(
            "INSERT INTO events VALUES (?,?,?,?,?) ON CONFLICT (uid) DO UPDATE SET "
            "last_s=excluded.last_s, data=excluded.data",
            (event.uid, event.namespace, event.pod_uid, event.last_s, event.data),
        )

    def events(self) -> list[EventRecord]:
        """All of them, oldest last timestamp first."""
        with self._reported("read"):
            rows = self._db.execute("SELECT uid, namespace, pod_uid, last_s, data FROM events ORDER BY last_s")
            return [EventRecord(*row) for row in rows]

    def delete_events(self, uids: list[str]) -> None:
        with self.transaction():
            for uid in uids:
                self._write("DELETE FROM events WHERE uid=?", (uid,))


def _remedy(error: sqlite3.Error, path: str) -> str:
    text = str(error)
    if "full" in text:
        return f"no space left on the device: free some on the file system of {os.path.dirname(path)}"
    if "malformed" in text or "not a database" in text:
        return f"the file is damaged ({text}): move it away (pods that run are then found by minipod gc)"
    if "readonly" in text or "unable to open" in text:
        return f"{text}: the directory must exist and be writable by root"
    if "disk I/O error" in text:
        return f"{text}: see the kernel's log for the device below {os.path.dirname(path)}"
    if "locked" in text:
        return "another process holds it open: end that process, or use another --data-dir"
    return text
