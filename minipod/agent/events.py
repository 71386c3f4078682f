"""Records v1 Events about pods and other objects (layer 5): correlated, bounded in number and bytes, kept for an hour.

As Kubernetes' client-go tools/record (events_cache.go): equal events become one with a count; from the tenth on, events
that differ only in their message are combined; events that a source sends too often about an object are dropped. Each
event is stored and published like every other object.
"""

from __future__ import annotations

import contextlib
import logging
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import partial
from sys import intern
from typing import NamedTuple

import msgspec

from minipod.agent.registry.history import Change, change_of
from minipod.agent.registry.store import EventRecord, Store
from minipod.api.timestamps import timestamp
from minipod.api.types import Event, EventSource, ObjectMeta, ObjectReference
from minipod.errors import HostError

log = logging.getLogger("minipod.agent")

LIFETIME_S = 3600.0
MAX_EVENTS, MAX_BYTES = 6_000, 4 << 20  # of all objects, the bytes as JSON: six of each of a thousand pods
MAX_POD_EVENTS, MAX_POD_BYTES = 250, 256 << 10  # of one object
MAX_CORRELATED = 4096  # objects (client-go maxLruCacheEntries)
MAX_MESSAGE = 1024  # v1 Event validation
SPAM_BURST = 25  # events of one type and source about one object …
SPAM_REFILL_S = 300.0  # … plus one for each period of this length
SIMILAR_MAX = 10  # different messages of one reason; from this many on they are combined into one event
SIMILAR_S = 600.0
SCHEDULER = "default-scheduler"
COMBINED = "(combined from similar events): "


class PodReference(NamedTuple):
    """The object that an event is about. `version`: its resourceVersion, where the source knows it."""

    namespace: str
    name: str
    uid: str
    version: str = ""
    kind: str = "Pod"


class _Key(NamedTuple):
    pod_uid: str
    field_path: str
    type: str
    reason: str
    message: str


class _Dropped(NamedTuple):
    """How often an event was dropped since it was last recorded."""

    times: int
    first_stamp: str


class _Spam:
    """A token bucket for the events of one source and type about one object."""

    def __init__(self, now_s: float) -> None:
        self._tokens = float(SPAM_BURST)
        self._at_s = now_s

    def accepts(self, now_s: float) -> bool:
        self._tokens = min(SPAM_BURST, self._tokens + max(0.0, now_s - self._at_s) / SPAM_REFILL_S)
        self._at_s = now_s
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class _Similar:
    """The recent messages of one source, type and reason about one object."""

    def __init__(self) -> None:
        self._messages: set[str] = set()
        self._last_s = 0.0

    def too_many(self, message: str, now_s: float) -> bool:
        if now_s - self._last_s > SIMILAR_S:
            self._messages.clear()
        self._last_s = now_s
        self._messages.add(message)
        if len(self._messages) < SIMILAR_MAX:
            return False
        self._messages.pop()
        return True


class _Correlation:
    """What is known of one object's recent events. As in client-go, not stored."""

    def __init__(self) -> None:
        self.spam: dict[tuple[str, str], _Spam] = {}
        self.similar: dict[tuple[str, str, str], _Similar] = {}
        self.dropped: dict[_Key, _Dropped] = {}  # they are counted when the event is recorded the next time


class _Kept(NamedTuple):
    """A recorded event. `size`: its bytes as JSON."""

    event: Event
    last_s: float
    size: int


class _Sums:
    """How many events there are, and how many bytes."""

    __slots__ = ("count", "size")

    def __init__(self) -> None:
        self.count = self.size = 0

    def add(self, kept: _Kept, sign: int) -> None:
        self.count += sign
        self.size += sign * kept.size


class EventRecorder:
    """Events of all pods. Every method takes `now_s`, seconds since the epoch, and may raise HostError (the store)."""

    def __init__(
        self,
        store: Store,
        node_name: str,
        publish: Callable[[Change], None],
        now_s: float,
        ahead_s: Callable[[], float] = lambda: 0.0,
    ):
        """`publish` is called with each change of an event once it is committed. `ahead_s`: by how much `now_s`, which
        is shown, is ahead of the clock that measures how long events are kept."""
        self._store = store
        self._node_name = node_name
        self._ahead_s = ahead_s
        self._publish = publish
        self._events: OrderedDict[_Key, _Kept] = OrderedDict()  # by last time, oldest first
        self._sums = _Sums()
        self._sums_of: dict[str, _Sums] = {}  # by the object's uid
        self._correlations: OrderedDict[str, _Correlation] = OrderedDict()  # by the object's uid, least recent first
        self._last_name_ns = 0
        self._load(now_s)

    def _load(self, now_s: float) -> None:
        damaged = []
        for record in self._store.events():
            try:
                event = msgspec.json.decode(record.data, type=Event)
            except (msgspec.DecodeError, ValueError):  # ValueError: UTF-8
                damaged.append(record.uid)
                continue
            event = _sharing(event)
            about = event.involved_object
            key = _Key(intern(record.pod_uid), about.field_path, event.type, event.reason, event.message)
            self._set(key, _Kept(event, record.last_s, len(record.data)))
        with contextlib.suppress(HostError):  # what cannot be removed, on a full disk, is still there
            if damaged:
                log.error("events: %d are damaged and are removed", len(damaged))
                self._store.delete_events(damaged)
            self.expire(now_s)

    def record(
        self,
        pod: PodReference,
        kind: str,
        reason: str,
        message: str,
        now_s: float,
        field_path: str = "",
        component: str = "kubelet",
    ) -> None:
        """`kind`: Normal | Warning. `field_path`: such as `spec.containers{web}`, or empty."""
        self.expire(now_s)
        shown_s, stamp = now_s, timestamp(now_s)
        now_s -= self._ahead_s()
        key = self._correlated(_Key(pod.uid, field_path, kind, reason, message[:MAX_MESSAGE]), component, now_s)
        correlation = self._correlation(pod.uid)
        dropped = correlation.dropped.pop(key, _Dropped(0, stamp))
        if not correlation.spam.setdefault((component, kind), _Spam(now_s)).accepts(now_s):
            correlation.dropped[key] = dropped._replace(times=dropped.times + 1)
            return
        before = self._events.get(key)
        known = before.event if before is not None else None
        if known is None:
            event = self._new(pod, key._replace(field_path=field_path), component, stamp, shown_s)
            if dropped.times:
                event = _with(event, count=dropped.times + 1, first_timestamp=dropped.first_stamp)
        else:
            event = _with(known, count=(known.count or 1) + dropped.times + 1, last_timestamp=stamp)
        if key.message == COMBINED:  # shows the latest message
            event = _with(event, message=(COMBINED + message)[:MAX_MESSAGE])
        self._put(key, event, before, now_s)
        if known is None:
            self._bound(pod.uid)

    def note(self, pod: PodReference, kind: str, reason: str, message: str, now_s: float) -> None:
        """`record`, of what goes on also where no event can be stored (a full disk): the log has it then."""
        try:
            self.record(pod, kind, reason, message, now_s)
        except HostError as error:
            log.warning("%s %s/%s: %s: %s: not recorded: %s", pod.kind, pod.namespace, pod.name, reason, message, error)

    def _put(self, key: _Key, event: Event, before: _Kept | None, now_s: float) -> None:
        """Stores and publishes the event; removes it again if the surrounding transaction is rolled back."""
        known = before.event if before is not None else None
        with self._store.transaction():
            event = _with_version(event, self._store.next_version())
            data = msgspec.json.encode(event)
            self._set(key, _Kept(event, now_s, len(data)))
            self._events.move_to_end(key)
            self._store.on_rollback(partial(self._set, key, before))
            record = EventRecord(event.metadata.uid, event.metadata.namespace, key.pod_uid, now_s, data)
            self._store.put_event(record)
            change = change_of("ADDED" if known is None else "MODIFIED", known, event, data)
            self._store.after_commit(partial(self._publish, change))

    def _set(self, key: _Key, kept: _Kept | None) -> None:
        """Keeps this of the event, or nothing. The only place where `_events` and the sums change."""
        before = self._events.pop(key, None) if kept is None else self._events.get(key)
        sums = self._sums_of.setdefault(key.pod_uid, _Sums())
        for each in (self._sums, sums):
            if before is not None:
                each.add(before, -1)
            if kept is not None:
                each.add(kept, 1)
        if kept is not None:
            self._events[key] = kept
        if not sums.count:
            del self._sums_of[key.pod_uid]

    def _correlation(self, uid: str) -> _Correlation:
        found = self._correlations.setdefault(uid, _Correlation())
        self._correlations.move_to_end(uid)
        while len(self._correlations) > MAX_CORRELATED:
            self._correlations.popitem(last=False)
        return found

    def _correlated(self, key: _Key, component: str, now_s: float) -> _Key:
        """The key of the event with which this one is counted: itself, or the combined one."""
        known = self._correlation(key.pod_uid).similar
        similar = known.setdefault((component, key.type, key.reason), _Similar())
        too_many = similar.too_many(key.message, now_s)
        return key._replace(field_path="", message=COMBINED) if too_many else key

    def forget_pod(self, pod_uid: str) -> None:
        """The pod is gone: drops what correlates its further events. Recorded events stay for their hour."""
        self._correlations.pop(pod_uid, None)

    def _new(self, pod: PodReference, key: _Key, component: str, stamp: str, now_s: float) -> Event:
        involved = ObjectReference(
            api_version="v1",
            field_path=key.field_path,
            kind=pod.kind,
            name=pod.name,
            namespace=pod.namespace,
            resource_version=pod.version,
            uid=pod.uid,
        )
        # As client-go's names, but no two of them are the same: not within one tick, nor when the clock is set back.
        self._last_name_ns = max(int(now_s * 1e9), self._last_name_ns + 1)
        event = Event(
            metadata=ObjectMeta(
                name=f"{pod.name}.{self._last_name_ns:x}",
                namespace=pod.namespace,
                uid=str(uuid.uuid4()),
                creation_timestamp=stamp,
            ),
            involved_object=involved,
            reason=key.reason,
            message=key.message,
            type=key.type,
            reporting_component=component,
        )
        if component == SCHEDULER:
            return _of_scheduler(event, now_s)
        return _with(
            event,
            source=EventSource(component=component, host=self._node_name),
            reporting_instance=self._node_name,
            first_timestamp=stamp,
            last_timestamp=stamp,
            count=1,
        )

    def all(self, now_s: float) -> list[Event]:
        """All events, in the order of their last times."""
        with contextlib.suppress(HostError):  # on a full disk expired events cannot be removed and are listed
            self.expire(now_s)
        return [kept.event for kept in self._events.values()]

    def expire(self, now_s: float) -> None:
        """Removes what is older than an hour."""
        dead, now_s = [], now_s - self._ahead_s()
        for key, kept in self._events.items():  # ordered by time
            if now_s - kept.last_s < LIFETIME_S:
                break
            dead.append(key)
        self._remove(dead)

    def _bound(self, pod_uid: str) -> None:
        """Removes the oldest events where there are too many: of the object first, then of all."""
        sums = self._sums_of[pod_uid]
        if sums.count > MAX_POD_EVENTS or sums.size > MAX_POD_BYTES:
            of_pod = ((key, kept) for key, kept in self._events.items() if key.pod_uid == pod_uid)
            self._remove(_excess(of_pod, sums.count - MAX_POD_EVENTS, sums.size - MAX_POD_BYTES))
        self._remove(_excess(self._events.items(), self._sums.count - MAX_EVENTS, self._sums.size - MAX_BYTES))

    def _remove(self, keys: list[_Key]) -> None:
        if not keys:
            return
        with self._store.transaction():
            self._store.delete_events([self._events[key].event.metadata.uid for key in keys])
            for key in keys:
                kept = self._events[key]
                self._set(key, None)
                gone = _with_version(kept.event, self._store.next_version())
                change = change_of("DELETED", kept.event, gone, msgspec.json.encode(gone))
                self._store.after_commit(partial(self._publish, change))
                self._store.on_rollback(partial(self._restore, key, kept))

    def _restore(self, key: _Key, kept: _Kept) -> None:
        self._set(key, kept)
        self._events.move_to_end(key, last=False)


def _excess(oldest_first: Iterable[tuple[_Key, _Kept]], count: int, size: int) -> list[_Key]:
    """The first ones, until they are `count` and take `size` bytes."""
    found: list[_Key] = []
    for key, kept in oldest_first:
        if len(found) >= count and size <= 0:
            break
        found.append(key)
        size -= kept.size
    return found


def _sharing(event: Event) -> Event:
    """The event with one copy of each string that many have: decoded ones take twice the memory of recorded ones."""
    metadata, about, source = event.metadata, event.involved_object, event.source
    return _with(
        event,
        metadata=msgspec.structs.replace(metadata, namespace=intern(metadata.namespace)),
        involved_object=ObjectReference(**{name: intern(getattr(about, name)) for name in about.__struct_fields__}),
        source=EventSource(component=intern(source.component), host=intern(source.host)),
        reason=intern(event.reason),
        type=intern(event.type),
        reporting_component=intern(event.reporting_component),
        reporting_instance=intern(event.reporting_instance),
    )


def _with(event: Event, **fields: object) -> Event:
    return msgspec.structs.replace(event, **fields)


def _with_version(event: Event, version: int) -> Event:
    return _with(event, metadata=msgspec.structs.replace(event.metadata, resource_version=str(version)))


def _of_scheduler(event: Event, now_s: float) -> Event:
    """The scheduler uses events.k8s.io: an action and an eventTime, where the kubelet has a source and a count."""
    moment = f"{timestamp(now_s)[:-1]}.{int(now_s % 1 * 1e6):06d}Z"
    return _with(event, action="Binding", event_time=moment, reporting_instance=SCHEDULER)
