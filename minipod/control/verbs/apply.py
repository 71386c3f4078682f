"""Creating and changing objects from manifests (layer 6): the verb `apply`, in its three ways.

`apply` merges what is written into what there is, `create` wants that there is nothing, `replace` takes what is
written as the whole. What may change is `api.validation`'s to say; pods are changed through their workers.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from minipod.agent.manifests import Given, Manifest, loaded
from minipod.agent.node import Node
from minipod.agent.objects.table import STRUCTS
from minipod.agent.pods.table import Pods
from minipod.api.defaults import defaulted
from minipod.api.kinds import kind_named
from minipod.api.merge import without_server_fields
from minipod.api.types import Pod
from minipod.api.validation import validate_update
from minipod.api.validation.prepare import prepared_update
from minipod.control.verbs.requests import converted
from minipod.control.wire import Connection, Message
from minipod.errors import ConflictError, ManifestError, MinipodError, NotFoundError
from minipod.lifecycle import model
from minipod.plan.volumes.claims import admitted, refusal_to_grow

CREATED, CONFIGURED, REPLACED, UNCHANGED = "created", "configured", "replaced", "unchanged"


class ApplyRequest(msgspec.Struct, frozen=True):
    files: list[Manifest]
    namespace: str | None = None
    mode: Literal["apply", "create", "replace"] = "apply"
    dry_run: bool = False


class Applier:
    """One request's. All methods raise ConflictError, NotFoundError, ManifestError, HostError."""

    def __init__(self, node: Node, pods: Pods, dry_run: bool = False) -> None:
        self._node = node
        self._pods = pods
        self._dry_run = dry_run

    def carry_out(self, given: Given, mode: str) -> str:
        """What became of it: created, configured, replaced or unchanged."""
        current = self._current(given)
        if mode == "create" or (current is None and mode == "apply"):
            if current is not None:
                raise ConflictError(f'{kind_named(given.kind).plural} "{_name(given)}" already exists')
            self._create(given, remember=mode == "apply")
            return CREATED
        if current is None:
            raise NotFoundError(f'{kind_named(given.kind).plural} "{_name(given)}" not found')
        return self._change(given, current, mode)

    def _current(self, given: Given) -> Any:
        metadata = given.object.metadata
        if not metadata.name:
            return None
        if given.kind != "Pod":
            return self._node.objects.find(type(given.object), metadata.namespace, metadata.name)
        found = self._pods.select(metadata.namespace, metadata.name)
        if not found:
            return None
        pod, version = found[0].state.pod, found[0].pod.metadata.resource_version
        return msgspec.structs.replace(pod, metadata=msgspec.structs.replace(pod.metadata, resource_version=version))

    def _create(self, given: Given, remember: bool) -> None:
        thing = given.object
        if remember and not thing.metadata.name:
            raise ManifestError(f"{given.kind} {thing.metadata.generate_name}: generateName goes with create or run")
        if self._dry_run:
            return
        is_pod = given.kind == "Pod"
        thing = self._pods.create([thing])[0].pod if is_pod else self._node.objects.create(admitted(thing))
        if remember:
            self._remember(given, thing)

    def _change(self, given: Given, old: Any, mode: str) -> str:
        metadata = old.metadata
        current: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(old))
        if mode == "apply":
            from minipod.api.merge.difference import three_way

            before = self._node.objects.applied(given.kind, metadata.namespace, metadata.name)
            wanted = three_way(given.kind, before, given.written, current)
        else:
            wanted = {**given.written, "metadata": {**given.written["metadata"], **_kept(current["metadata"])}}
            if given.kind in ("Pod", "PersistentVolumeClaim") and "spec" in wanted:
                wanted["spec"] = {**_filled_in(current["spec"]), **wanted["spec"]}
        struct = Pod if given.kind == "Pod" else STRUCTS[given.kind]
        new: Any = msgspec.json.decode(msgspec.json.encode(wanted), type=struct)
        new = prepared_update(defaulted(new, metadata.namespace), old)
        changed = msgspec.json.encode(_without_generation(new)) != msgspec.json.encode(_without_generation(old))
        if changed:
            _check(given, new, old)
        if self._dry_run:
            return _word(mode) if changed else UNCHANGED
        if changed and given.kind == "Pod":
            self._pods.find(metadata.namespace, metadata.name).tell(model.PodUpdated(pod=new))
        elif changed:
            new = self._node.objects.update(new, old)
        if mode == "apply":
            self._remember(given, new)
        return _word(mode) if changed or mode == "replace" else UNCHANGED

    def _remember(self, given: Given, thing: Any) -> None:
        metadata = thing.metadata
        manifest = without_server_fields(given.written)
        self._node.objects.set_applied(given.kind, metadata.namespace, metadata.name, metadata.uid, manifest)


def _word(mode: str) -> str:
    return REPLACED if mode == "replace" else CONFIGURED


def _name(given: Given) -> str:
    return str(given.object.metadata.name)


def _kept(metadata: dict[str, Any]) -> dict[str, Any]:
    """What a replacement may not say otherwise."""
    names = ("uid", "creationTimestamp", "resourceVersion", "generation", "deletionTimestamp", "finalizers")
    return {name: metadata[name] for name in names if name in metadata}


def _filled_in(spec: dict[str, Any]) -> dict[str, Any]:
    """What was chosen for the object after it was written: its node, its volume."""
    names = ("nodeName", "volumeName", "storageClassName", "volumeMode")
    return {name: spec[name] for name in names if name in spec}


def _without_generation(thing: Any) -> Any:
    metadata = msgspec.structs.replace(thing.metadata, generation=0, resource_version="")
    return msgspec.structs.replace(thing, metadata=metadata)


def _check(given: Given, new: Any, old: Any) -> None:
    if refusal := refusal_to_grow(new, old):
        raise ManifestError(refusal)
    errors = validate_update(new, old)
    if errors:
        texts: list[object] = [f"{error.field}: {error.message}" for error in errors]
        raise ManifestError(f'{given.kind} "{_name(given)}" is invalid: {"; ".join(map(str, texts))}', texts)


async def apply(node: Node, pods: Pods, connection: Connection, request: Message) -> dict[str, Any]:
    """The verb `apply`: one object after the other; those that cannot be changed are told, the others are."""
    wanted = converted(request, ApplyRequest)
    known = {(worker.namespace, worker.name) for worker in pods.select(None, None)}
    manifests = await loaded(
        wanted.files,
        wanted.namespace,
        pods=False,
        exists=lambda pod: (pod.metadata.namespace, pod.metadata.name) in known,
    )
    for warning in manifests.warnings:
        connection.send({"event": "warning", "message": warning})
    applier = Applier(node, pods, wanted.dry_run)
    failures: list[MinipodError] = []
    for given in in_order(manifests.given):
        try:
            result = applier.carry_out(given, wanted.mode)
        except (ConflictError, NotFoundError, ManifestError) as error:
            failures.append(error)
            continue
        metadata = given.object.metadata
        body = {"kind": given.kind, "namespace": metadata.namespace, "name": metadata.name, "result": result}
        connection.send({"event": "applied", **body})
    if len(failures) == 1:
        raise failures[0]
    if failures:
        raise ManifestError(f"{len(failures)} objects could not be applied", [str(error) for error in failures])
    return {}


def keep_beside(node: Node, pods: Pods, given: list[Given]) -> list[dict[str, str]]:
    """What `run` does with the objects that its pods want: as `apply`. Raises what `Applier.carry_out` raises."""
    applier = Applier(node, pods)
    told = []
    for one in in_order(given):
        result = applier.carry_out(one, "apply")
        told.append(
            {"kind": one.kind, "name": _name(one), "namespace": one.object.metadata.namespace, "result": result}
        )
    return told


_FIRST = ("Namespace", "PersistentVolume", "PersistentVolumeClaim", "Secret", "ConfigMap", "Pod")


def in_order(given: list[Given]) -> list[Given]:
    """Pods last: what they need is there when they come, in whatever order it was written."""
    return sorted(given, key=lambda one: _FIRST.index(one.kind))
