"""Records v1 Events about pods and other objects (layer 5): correlated, bounded, kept for an hour.

As Kubernetes' client-go tools/record (events_cache.go): equal events become one with a count; from the tenth on, events
that differ only in their message are combined; events that a source sends too often about an object are dropped. Each
event is stored and published like every other object.
"""

from __future__ import annotations

import contextlib
import logging
import uuid
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import NamedTuple

import msgspec

from minipod.agent.registry.history import Change, change_of
from minipod.agent.registry.store import EventRecord, Store
from minipod.api.timestamps import timestamp
from minipod.api.types import Event, EventSource, ObjectMeta, ObjectReference
from minipod.errors import HostError

log = logging.getLogger("minipod.agent")

LIFETIME_S = 3600.0
MAX_EVENTS = 10_000  # of all pods
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
        self._events: OrderedDict[_Key, Event] = OrderedDict()  # by last time, oldest first
        self._last_s: dict[_Key, float] = {}
        # by pod uid, then the rest; as in client-go, not stored
        self._spam: defaultdict[str, dict[tuple[str, str], _Spam]] = defaultdict(dict)
        self._similar: defaultdict[str, dict[tuple[str, str, str], _Similar]] = defaultdict(dict)
        self._dropped: dict[_Key, _Dropped] = {}  # they are counted when the event is recorded the next time
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
            path = event.involved_object.field_path
            key = _Key(record.pod_uid, path, event.type, event.reason, event.message)
            self._events[key] = event
            self._last_s[key] = record.last_s
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
        dropped = self._dropped.pop(key, _Dropped(0, stamp))
        if not self._spam[pod.uid].setdefault((component, kind), _Spam(now_s)).accepts(now_s):
            self._dropped[key] = dropped._replace(times=dropped.times + 1)
            return
        known = self._events.get(key)
        if known is None:
            event = self._new(pod, key._replace(field_path=field_path), component, stamp, shown_s)
            if dropped.times:
                event = _with(event, count=dropped.times + 1, first_timestamp=dropped.first_stamp)
        else:
            event = _with(known, count=(known.count or 1) + dropped.times + 1, last_timestamp=stamp)
        if key.message == COMBINED:  # shows the latest message
            event = _with(event, message=(COMBINED + message)[:MAX_MESSAGE])
        self._put(key, event, known, now_s)
        if known is None:
            self._bound()

    def _put(self, key: _Key, event: Event, known: Event | None, now_s: float) -> None:
        """Stores and publishes the event; removes it again if the surrounding transaction is rolled back."""
        last_s = self._last_s.get(key, 0.0)
        with self._store.transaction():
            event = _with_version(event, self._store.next_version())
            self._events[key] = event
            self._events.move_to_end(key)
            self._last_s[key] = now_s
            self._store.on_rollback(partial(self._take_back, key, known, last_s))
            data = msgspec.json.encode(event)
            record = EventRecord(event.metadata.uid, event.metadata.namespace, key.pod_uid, now_s, data)
            self._store.put_event(record)
            change = change_of("ADDED" if known is None else "MODIFIED", known, event, data)
            self._store.after_commit(partial(self._publish, change))

    def _take_back(self, key: _Key, known: Event | None, last_s: float) -> None:
        if known is None:
            del self._events[key], self._last_s[key]
        else:
            self._events[key], self._last_s[key] = known, last_s

    def _correlated(self, key: _Key, component: str, now_s: float) -> _Key:
        """The key of the event with which this one is counted: itself, or the combined one."""
        similar = self._similar[key.pod_uid].setdefault((component, key.type, key.reason), _Similar())
        too_many = similar.too_many(key.message, now_s)
        return key._replace(field_path="", message=COMBINED) if too_many else key

    def forget_pod(self, pod_uid: str) -> None:
        """The pod is gone: drops what correlates its further events. Recorded events stay for their hour."""
        self._spam.pop(pod_uid, None)
        self._similar.pop(pod_uid, None)
        self._dropped = {key: dropped for key, dropped in self._dropped.items() if key.pod_uid != pod_uid}

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
        return list(self._events.values())

    def expire(self, now_s: float) -> None:
        """Removes what is older than an hour."""
        dead, now_s = [], now_s - self._ahead_s()
        for key in self._events:  # ordered by time
            if now_s - self._last_s[key] < LIFETIME_S:
                break
            dead.append(key)
        self._remove(dead)

    def _bound(self) -> None:
        self._remove(list(islice(self._events, max(0, len(self._events) - MAX_EVENTS))))

    def _remove(self, keys: list[_Key]) -> None:
        if not keys:
            return
        with self._store.transaction():
            self._store.delete_events([self._events[key].metadata.uid for key in keys])
            for key in keys:
                event, last_s = self._events.pop(key), self._last_s.pop(key)
                gone = _with_version(event, self._store.next_version())
                change = change_of("DELETED", event, gone, msgspec.json.encode(gone))
                self._store.after_commit(partial(self._publish, change))
                self._store.on_rollback(partial(self._restore, key, event, last_s))

    def _restore(self, key: _Key, event: Event, last_s: float) -> None:
        self._events[key], self._last_s[key] = event, last_s
        self._events.move_to_end(key, last=False)


def _with(event: Event, **fields: object) -> Event:
    return msgspec.structs.replace(event, **fields)


def _with_version(event: Event, version: int) -> Event:
    return _with(event, metadata=msgspec.structs.replace(event.metadata, resource_version=str(version)))


def _of_scheduler(event: Event, now_s: float) -> Event:
    """The scheduler uses events.k8s.io: an action and an eventTime, where the kubelet has a source and a count."""
    moment = f"{timestamp(now_s)[:-1]}.{int(now_s % 1 * 1e6):06d}Z"
    return _with(event, action="Binding", event_time=moment, reporting_instance=SCHEDULER)
