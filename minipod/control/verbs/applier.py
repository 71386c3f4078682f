"""One object of a manifest against the stored one (layer 6): created, changed by a merge, or replaced.

`apply` merges the manifest into the stored object, `create` requires that there is none, `replace` takes the manifest
as the whole object. Each object is read and written in one transaction, so no concurrent change is lost.
"""

from __future__ import annotations

import shlex
from typing import Any, Literal, NamedTuple

from minipod.agent.manifests import ManifestObject
from minipod.agent.registry.registry import Preconditions, Registry
from minipod.api.kinds import ALL_KINDS, POD, kind_named
from minipod.control.verbs.changes import Data, as_data, decoded_object
from minipod.errors import ConflictError, ManifestError, NotFoundError
from minipod.plan.volumes.claims import admitted

CREATED, CONFIGURED, REPLACED, UNCHANGED = "created", "configured", "replaced", "unchanged"
Mode = Literal["apply", "create", "replace"]

_ORDER = {kind.name: place for place, kind in enumerate(ALL_KINDS)}


class Applied(NamedTuple):
    """The object as it is stored, or would be; what became of it: created, configured, replaced or unchanged."""

    object: Any
    result: str

    @property
    def uid(self) -> str:
        return str(self.object.metadata.uid)

    def event(self, with_object: bool = False) -> dict[str, Any]:
        """For the client. `with_object`: not only its name."""
        metadata = self.object.metadata
        name = metadata.name or metadata.generate_name
        place = {"kind": self.object.kind, "namespace": metadata.namespace, "name": name}
        whole = {"object": as_data(self.object)} if with_object else {}
        return {"event": "applied", **place, "result": self.result, **whole}


class Applier:
    """Applies objects. All methods raise ConflictError, NotFoundError, ManifestError, HostError.

    `save_config`: also what `create` and `replace` were given is what the next `apply` compares with.
    """

    def __init__(self, registry: Registry, dry_run: bool = False, save_config: bool = False) -> None:
        self._registry = registry
        self._dry_run = dry_run
        self._save_config = save_config

    def find(self, manifest: ManifestObject) -> Any | None:
        """The stored object of that kind and name."""
        kind, metadata = kind_named(manifest.kind), manifest.object.metadata
        return self._registry.find(kind.struct, metadata.namespace, metadata.name) if metadata.name else None

    def carry_out(self, manifest: ManifestObject, mode: Mode) -> Applied:
        kind, metadata = kind_named(manifest.kind), manifest.object.metadata
        found = self.find(manifest)
        if found is None and mode == "replace":
            raise NotFoundError(f'{kind.plural} "{metadata.name}" not found')
        if found is not None and mode == "create":
            raise ConflictError(f'{kind.plural} "{metadata.name}" already exists')
        if found is not None:
            return self._change(manifest, mode)
        if mode == "apply" and not metadata.name:
            raise ManifestError(f"{kind.name} {metadata.generate_name}: generateName goes with create or run")
        return self.create(manifest, mode)

    def create(self, manifest: ManifestObject, mode: Mode) -> Applied:
        """Creates the object. A resourceVersion in the manifest is that of another object: kubectl sends
        none (cli-runtime, resource/helper.go).
        """
        is_kept = mode == "apply" or self._save_config
        applied = manifest.written if is_kept else None
        return Applied(self._registry.create(admitted(manifest.object), applied, dry_run=self._dry_run), CREATED)

    def _change(self, manifest: ManifestObject, mode: Mode) -> Applied:
        kind, metadata = kind_named(manifest.kind), manifest.object.metadata

        def change(stored: Any) -> Any:
            current = as_data(stored)
            if mode == "replace":
                wanted = replaced(manifest.written, current)
            else:
                from minipod.api.merge.difference import three_way  # large, and a first apply needs none of it

                wanted = three_way(kind.name, self._registry.applied(stored), manifest.written, current)
            return decoded_object(kind, metadata.name, wanted)

        try:
            done = self._registry.update(
                kind,
                metadata.namespace,
                metadata.name,
                change,
                Preconditions(metadata.uid, metadata.resource_version),
                applied=manifest.written if mode == "apply" or self._save_config else None,
                dry_run=self._dry_run,
            )
        except ManifestError as error:
            raise with_remedy(error, manifest, mode) from None
        if mode == "replace":
            return Applied(done.object, REPLACED if done.changed or not self._dry_run else UNCHANGED)
        return Applied(done.object, CONFIGURED if done.changed else UNCHANGED)


def with_remedy(error: ManifestError, manifest: ManifestObject, mode: Mode) -> ManifestError:
    """The error with what to type, where the change of a pod is right but for a pod that exists."""
    if manifest.kind != POD.name or not all(": Forbidden: " in str(fault) for fault in error.errors or [""]):
        return error
    metadata = manifest.object.metadata
    file = "-" if manifest.file.startswith("<") else shlex.quote(manifest.file)
    place = "" if metadata.namespace == "default" else f" -n {metadata.namespace}"
    remedy = f"to end this pod and start the new one: minipod {mode} --force -f {file}{place}"
    return ManifestError(f"{error}; {remedy}", error.errors)


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


def apply_other_kinds(registry: Registry, manifests: list[ManifestObject], dry_run: bool = False) -> list[Applied]:
    """Applies the objects of a `run` request that are no pods. Raises what `Applier.carry_out` raises."""
    applier = Applier(registry, dry_run)
    return [applier.carry_out(manifest, "apply") for manifest in in_order(manifests)]


def in_order(manifests: list[ManifestObject]) -> list[ManifestObject]:
    """Pods last, so that what they refer to exists, in whatever order the manifest lists it."""
    return sorted(manifests, key=lambda manifest: _ORDER[manifest.kind])
