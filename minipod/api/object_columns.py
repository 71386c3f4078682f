"""What kubectl's tables say about the objects of each kind (layer 1, pure).

Rules: pkg/printers/internalversion/printers.go. `now` is seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from minipod.api import columns
from minipod.api.columns import age
from minipod.api.types import ConfigMap, Namespace, PersistentVolume, PersistentVolumeClaim, Pod, Secret

UNSET = "<unset>"
_SHORT_MODES = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}


class Table(msgspec.Struct, frozen=True):
    """Of one kind. `wide`: titles that `-o wide` adds; `row` gives all cells, the wide ones after the others."""

    columns: tuple[str, ...]
    cells: Callable[[Any, float], list[str]]
    wide: tuple[str, ...] = ()

    def titles(self, wide: bool) -> tuple[str, ...]:
        return (*self.columns, *self.wide) if wide else self.columns

    def row(self, thing: Any, now: float, wide: bool) -> list[str]:
        return self.cells(thing, now)[: len(self.titles(wide))]


def access_modes(modes: tuple[str, ...]) -> str:
    """`RWO,ROX`: each once, in the order of GetAccessModesAsString."""
    return ",".join(short for name, short in _SHORT_MODES.items() if name in modes)


def _config_map(thing: ConfigMap, now: float) -> list[str]:
    count = len(thing.data) + len(thing.binary_data)
    return [thing.metadata.name, str(count), age(thing.metadata.creation_timestamp, now)]


def _secret(thing: Secret, now: float) -> list[str]:
    return [thing.metadata.name, thing.type, str(len(thing.data)), age(thing.metadata.creation_timestamp, now)]


def _claim(thing: PersistentVolumeClaim, now: float) -> list[str]:
    bound = thing.spec.volume_name != ""
    phase = "Terminating" if thing.metadata.deletion_timestamp else thing.status.phase
    return [
        thing.metadata.name,
        phase,
        thing.spec.volume_name,
        thing.status.capacity.get("storage", "0") if bound else "",
        access_modes(thing.status.access_modes) if bound else "",
        thing.spec.storage_class_name or "",
        thing.spec.volume_attributes_class_name or UNSET,
        age(thing.metadata.creation_timestamp, now),
        thing.spec.volume_mode or UNSET,
    ]


def _volume(thing: PersistentVolume, now: float) -> list[str]:
    spec, reference = thing.spec, thing.spec.claim_ref
    return [
        thing.metadata.name,
        spec.capacity.get("storage", "0"),
        access_modes(spec.access_modes),
        spec.persistent_volume_reclaim_policy,
        "Terminating" if thing.metadata.deletion_timestamp else thing.status.phase,
        f"{reference.namespace}/{reference.name}" if reference is not None else "",
        spec.storage_class_name,
        spec.volume_attributes_class_name or UNSET,
        thing.status.reason,
        age(thing.metadata.creation_timestamp, now),
        spec.volume_mode or UNSET,
    ]


def _pod(thing: Pod, now: float) -> list[str]:
    return columns.pod_row(thing, now, wide=True)


def _namespace(thing: Namespace, now: float) -> list[str]:
    return [thing.metadata.name, thing.status.phase, age(thing.metadata.creation_timestamp, now)]


_CLAIM = ("NAME", "STATUS", "VOLUME", "CAPACITY", "ACCESS MODES", "STORAGECLASS", "VOLUMEATTRIBUTESCLASS", "AGE")
_VOLUME = (
    *("NAME", "CAPACITY", "ACCESS MODES", "RECLAIM POLICY", "STATUS", "CLAIM", "STORAGECLASS"),
    *("VOLUMEATTRIBUTESCLASS", "REASON", "AGE"),
)

CONFIG_MAPS = Table(("NAME", "DATA", "AGE"), _config_map)
SECRETS = Table(("NAME", "TYPE", "DATA", "AGE"), _secret)
PERSISTENT_VOLUME_CLAIMS = Table(_CLAIM, _claim, ("VOLUMEMODE",))
PERSISTENT_VOLUMES = Table(_VOLUME, _volume, ("VOLUMEMODE",))
NAMESPACES = Table(("NAME", "STATUS", "AGE"), _namespace)
PODS = Table(columns.POD_COLUMNS, _pod, columns.POD_WIDE_COLUMNS[len(columns.POD_COLUMNS) :])
