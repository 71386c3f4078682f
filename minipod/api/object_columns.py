"""What kubectl's tables show of the objects of each kind (layer 1, pure).

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
    """The table of one kind. `wide`: titles that `-o wide` adds; `row` returns all cells, the wide columns last."""

    columns: tuple[str, ...]
    cells: Callable[[Any, float], list[str]]
    wide: tuple[str, ...] = ()

    def titles(self, wide: bool) -> tuple[str, ...]:
        return (*self.columns, *self.wide) if wide else self.columns

    def row(self, item: Any, now: float, wide: bool) -> list[str]:
        return self.cells(item, now)[: len(self.titles(wide))]


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
