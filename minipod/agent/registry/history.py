"""The last changes of all objects, by resourceVersion, and the watches on them (layer 5). No store, no connection.

One bounded ring for all kinds. A watch is a position in the ring and has no queue: it may sleep as long as it likes,
costs nothing, and is ended with ExpiredError when the ring has moved past it, so that it never misses a change without
knowing. Rules: apiserver's storage/cacher (watch_cache.go, cache_watcher.go). Everything happens on the event loop's
thread.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import deque
from typing import Any, Literal

import msgspec

from minipod.agent.registry.selection import Place, Selection, places_of
from minipod.errors import ExpiredError

MAX_CHANGES = 1024
MAX_BYTES = 2 << 20  # of the changed objects, as JSON; in memory they take twice as much
MAX_ENCODED_BYTES = 256 << 10  # of JSON that is kept for the newest changes; of older ones it is made again when wanted

ChangeType = Literal["ADDED", "MODIFIED", "DELETED"]


class Change(msgspec.Struct, frozen=True):
    """One change of one object.

    `version`: the resourceVersion that the change made. `old`: the object before, None for ADDED. `new`: the object
    after; for DELETED the last state with the version of the deletion. `encoded`: `new` as JSON, empty where it was
    dropped; `size`: how long that is.
    """

    version: int
    type: ChangeType
    kind: str
    namespace: str
    name: str
    uid: str
    old: Any
    new: Any
    encoded: bytes = b""
    size: int = 0

    @property
    def data(self) -> bytes:
        """The object after the change, as JSON."""
        return self.encoded or msgspec.json.encode(self.new)


def change_of(type: ChangeType, old: Any, new: Any, encoded: bytes) -> Change:
    """The change that made `new` of `old`; its version is that of `new`."""
    metadata = new.metadata
    identity = (new.kind, metadata.namespace, metadata.name, metadata.uid)
    return Change(int(metadata.resource_version), type, *identity, old, new, encoded, len(encoded))


def selected(selection: Selection, change: Change) -> Change | None:
    """The change as a watch with this selection sees it; None if it does not.

    An object that is no longer selected is DELETED for the watch: with its content from before, which was selected,
    and the version of the change (cache_watcher.go convertToWatchEvent).
    """
    if not selection.means(change.kind, change.namespace, change.name):
        return None
    before = change.old is not None and selection.matches(change.old)
    after = change.type != "DELETED" and selection.matches(change.new)
    if after:
        wanted: ChangeType = "MODIFIED" if before else "ADDED"
        return change if change.type == wanted else msgspec.structs.replace(change, type=wanted)
    if not before:
        return None
    if change.type == "DELETED":
        return change
    metadata = msgspec.structs.replace(change.old.metadata, resource_version=str(change.version))
    gone = msgspec.structs.replace(change.old, metadata=metadata)
    return msgspec.structs.replace(change, type="DELETED", new=gone, encoded=b"")


class History:
    """The changes of one agent since it started, as far back as the bounds allow."""

    def __init__(
        self,
        version: int,
        *,
        max_changes: int = MAX_CHANGES,
        max_bytes: int = MAX_BYTES,
        max_encoded_bytes: int = MAX_ENCODED_BYTES,
    ) -> None:
        """`version`: the store's newest; what was before it is not known."""
        self.version = version  # of the newest change
        self.oldest_version = version  # all changes after this one are in the ring
        self._max_changes = max_changes
        self._max_bytes = max_bytes
        self._max_encoded_bytes = max_encoded_bytes
        self._changes: deque[Change] = deque()
        self.first = 0  # the number of the oldest change in the ring; numbers count up from 0
        self._bytes = 0
        self._encoded_from = 0  # the number of the first change whose JSON is kept
        self._encoded_bytes = 0
        self._waiting: dict[Place, set[Watch]] = {}

    @property
    def end(self) -> int:
        """The number that the next change will get."""
        return self.first + len(self._changes)

    # -- writing ------------------------------------------------------------------------------------------------

    def append(self, change: Change) -> None:
        """Adds a change that is committed, and wakes the watches that wait for it.

        Raises ValueError where the version is not newer than all before: a watch would miss it.
        """
        if change.version <= self.version:
            raise ValueError(f"change {change.version} of {change.kind} {change.name} comes after {self.version}")
        self.version = change.version
        self._changes.append(change)
        self._bytes += change.size
        self._encoded_bytes += len(change.encoded)
        self._bound()
        self._wake(change)

    def _bound(self) -> None:
        while self._changes and (len(self._changes) > self._max_changes or self._bytes > self._max_bytes):
            dropped = self._changes.popleft()
            self.first += 1
            self.oldest_version = dropped.version
            self._bytes -= dropped.size
            self._encoded_bytes -= len(dropped.encoded)
        self._encoded_from = max(self._encoded_from, self.first)
        while self._encoded_bytes > self._max_encoded_bytes and self._encoded_from < self.end:
            place = self._encoded_from - self.first
            change = self._changes[place]
            self._encoded_bytes -= len(change.encoded)
            self._changes[place] = msgspec.structs.replace(change, encoded=b"")
            self._encoded_from += 1

    def _wake(self, change: Change) -> None:
        for place in places_of(change.kind, change.namespace, change.name):
            for watch in list(self._waiting.get(place, ())):
                watch.offer(change, self.end - 1)

    # -- reading ------------------------------------------------------------------------------------------------

    def since(self, version: int) -> list[Change]:
        """The changes after the version, oldest first. Raises ExpiredError where some of them are not known."""
        return list(self._changes)[self.number_after(version) - self.first :]

    def number_after(self, version: int) -> int:
        """The number of the first change after the version. Raises ExpiredError.

        A version that is still to come belongs to another store than this one: a watch from there would skip changes
        in silence, so it is refused with the words that the API server has for it (storage/errors.go).
        """
        if version < self.oldest_version:
            raise ExpiredError(f"too old resource version: {version} ({self.oldest_version})")
        if version > self.version:
            raise ExpiredError(f"Too large resource version: {version}, current: {self.version}")
        return self.first + bisect_right(self._changes, version, key=lambda change: change.version)

    def change(self, number: int) -> Change:
        """The change with this number, from `first` to before `end`."""
        return self._changes[number - self.first]

    def watch(self, selection: Selection, version: int | None = None) -> Watch:
        """A watch from the version on; None: from now on. Raises ExpiredError."""
        return Watch(self, selection, self.version if version is None else version)

    def add_waiting(self, watch: Watch) -> None:
        for place in watch.selection.places:
            self._waiting.setdefault(place, set()).add(watch)

    def remove_waiting(self, watch: Watch) -> None:
        for place in watch.selection.places:
            watches = self._waiting.get(place)
            if watches is not None:
                watches.discard(watch)
                if not watches:
                    del self._waiting[place]


class Watch:
    """A position in the history. Needs no closing: the history references only watches that wait."""

    def __init__(self, history: History, selection: Selection, version: int) -> None:
        self.selection = selection
        self._history = history
        self._number = history.number_after(version)
        self._version = version
        self._waiter: asyncio.Future[None] | None = None
        self._is_idle = False  # waits, and nothing selected has come since

    @property
    def version(self) -> int:
        """The version up to which everything was taken or is not selected; another watch may continue from it."""
        return self._history.version if self._is_idle else self._version

    @property
    def is_expired(self) -> bool:
        """Whether `take` and `next` will raise."""
        return not self._is_idle and self._number < self._history.first

    def take(self, before: int | None = None) -> Change | None:
        """The next selected change; None where there is none yet. Raises ExpiredError, then and ever after.

        `before`: only of the changes before this number of the history.
        """
        history = self._history
        end = history.end if before is None else min(before, history.end)
        if self._number < history.first:
            raise ExpiredError(f"too old resource version: {self._version} ({history.oldest_version})")
        while self._number < end:
            change = history.change(self._number)
            self._number += 1
            self._version = change.version
            wanted = selected(self.selection, change)
            if wanted is not None:
                return wanted
        return None

    def skip(self) -> None:
        """Skips to the newest change: for a caller that reads all objects again."""
        self._number, self._version = self._history.end, self._history.version

    async def next(self) -> Change:
        """The next selected change. One caller at a time; may be cancelled without losing one. Raises ExpiredError."""
        while (change := self.take()) is None:
            await self._wait()
        return change

    async def changed(self) -> list[Change] | None:
        """All selected changes that are there, at least one; None where some of them are not known any more.

        After None it continues from now, so a caller that then looks at everything has missed nothing.
        """
        try:
            changes = [await self.next()]
            while (change := self.take()) is not None:
                changes.append(change)
        except ExpiredError:
            self.skip()
            return None
        return changes

    async def _wait(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.begin_waiting(waiter)
        try:
            await waiter
        finally:
            self.end_waiting()

    def begin_waiting(self, waiter: asyncio.Future[None]) -> None:
        """The future is done with the next selected change. Call it when `take` had nothing, then `end_waiting`."""
        self._waiter = waiter
        self._is_idle = True
        self._history.add_waiting(self)

    def end_waiting(self) -> None:
        self._history.remove_waiting(self)
        self._waiter = None
        if self._is_idle:  # nothing that came in between is selected
            self._is_idle = False
            self.skip()

    def offer(self, change: Change, number: int) -> None:
        """Called by the history for each change while this waits: wakes it for one that is selected."""
        if not self._is_idle or selected(self.selection, change) is None:
            return
        self._is_idle = False
        self._number, self._version = number, change.version - 1
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
