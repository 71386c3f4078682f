"""The verb `apply` (layer 6): creates, changes or replaces the objects of manifests.

`apply` merges the manifest into the stored object, `create` requires that there is none, `replace` takes the manifest
as the whole object. Each object is read and written in one transaction, so no concurrent change is lost.
"""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import msgspec

from minipod.agent.manifests import Manifest, ManifestObject, loaded
from minipod.agent.node import Node
from minipod.agent.pods.table import Pods
from minipod.agent.registry.registry import Preconditions, Registry
from minipod.api.kinds import ALL_KINDS, kind_named
from minipod.control.verbs.changes import Data, as_data, decoded_object
from minipod.control.verbs.requests import converted
from minipod.control.wire import Connection, Message
from minipod.errors import ConflictError, ManifestError, MinipodError, NotFoundError
from minipod.plan.volumes.claims import admitted

CREATED, CONFIGURED, REPLACED, UNCHANGED = "created", "configured", "replaced", "unchanged"
Mode = Literal["apply", "create", "replace"]

_ORDER = {kind.name: place for place, kind in enumerate(ALL_KINDS)}


class ApplyRequest(msgspec.Struct, frozen=True):
    files: list[Manifest]
    namespace: str | None = None
    mode: Mode = "apply"
    dry_run: bool = False


class Applier:
    """Applies the objects of one request. All methods raise ConflictError, NotFoundError, ManifestError, HostError."""

    def __init__(self, registry: Registry, dry_run: bool = False) -> None:
        self._registry = registry
        self._dry_run = dry_run

    def carry_out(self, manifest: ManifestObject, mode: str) -> dict[str, str]:
        """The object's kind, namespace and name; `result`: created, configured, replaced or unchanged."""
        kind, metadata = kind_named(manifest.kind), manifest.object.metadata
        found = self._registry.find(kind.struct, metadata.namespace, metadata.name) if metadata.name else None
        if found is None and mode == "replace":
            raise NotFoundError(f'{kind.plural} "{metadata.name}" not found')
        if mode == "create" or found is None:
            name, result = self._create(manifest, found, mode), CREATED
        else:
            name, result = metadata.name, self._change(manifest, mode)
        return {"kind": manifest.kind, "namespace": metadata.namespace, "name": name, "result": result}

    def _create(self, manifest: ManifestObject, found: Any, mode: str) -> str:
        """The name that it got."""
        kind, metadata = kind_named(manifest.kind), manifest.object.metadata
        if found is not None:
            raise ConflictError(f'{kind.plural} "{metadata.name}" already exists')
        if mode == "apply" and not metadata.name:
            raise ManifestError(f"{kind.name} {metadata.generate_name}: generateName goes with create or run")
        if metadata.resource_version:
            what = f"{kind.name} {metadata.name}"
            raise ManifestError(f"{what}: resourceVersion should not be set on objects to be created")
        if self._dry_run:
            return str(metadata.name or metadata.generate_name)
        created = self._registry.create(admitted(manifest.object), manifest.written if mode == "apply" else None)
        return str(created.metadata.name)

    def _change(self, manifest: ManifestObject, mode: str) -> str:
        kind, metadata = kind_named(manifest.kind), manifest.object.metadata

        def change(stored: Any) -> Any:
            current = as_data(stored)
            if mode == "replace":
                wanted = replaced(manifest.written, current)
            else:
                from minipod.api.merge.difference import three_way  # large, and a first apply needs none of it

                wanted = three_way(kind.name, self._registry.applied(stored), manifest.written, current)
            return decoded_object(kind, metadata.name, wanted)

        done = self._registry.update(
            kind,
            metadata.namespace,
            metadata.name,
            change,
            Preconditions(metadata.uid, metadata.resource_version),
            applied=manifest.written if mode == "apply" else None,
            dry_run=self._dry_run,
        )
        if mode == "replace":
            return REPLACED if done.changed or not self._dry_run else UNCHANGED
        return CONFIGURED if done.changed else UNCHANGED


def replaced(written: Data, current: Data) -> Data:
    """The written object as a replacement, with the fields of the current one that a replacement cannot set."""
    here = current["metadata"]
    names = ("uid", "creationTimestamp", "resourceVersion", "generation", "deletionTimestamp", "finalizers")
    kept = {name: here[name] for name in names if name in here}
    wanted = {**written, "metadata": {**written["metadata"], **kept}}
    if "spec" in wanted:
        # Assigned to the object after it was created: its node, its volume.
        chosen = ("nodeName", "volumeName", "storageClassName", "volumeMode")
        if current["kind"] in ("Pod", "PersistentVolumeClaim"):
            filled = {name: current["spec"][name] for name in chosen if name in current["spec"]}
            wanted["spec"] = {**filled, **wanted["spec"]}
    return wanted


async def apply(node: Node, pods: Pods, connection: Connection, request: Message) -> dict[str, Any]:
    """The verb `apply`: one object after the other; a failure is reported and does not stop the others."""
    wanted = converted(request, ApplyRequest)
    manifests = await loaded(
        wanted.files,
        wanted.namespace,
        pods=False,
        exists=lambda pod: pods.worker(pod.metadata.namespace, pod.metadata.name) is not None,
    )
    for warning in manifests.warnings:
        connection.send({"event": "warning", "message": warning})
    applier = Applier(node.registry, wanted.dry_run)
    failures: list[MinipodError] = []
    for manifest in in_order(manifests.objects):
        try:
            result = applier.carry_out(manifest, wanted.mode)
        except (ConflictError, NotFoundError, ManifestError) as error:
            failures.append(error)
            continue
        connection.send({"event": "applied", **result})
        await asyncio.sleep(0)  # lets probes and other clients run between many objects
    if len(failures) == 1:
        raise failures[0]
    if failures:
        raise ManifestError(f"{len(failures)} objects could not be applied", [str(error) for error in failures])
    return {}


def apply_other_kinds(registry: Registry, manifests: list[ManifestObject]) -> list[dict[str, str]]:
    """Applies the objects of a `run` request that are no pods. Raises what `Applier.carry_out` raises."""
    applier = Applier(registry)
    return [applier.carry_out(manifest, "apply") for manifest in in_order(manifests)]


def in_order(manifests: list[ManifestObject]) -> list[ManifestObject]:
    """Pods last, so that what they refer to exists, in whatever order the manifest lists it."""
    return sorted(manifests, key=lambda manifest: _ORDER[manifest.kind])
