"""What kubectl's tables show of the objects of each kind (layer 1, pure).

Rules: pkg/printers/internalversion/printers.go. `now` is seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from minipod.api import columns
from minipod.api.columns import age
from minipod.api.timestamps import seconds_of, timestamp
from minipod.api.types import (
    ConfigMap,
    Event,
    Namespace,
    Node,
    PersistentVolume,
    PersistentVolumeClaim,
    Pod,
    Secret,
)

UNSET = "<unset>"
_SHORT_MODES = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}


class Table(msgspec.Struct, frozen=True):
    """Of one kind. `columns`: all titles; `wide`: those only with `-o wide`; `cells`: a text for each title."""

    columns: tuple[str, ...]
    cells: Callable[[Any, float], list[str]]
    wide: tuple[str, ...] = ()

    def titles(self, wide: bool) -> tuple[str, ...]:
        return self.columns if wide else tuple(title for title in self.columns if title not in self.wide)

    def row(self, thing: Any, now: float, wide: bool) -> list[str]:
        cells = self.cells(thing, now)
        if wide or not self.wide:
            return cells
        return [cell for title, cell in zip(self.columns, cells, strict=True) if title not in self.wide]


def access_modes(modes: tuple[str, ...]) -> str:
    """`RWO,ROX`: each once, in the order of GetAccessModesAsString."""
    return ",".join(short for name, short in _SHORT_MODES.items() if name in modes)


def _config_map(config_map: ConfigMap, now: float) -> list[str]:
    count = len(config_map.data) + len(config_map.binary_data)
    return [config_map.metadata.name, str(count), age(config_map.metadata.creation_timestamp, now)]


def _secret(secret: Secret, now: float) -> list[str]:
    return [secret.metadata.name, secret.type, str(len(secret.data)), age(secret.metadata.creation_timestamp, now)]


def _claim(claim: PersistentVolumeClaim, now: float) -> list[str]:
    bound = claim.spec.volume_name != ""
    phase = "Terminating" if claim.metadata.deletion_timestamp else claim.status.phase
    return [
        claim.metadata.name,
        phase,
        claim.spec.volume_name,
        claim.status.capacity.get("storage", "0") if bound else "",
        access_modes(claim.status.access_modes) if bound else "",
        claim.spec.storage_class_name or "",
        claim.spec.volume_attributes_class_name or UNSET,
        age(claim.metadata.creation_timestamp, now),
        claim.spec.volume_mode or UNSET,
    ]


def _volume(volume: PersistentVolume, now: float) -> list[str]:
    spec, reference = volume.spec, volume.spec.claim_ref
    return [
        volume.metadata.name,
        spec.capacity.get("storage", "0"),
        access_modes(spec.access_modes),
        spec.persistent_volume_reclaim_policy,
        "Terminating" if volume.metadata.deletion_timestamp else volume.status.phase,
        f"{reference.namespace}/{reference.name}" if reference is not None else "",
        spec.storage_class_name,
        spec.volume_attributes_class_name or UNSET,
        volume.status.reason,
        age(volume.metadata.creation_timestamp, now),
        spec.volume_mode or UNSET,
    ]


def _pod(thing: Pod, now: float) -> list[str]:
    return columns.pod_row(thing, now, wide=True)


def _namespace(namespace: Namespace, now: float) -> list[str]:
    return [namespace.metadata.name, namespace.status.phase, age(namespace.metadata.creation_timestamp, now)]


def _second(text: str | None) -> str | None:
    """The scheduler counts microseconds where all others count seconds: their ages would run backwards."""
    seconds = seconds_of(text)
    return None if seconds is None else timestamp(seconds)


def _event(thing: Event, now: float) -> list[str]:
    subject, series = thing.involved_object, thing.series
    first = age(thing.first_timestamp or _second(thing.event_time), now)
    last, count = age(thing.last_timestamp, now) if thing.last_timestamp else first, thing.count or 1
    if series is not None:
        last, count = age(_second(series.last_observed_time), now), series.count
    source = thing.source.component or thing.reporting_component
    place = thing.source.host or thing.reporting_instance
    return [
        last,
        thing.type,
        thing.reason,
        f"{subject.kind.lower()}/{subject.name}" if subject.name else subject.kind.lower(),
        subject.field_path,
        f"{source}, {place}" if place else source,
        thing.message.strip(),
        first,
        str(count),
        thing.metadata.name,
    ]


_ROLE = "node-role.kubernetes.io/"


def _node(thing: Node, now: float) -> list[str]:
    ready = next((condition.status for condition in thing.status.conditions if condition.type == "Ready"), None)
    status = "Unknown" if ready is None else "Ready" if ready == "True" else "NotReady"
    roles = sorted(label.removeprefix(_ROLE) for label in thing.metadata.labels if label.startswith(_ROLE))
    info = thing.status.node_info

    def address(type_: str) -> str:
        return next((found.address for found in thing.status.addresses if found.type == type_), columns.NONE)

    return [
        thing.metadata.name,
        status + (",SchedulingDisabled" if thing.spec.unschedulable else ""),
        ",".join(roles) or columns.NONE,
        age(thing.metadata.creation_timestamp, now),
        info.kubelet_version,
        address("InternalIP"),
        address("ExternalIP"),
        info.os_image or columns.UNKNOWN,
        info.kernel_version or columns.UNKNOWN,
        info.container_runtime_version or columns.UNKNOWN,
    ]


_EVENT = (
    *("LAST SEEN", "TYPE", "REASON", "OBJECT", "SUBOBJECT", "SOURCE", "MESSAGE"),
    *("FIRST SEEN", "COUNT", "NAME"),
)
_NODE = (
    *("NAME", "STATUS", "ROLES", "AGE", "VERSION"),
    *("INTERNAL-IP", "EXTERNAL-IP", "OS-IMAGE", "KERNEL-VERSION", "CONTAINER-RUNTIME"),
)
_CLAIM = ("NAME", "STATUS", "VOLUME", "CAPACITY", "ACCESS MODES", "STORAGECLASS", "VOLUMEATTRIBUTESCLASS", "AGE")
_VOLUME = (
    *("NAME", "CAPACITY", "ACCESS MODES", "RECLAIM POLICY", "STATUS", "CLAIM", "STORAGECLASS"),
    *("VOLUMEATTRIBUTESCLASS", "REASON", "AGE"),
)

CONFIG_MAPS = Table(("NAME", "DATA", "AGE"), _config_map)
SECRETS = Table(("NAME", "TYPE", "DATA", "AGE"), _secret)
PERSISTENT_VOLUME_CLAIMS = Table((*_CLAIM, "VOLUMEMODE"), _claim, ("VOLUMEMODE",))
PERSISTENT_VOLUMES = Table((*_VOLUME, "VOLUMEMODE"), _volume, ("VOLUMEMODE",))
NAMESPACES = Table(("NAME", "STATUS", "AGE"), _namespace)
PODS = Table(columns.POD_WIDE_COLUMNS, _pod, columns.POD_WIDE_COLUMNS[len(columns.POD_COLUMNS) :])
EVENTS = Table(_EVENT, _event, ("SUBOBJECT", "SOURCE", "FIRST SEEN", "COUNT", "NAME"))
NODES = Table(_NODE, _node, _NODE[5:])
