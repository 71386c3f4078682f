"""Propagates changes to pods (layer 5): of ConfigMaps, Secrets and labels into mounted files, and of missing objects
to pods that wait for them. Decides nothing: a pod's own worker does.

The kubelet looks once a minute; here a change is a message, so files follow within milliseconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

from minipod.agent.events import PodReference
from minipod.agent.node import Node
from minipod.agent.pods.table import Pods
from minipod.agent.pods.worker import PodWorker
from minipod.agent.registry.history import Change
from minipod.agent.registry.selection import Selection
from minipod.errors import MinipodError
from minipod.lifecycle import model
from minipod.lifecycle.allocation import allocated_pod
from minipod.plan.volumes.claims import claims_of
from minipod.plan.volumes.configuration import is_configuration, objects_of
from minipod.plan.volumes.sources import used_volumes

log = logging.getLogger("minipod.agent")

AGAIN_S = 10.0  # after a write that failed: a full disk, an object that is gone


class Refresher:
    """One agent's; `run` returns when it is cancelled."""

    def __init__(self, node: Node, pods: Pods) -> None:
        self._node = node
        self._pods = pods
        self._shown: dict[str, tuple[Any, ...]] = {}  # by uid: labels, annotations and resources as last written
        self._late: dict[str, str] = {}  # by uid: why its files are not up to date

    async def run(self) -> None:
        watch = self._node.history.watch(Selection.of(*_KINDS, "Pod"))
        for worker in self._pods.select(None, None):
            await self._refresh(worker)
        while True:
            try:
                changes = await asyncio.wait_for(watch.changed(), AGAIN_S if self._late else None)
            except TimeoutError:
                await self._again()
                continue
            if changes is None:
                await self._look_at_all()
            for change in changes or ():
                await self._changed(change)

    async def _look_at_all(self) -> None:
        """Changes have been missed: checks all pods that have files."""
        for uid in {*self._shown, *self._late}:
            if self._pods.by_uid(uid) is None:
                self._forget(uid)
        for worker in self._pods.select(None, None):
            await self._refresh(worker)
            worker.post(model.SourcesChanged())

    async def _changed(self, change: Change) -> None:
        if change.kind != "Pod":
            await self._object_changed(change)
        elif change.type == "DELETED":
            self._forget(change.uid)
        else:
            worker = self._pods.by_uid(change.uid)
            if worker is not None and self._shown.get(worker.uid, _seen_by(worker)) != _seen_by(worker):
                await self._refresh(worker)
            elif worker is not None:
                self._shown.setdefault(worker.uid, _seen_by(worker))

    def _forget(self, uid: str) -> None:
        self._shown.pop(uid, None)
        self._late.pop(uid, None)
        self._node.configuration.forget(uid)

    async def _object_changed(self, change: Change) -> None:
        for worker in self._pods.select(change.namespace or None, None):
            pod = worker.state.pod
            if change.kind == "PersistentVolumeClaim":
                concerned = change.name in claims_of(pod)
            else:
                concerned = (change.kind, change.name) in objects_of(pod)
            if concerned:
                await self._refresh(worker)
                worker.post(model.SourcesChanged())

    async def _again(self) -> None:
        for uid in list(self._late):
            worker = self._pods.by_uid(uid)
            if worker is None:
                self._late.pop(uid)
            else:
                await self._refresh(worker)

    async def _refresh(self, worker: PodWorker) -> None:
        """Updates the pod's files if it has any; records an event for the first of repeated failures."""
        pod, volumes = allocated_pod(worker.state), worker.state.volumes
        if volumes not in ("ready", "setting-up") or worker.state.stage != "syncing":
            return
        if not any(is_configuration(volume) for volume in used_volumes(pod)):
            return
        self._shown[worker.uid] = _seen_by(worker)
        try:
            await self._node.configuration.write(pod)
            self._late.pop(worker.uid, None)
        except (MinipodError, OSError) as error:
            if volumes != "ready":
                return  # the worker that sets them up reports it
            known = self._late.get(worker.uid)
            self._late[worker.uid] = str(error)
            if known != str(error):
                reference = PodReference(worker.namespace, worker.name, worker.uid)
                with contextlib.suppress(MinipodError):
                    self._node.events.note(reference, "Warning", "FailedMount", str(error), self._node.clock())


_KINDS = ("ConfigMap", "Secret", "PersistentVolumeClaim")


def _seen_by(worker: PodWorker) -> tuple[Any, ...]:
    """The mutable parts of the pod that the downward API shows."""
    pod = allocated_pod(worker.state)
    containers = (*pod.spec.init_containers, *pod.spec.containers)
    resources = tuple(container.resources for container in containers)
    return pod.metadata.labels, pod.metadata.annotations, pod.spec.resources, resources
