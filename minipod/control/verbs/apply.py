"""The verb `apply` (layer 6): creates, changes or replaces the objects of manifests, one after the other.

What cannot be changed is deleted and created again where the client wants that (`force`); what was applied before and
is in none of the manifests is deleted where it wants that (`prune`).
"""

from __future__ import annotations

import asyncio
import itertools
from typing import Annotated, Any

import msgspec

from minipod.agent import processes
from minipod.agent.manifests import Manifest, ManifestObject, loaded
from minipod.agent.node import Node
from minipod.agent.objects.claims import Claims
from minipod.agent.pods.table import Pods
from minipod.agent.registry.selection import parse_selectors
from minipod.api.kinds import WRITABLE_KINDS, Kind, kind_named
from minipod.api.load import FieldValidation
from minipod.api.selectors import matches_labels
from minipod.control.verbs.applier import CONFIGURED, CREATED, REPLACED, Applied, Applier, Mode, in_order
from minipod.control.verbs.deletion import Deletion
from minipod.control.verbs.requests import converted, or_gone
from minipod.control.wire import Connection, Message
from minipod.errors import ConflictError, ManifestError, MinipodError, NotFoundError, UsageError


class Prune(msgspec.Struct, frozen=True):
    """Delete what `apply` made, has these labels and is in no manifest. `kinds`: of these only; none: those that are in
    namespaces."""

    selector: str = ""
    kinds: list[str] = []


class ApplyRequest(msgspec.Struct, frozen=True):
    """`objects`: the events hold whole objects. `owned`: pods that are created end with the client's process.

    `wait`: the answer comes when what was pruned is gone.
    """

    files: list[Manifest]
    namespace: str | None = None
    mode: Mode = "apply"
    dry_run: bool = False
    validation: FieldValidation = "strict"
    selector: str = ""
    objects: bool = False
    save_config: bool = False
    force: bool = False
    grace_period: Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)] | None = None
    timeout_s: Annotated[float, msgspec.Meta(gt=0)] | None = None
    prune: Prune | None = None
    wait: bool = False
    owned: bool = False


class Apply:
    """One `apply` request. A failure is reported and does not stop the other objects."""

    def __init__(self, node: Node, pods: Pods, claims: Claims, connection: Connection, request: Message) -> None:
        self._request = wanted = converted(request, ApplyRequest)
        self._node = node
        self._pods = pods
        self._connection = connection
        self._applier = Applier(node.registry, wanted.dry_run, wanted.save_config)
        self._deletion = Deletion(node, pods, claims, connection, wanted.grace_period, wanted.timeout_s)

    async def answer(self) -> dict[str, Any]:
        manifests = await loaded(
            self._request.files,
            self._request.namespace,
            pods=False,
            exists=lambda pod: self._pods.worker(pod.metadata.namespace, pod.metadata.name) is not None,
            validation=self._request.validation,
            selector=self._request.selector,
        )
        for warning in manifests.warnings:
            self._connection.send({"event": "warning", "message": warning})
        is_here = await or_gone(self._connection, self._all(in_order(manifests.objects)))
        return {} if is_here is None else is_here

    async def _all(self, manifests: list[ManifestObject]) -> dict[str, Any]:
        prune_kinds = [_prunable(word) for word in self._request.prune.kinds] if self._request.prune else []
        if self._request.force and self._request.mode == "replace":
            await self._delete(manifests)
        failures: list[MinipodError] = []
        for manifest in manifests:
            try:
                applied = await self._carry_out(manifest)
            except (ConflictError, NotFoundError, ManifestError) as error:
                failures.append(error)
                continue
            if self._request.owned and applied.result == CREATED and (worker := self._pods.by_uid(applied.uid)):
                self._pods.own(worker, processes.identity(self._connection.peer_pid))
            self._connection.send(applied.event(self._request.objects))
            await asyncio.sleep(0)  # lets probes and other clients run between many objects
        if len(failures) == 1:
            raise failures[0]
        if failures:
            raise ManifestError(f"{len(failures)} objects could not be applied", [str(error) for error in failures])
        if self._request.prune is not None:
            await self._prune(self._request.prune, prune_kinds, manifests)
        return {}

    async def _carry_out(self, manifest: ManifestObject) -> Applied:
        request = self._request
        if request.force and request.mode == "replace":
            return Applied(self._applier.create(manifest, "replace").object, REPLACED)
        try:
            return self._applier.carry_out(manifest, request.mode)
        except (ConflictError, ManifestError):
            found = self._applier.find(manifest)
            if not request.force or found is None:
                raise
        await self._deletion.gone([self._deletion.begin(found)])
        return Applied(self._applier.create(manifest, request.mode).object, CONFIGURED)

    async def _delete(self, manifests: list[ManifestObject]) -> None:
        """All that exist of them, kind after kind: what pods use is free when they are gone."""
        found = [thing for manifest in reversed(manifests) if (thing := self._applier.find(manifest)) is not None]
        for _, things in itertools.groupby(found, key=lambda thing: thing.kind):
            await self._deletion.gone([self._deletion.begin(thing) for thing in things], self._deleted)

    def _deleted(self, kind: Kind, namespace: str, name: str) -> None:
        self._connection.send({"event": "deleted", "kind": kind.name, "namespace": namespace, "name": name})

    async def _prune(self, prune: Prune, kinds: list[Kind], manifests: list[ManifestObject]) -> None:
        labels, _ = parse_selectors(prune.selector, "", ())
        kept = {(each.kind, each.object.metadata.namespace, each.object.metadata.name) for each in manifests}
        namespaces = {each.object.metadata.namespace for each in manifests if kind_named(each.kind).namespaced}
        if self._request.namespace is not None:
            namespaces.add(self._request.namespace)
        going = []
        for kind in kinds or [kind for kind in reversed(WRITABLE_KINDS) if kind.namespaced]:
            for namespace in sorted(namespaces) if kind.namespaced else [""]:
                for thing in self._node.registry.objects(kind, namespace):
                    place = (kind.name, namespace, thing.metadata.name)
                    if place in kept or not matches_labels(labels, thing.metadata.labels):
                        continue
                    if thing.metadata.deletion_timestamp is not None or not self._node.registry.applied(thing):
                        continue
                    if not self._request.dry_run:
                        going.append(self._deletion.begin(thing))
                    self._connection.send(Applied(thing, "pruned").event())
        if self._request.wait:
            await self._deletion.gone(going)


def _prunable(word: str) -> Kind:
    """The kind of `core/v1/ConfigMap`. Raises UsageError."""
    group, _, rest = word.partition("/")
    version, _, name = rest.partition("/")
    found = next((kind for kind in WRITABLE_KINDS if kind.name == name), None)
    if group not in ("core", "") or version != "v1" or found is None:
        known = ", ".join(f"core/v1/{kind.name}" for kind in WRITABLE_KINDS)
        raise UsageError(f"--prune-allowlist {word}: minipod has {known}")
    return found
