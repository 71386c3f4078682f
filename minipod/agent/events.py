"""What happened to the pods, as v1 Events (layer 5): aggregated by count, bounded, kept for an hour.

Kubernetes' client-go tools/record correlates equal events into one with a count; so does this, by object, field
path, type, reason and message. Knows nothing of what the events mean.
"""

from __future__ import annotations

import time
import uuid
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from minipod.agent.store import EventRecord, Store

LIFETIME_S = 3600.0
MAX_EVENTS = 10_000  # of all pods
MAX_EVENTS_PER_POD = 200  # of different kinds; a message that differs each time must not fill the disk
MAX_MESSAGE = 1024  # v1 Event validation


class PodReference(NamedTuple):
    namespace: str
    name: str
    uid: str


class _Key(NamedTuple):
    pod_uid: str
    field_path: str
    type: str
    reason: str
    message: str


class EventRecorder:
    """Events of all pods. Every method takes `now_s`, seconds since the epoch."""

    def __init__(self, store: Store, node_name: str, notify: Callable[[str, dict[str, Any]], None], now_s: float):
        """`notify(type, event)` is told of each: ADDED, MODIFIED or DELETED."""
        self._store = store
        self._node_name = node_name
        self._notify = notify
        self._events: OrderedDict[_Key, dict[str, Any]] = OrderedDict()  # by last time, oldest first
        self._last_s: dict[_Key, float] = {}
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
        message = message[:MAX_MESSAGE]
        key = _Key(pod.uid, field_path, kind, reason, message)
        known = self._events.get(key)
        stamp = timestamp(now_s)
        with self._store.transaction():
            version = str(self._store.next_version())
            if known is None:
                event = self._new(pod, key, component, stamp, version, now_s)
            else:
                metadata = {**known["metadata"], "resourceVersion": version}
                event = {**known, "metadata": metadata, "count": known["count"] + 1, "lastTimestamp": stamp}
            self._events[key] = event
            self._events.move_to_end(key)
            self._last_s[key] = now_s
            self._store.put_event(
                EventRecord(event["metadata"]["uid"], pod.namespace, pod.uid, now_s, msgspec.json.encode(event))
            )
        self._notify("ADDED" if known is None else "MODIFIED", event)
        if known is None:
            self._bound(pod.uid)

    def _new(
        self, pod: PodReference, key: _Key, component: str, stamp: str, version: str, now_s: float
    ) -> dict[str, Any]:
        involved = {
            "kind": "Pod",
            "namespace": pod.namespace,
            "name": pod.name,
            "uid": pod.uid,
            "apiVersion": "v1",
        }
        if key.field_path:
            involved["fieldPath"] = key.field_path
        return {
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
            "source": {"component": component, **({"host": self._node_name} if component == "kubelet" else {})},
            "firstTimestamp": stamp,
            "lastTimestamp": stamp,
            "count": 1,
            "type": key.type,
            "eventTime": None,
            "reportingComponent": component,
            "reportingInstance": self._node_name if component == "kubelet" else "",
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

    def _bound(self, pod_uid: str) -> None:
        mine = [key for key in self._events if key.pod_uid == pod_uid]
        self._forget(mine[: max(0, len(mine) - MAX_EVENTS_PER_POD)])
        self._forget(list(self._events)[: max(0, len(self._events) - MAX_EVENTS)])

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


def matches(event: dict[str, Any], namespace: str | None, pod: str | None) -> bool:
    """Whether the event belongs to the namespace (None: any) and the pod of that name (None: any)."""
    if namespace is not None and event["metadata"]["namespace"] != namespace:
        return False
    return pod is None or event["involvedObject"]["name"] == pod


def timestamp(now_s: float) -> str:
    """metav1.Time on the wire: RFC 3339 in UTC with whole seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now_s))
