"""What happened to the pods, as v1 Events (layer 5): aggregated by count, bounded, kept for an hour.

Kubernetes' client-go tools/record (events_cache.go) correlates equal events into one with a count, those that differ
only in their message into one after the tenth, and drops what a source says too often about an object; so does this.
Knows nothing of what the events mean.
"""

from __future__ import annotations

import uuid
from collections import OrderedDict
from collections.abc import Callable
from itertools import islice
from typing import Any, NamedTuple

import msgspec

from minipod.agent.registry.store import EventRecord, Store
from minipod.api.timestamps import timestamp

LIFETIME_S = 3600.0
MAX_EVENTS = 10_000  # of all pods
MAX_MESSAGE = 1024  # v1 Event validation
SPAM_BURST = 25  # of one type about a pod by one source …
SPAM_REFILL_S = 300.0  # … and one more after each of these
SIMILAR_MAX = 10  # messages of one reason; from the tenth on they are one event
SIMILAR_S = 600.0
SCHEDULER = "default-scheduler"
COMBINED = "(combined from similar events): "


class PodReference(NamedTuple):
    """`version`: the resourceVersion that the pod had; not every speaker knows it. `kind`: or of another object."""

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


class _Unsaid(NamedTuple):
    """What was dropped of one event since it was told last."""

    times: int
    first_stamp: str


class _Spam:
    """A bucket of tokens for everything that one source says of one type about one pod."""

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
    """The messages of one source, type and reason about one pod."""

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
    """Events of all pods. Every method takes `now_s`, seconds since the epoch."""

    def __init__(self, store: Store, node_name: str, notify: Callable[[str, dict[str, Any]], None], now_s: float):
        """`notify(type, event)` is told of each: ADDED, MODIFIED or DELETED."""
        self._store = store
        self._node_name = node_name
        self._notify = notify
        self._events: OrderedDict[_Key, dict[str, Any]] = OrderedDict()  # by last time, oldest first
        self._last_s: dict[_Key, float] = {}
        self._spam: dict[tuple[str, str, str], _Spam] = {}  # as client-go's, not kept over a restart
        self._similar: dict[tuple[str, str, str, str], _Similar] = {}
        self._unsaid: dict[_Key, _Unsaid] = {}  # a dropped event counts all the same, once the next one is told
        self._load(now_s)

    def _load(self, now_s: float) -> None:
        dead = []
        for record in self._store.events():
            if now_s - record.last_s >= LIFETIME_S:
                dead.append(record.uid)
                continue
            event = msgspec.json.decode(record.data)
            involved = event["involvedObject"]
            path = involved.get("fieldPath", "")
            key = _Key(record.pod_uid, path, event["type"], event["reason"], event["message"])
            self._events[key] = event
            self._last_s[key] = record.last_s
        if dead:
            self._store.delete_events(dead)

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
        stamp = timestamp(now_s)
        key = self._correlated(_Key(pod.uid, field_path, kind, reason, message[:MAX_MESSAGE]), component, now_s)
        unsaid = self._unsaid.pop(key, _Unsaid(0, stamp))
        if not self._spam.setdefault((pod.uid, component, kind), _Spam(now_s)).accepts(now_s):
            self._unsaid[key] = unsaid._replace(times=unsaid.times + 1)
            return
        known = self._events.get(key)
        with self._store.transaction():
            version = str(self._store.next_version())
            if known is None:
                event = self._new(pod, key._replace(field_path=field_path), component, stamp, version, now_s)
                if unsaid.times:
                    event |= {"count": unsaid.times + 1, "firstTimestamp": unsaid.first_stamp}
            else:
                metadata = {**known["metadata"], "resourceVersion": version}
                count = known.get("count", 1) + unsaid.times + 1
                event = {**known, "metadata": metadata, "count": count, "lastTimestamp": stamp}
            if key.message == COMBINED:  # the last one stands for all
                event["message"] = (COMBINED + message)[:MAX_MESSAGE]
            self._events[key] = event
            self._events.move_to_end(key)
            self._last_s[key] = now_s
            self._store.put_event(
                EventRecord(event["metadata"]["uid"], pod.namespace, pod.uid, now_s, msgspec.json.encode(event))
            )
        self._notify("ADDED" if known is None else "MODIFIED", event)
        if known is None:
            self._bound()

    def _correlated(self, key: _Key, component: str, now_s: float) -> _Key:
        """The event that this one counts for."""
        similar = self._similar.setdefault((key.pod_uid, component, key.type, key.reason), _Similar())
        too_many = similar.too_many(key.message, now_s)
        return key._replace(field_path="", message=COMBINED) if too_many else key

    def forget_pod(self, pod_uid: str) -> None:
        """The pod is gone: nothing more will be said about it. Its events stay for their hour."""
        self._spam = {key: spam for key, spam in self._spam.items() if key[0] != pod_uid}
        self._similar = {key: similar for key, similar in self._similar.items() if key[0] != pod_uid}
        self._unsaid = {key: unsaid for key, unsaid in self._unsaid.items() if key.pod_uid != pod_uid}

    def _new(
        self, pod: PodReference, key: _Key, component: str, stamp: str, version: str, now_s: float
    ) -> dict[str, Any]:
        involved = {
            "kind": pod.kind,
            "namespace": pod.namespace,
            "name": pod.name,
            "uid": pod.uid,
            "apiVersion": "v1",
        }
        if pod.version:
            involved["resourceVersion"] = pod.version
        if key.field_path:
            involved["fieldPath"] = key.field_path
        event = {
            "kind": "Event",
            "apiVersion": "v1",
            "metadata": {
                "name": f"{pod.name}.{int(now_s * 1e9):x}",
                "namespace": pod.namespace,
                "uid": str(uuid.uuid4()),
                "resourceVersion": version,
                "creationTimestamp": stamp,
            },
            "involvedObject": involved,
            "reason": key.reason,
            "message": key.message,
            "type": key.type,
            "reportingComponent": component,
        }
        if component == SCHEDULER:
            return event | _of_scheduler(now_s)
        return event | {
            "source": {"component": component, "host": self._node_name},
            "firstTimestamp": stamp,
            "lastTimestamp": stamp,
            "count": 1,
            "eventTime": None,
            "reportingInstance": self._node_name,
        }

    def select(self, now_s: float, namespace: str | None = None, pod: str | None = None) -> list[dict[str, Any]]:
        """Oldest last time first. `namespace` None: all."""
        self.expire(now_s)
        return [event for event in self._events.values() if matches(event, namespace, pod)]

    def expire(self, now_s: float) -> None:
        """Forgets what is older than an hour."""
        dead = []
        for key in self._events:  # ordered: the first young one ends it
            if now_s - self._last_s[key] < LIFETIME_S:
                break
            dead.append(key)
        self._forget(dead)

    def _bound(self) -> None:
        self._forget(list(islice(self._events, max(0, len(self._events) - MAX_EVENTS))))

    def _forget(self, keys: list[_Key]) -> None:
        if not keys:
            return
        gone = []
        for key in keys:
            gone.append(self._events.pop(key))
            del self._last_s[key]
        self._store.delete_events([event["metadata"]["uid"] for event in gone])
        for event in gone:
            self._notify("DELETED", event)


def _of_scheduler(now_s: float) -> dict[str, Any]:
    """The scheduler speaks events.k8s.io: an action and one exact time, where the kubelet has a source and a count."""
    moment = f"{timestamp(now_s)[:-1]}.{int(now_s % 1 * 1e6):06d}Z"
    return {
        "action": "Binding",
        "source": {},
        "firstTimestamp": None,
        "lastTimestamp": None,
        "eventTime": moment,
        "reportingInstance": SCHEDULER,
    }


def matches(event: dict[str, Any], namespace: str | None, pod: str | None) -> bool:
    """Whether the event belongs to the namespace (None: any) and the pod of that name (None: any)."""
    if namespace is not None and event["metadata"]["namespace"] != namespace:
        return False
    return pod is None or event["involvedObject"]["name"] == pod
