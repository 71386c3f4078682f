"""The pods of this node (layer 5): creates, finds and deletes them, reports their containers' exits to them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec

from minipod.agent import processes
from minipod.agent.node import Node
from minipod.agent.pods.scheduler import Scheduler
from minipod.agent.pods.worker import PodWorker
from minipod.agent.registry.names import named
from minipod.agent.turns import SLICE_S
from minipod.api.kinds import POD, Kind
from minipod.api.static_pod import file_of, is_static
from minipod.api.timestamps import human_duration, timestamp
from minipod.api.types import Pod
from minipod.api.validation.pod_annotations import MIRROR
from minipod.api.validation.prepare import created_metadata
from minipod.errors import ConflictError, HostError, ManifestError, NotFoundError
from minipod.failpoint import reached
from minipod.kernel.regular import opened_folder
from minipod.kernel.remove import remove_tree_at
from minipod.lifecycle import core, model
from minipod.lifecycle.allocation import allocated_pod
from minipod.lifecycle.passes import is_alive
from minipod.paths import LOG_FOLDERS
from minipod.plan.pod import log_directory
from minipod.runtime.offload import slowly_off_loop
from minipod.runtime.status import ContainerStatus

log = logging.getLogger("minipod.agent")

_HALTED = "halted"  # key in the store: the id of the boot in which the pods were stopped
_REMOVAL_S = 10.0  # how long an exiting agent waits for removals of logs; gc finds the rest


class Pods:
    """The workers of all pods, each from the pod's creation until nothing of it is left."""

    def __init__(self, node: Node, on_change: Callable[[], None] = lambda: None) -> None:
        self._node = node
        self._on_change = on_change
        self._workers: dict[tuple[str, str], PodWorker] = {}
        self._namespaces: dict[str, dict[str, PodWorker]] = {}
        self._by_uid: dict[str, PodWorker] = {}
        self._coming: set[tuple[str, str]] = set()  # names of pods that are about to be stored
        self._owners: dict[str, Callable[[], None]] = {}
        self.on_resume: Callable[[], None] = lambda: None
        self.deferred: set[str] = set()  # uids of pods whose resize is deferred until there is room
        self.scheduler = Scheduler(node, self._state_of, self._post)
        self.scheduler.on_room = self._retry_resizes
        node.registry.add_keeper(POD, _Keeper(self))
        self.removals: dict[asyncio.Task[None], str] = {}  # of logs -> uid of the pod that is gone
        self.keep_logs: set[str] = set()  # the logs of these uids are removed by the `run` that reads them

    def __len__(self) -> int:
        return len(self._workers)

    # -- the node's shutdown ------------------------------------------------------------------------------------

    @property
    def halted(self) -> bool:
        """Whether the pods of this node are stopped: since `halt`, also under a later agent, until the next boot."""
        return self._node.store.meta(_HALTED) == processes.boot_id()

    def halt(self, grace_s: float | None) -> None:
        """All containers begin to end, with at most `grace_s`; none is started, and no pod created, until `resume`."""
        self._node.store.set_meta(_HALTED, processes.boot_id())
        for worker in self._by_uid.values():
            worker.post(model.NodeHalted(grace_s=grace_s))

    def resume(self) -> None:
        """The pods that were halted run again, as their restart policies say."""
        if not self.halted:
            return
        self._node.store.set_meta(_HALTED, "")
        for worker in self._by_uid.values():
            worker.post(model.NodeHalted(halted=False))
        self.on_resume()

    def running(self) -> list[str]:
        """`namespace/name` of the pods that have a running container, or one that is being started."""
        return [f"{worker.namespace}/{worker.name}" for worker in self._by_uid.values() if is_alive(worker.state)]

    # -- finding ------------------------------------------------------------------------------------------------

    def find(self, namespace: str, name: str) -> PodWorker:
        """Raises NotFoundError with the API server's message."""
        worker = self._workers.get((namespace, name))
        if worker is None:
            raise NotFoundError(f'pods "{name}" not found')
        return worker

    def current(self, namespace: str, name: str) -> PodWorker:
        """As `find`, after the pod has handled all events that are queued: for a change that follows at once."""
        worker = self.find(namespace, name)
        worker.catch_up()
        return self.find(namespace, name)

    def worker(self, namespace: str, name: str) -> PodWorker | None:
        return self._workers.get((namespace, name))

    def select(self, namespace: str | None, name: str | None) -> list[PodWorker]:
        """The pods of a namespace and name; None: any."""
        if namespace is not None and name is not None:
            return [worker for worker in (self._workers.get((namespace, name)),) if worker is not None]
        if namespace is not None:
            return [worker for _, worker in sorted(self._namespaces.get(namespace, {}).items())]
        return [worker for (_, called), worker in sorted(self._workers.items()) if name in (None, called)]

    def by_uid(self, uid: str) -> PodWorker | None:
        return self._by_uid.get(uid)

    def static_file(self, namespace: str, name: str) -> str:
        """The file of a static pod; empty for another one. Raises NotFoundError."""
        return file_of(self.find(namespace, name).pod)

    # -- creation -----------------------------------------------------------------------------------------------

    def create(self, pods: Sequence[Pod], owner: str = "", applied: bytes | None = None) -> list[PodWorker]:
        """Creates all of them or none. `owner`: the `processes.identity` of the process that owns them. `applied`: the
        manifest, where `apply` created them.

        Raises ConflictError naming the pod that has the name, and HostError where the store cannot take them or the
        node's pods are stopped.
        """
        self._check_halted()
        _refuse_mirrors(pods)
        named = [self.completed(pod) for pod in pods]
        self._check_names(named)
        return self._begin(named, owner, applied)

    async def create_many(self, pods: Sequence[Pod], owner: str = "") -> list[PodWorker]:
        """The same for hundreds: the loop is free in between, their names are taken from the beginning on."""
        self._check_halted()
        _refuse_mirrors(pods)
        self._check_names([pod for pod in pods if pod.metadata.name])
        named: list[Pod] = []
        taken: set[tuple[str, str]] = set()
        until = time.monotonic() + SLICE_S
        try:
            for pod in pods:
                completed = self.completed(pod)
                self._check_names([completed])
                key = (completed.metadata.namespace, completed.metadata.name)
                taken.add(key)
                self._coming.add(key)
                named.append(completed)
                if time.monotonic() >= until:
                    await asyncio.sleep(0)
                    until = time.monotonic() + SLICE_S
            return self._begin(named, owner)
        finally:
            self._coming -= taken

    def create_static(self, pod: Pod) -> PodWorker:
        """The pod of a file, as `api.static_pod` made it, with the uid that it has. Raises as `create`."""
        self._check_halted()
        self._check_names([pod])
        return self._begin([self.completed(pod, pod.metadata.uid)], "")[0]

    def _check_halted(self) -> None:
        if self.halted:
            raise HostError("the pods of this host are stopped: minipod agent start-pods lets them run again")

    def _worker(self, pod: Pod) -> PodWorker:
        now, ceiling = self._node.steady.now(), self._node.config.max_container_restart_period_s
        state = core.new_state(pod, now, max_backoff_s=ceiling, assigned=bool(pod.spec.node_name))
        return PodWorker(self._node, state, self._forgotten, self.scheduler.update)

    def _begin(self, pods: list[Pod], owner: str, applied: bytes | None = None) -> list[PodWorker]:
        """Stores all of them or none. Raises HostError."""
        placed: list[tuple[PodWorker, model.Event]] = []
        try:
            for pod in pods:
                assigned, first = self.scheduler.place(pod)
                placed.append((self._worker(assigned), first))
            self._store([worker for worker, _ in placed], owner, applied)
        except BaseException:
            for pod in pods:
                self.scheduler.forget(pod.metadata.uid)
            raise
        reached("pod.stored")
        for worker, first in placed:
            self._add(worker)
            if worker.state.stage == "unscheduled":
                self.scheduler.wait(worker.uid)
            worker.post(first)
        self._on_change()
        return [worker for worker, _ in placed]

    def _store(self, workers: list[PodWorker], owner: str, applied: bytes | None) -> None:
        store, history = self._node.store, self._node.history
        self._node.unsaved.flush()
        with store.transaction():
            made = [worker.as_new() for worker in workers]
            store.put_pods([record for record, _, _ in made], [(record.uid, state) for record, state, _ in made])
            for record, _, change in made:
                if applied is not None:
                    store.put_applied("Pod", record.namespace, record.name, record.uid, applied)
                if owner:
                    store.put_owner(record.uid, owner)
                store.after_commit(partial(history.append, change))

    def completed(self, pod: Pod, uid: str = "") -> Pod:
        """The pod with the fields that the API server sets at creation. `uid`: empty: a new one."""
        namespace = POD.place(pod.metadata.namespace)
        metadata = named(pod, lambda name: self._is_taken((namespace, name))).metadata
        created = timestamp(self._node.clock())
        metadata = created_metadata(metadata, namespace, uid or str(uuid.uuid4()), created, generation=1)
        return msgspec.structs.replace(pod, metadata=metadata)

    def _is_taken(self, key: tuple[str, str]) -> bool:
        return key in self._workers or key in self._coming

    def check_free(self, pods: Sequence[Pod]) -> None:
        """Raises ConflictError for a name that exists or is there twice."""
        self._check_names([pod for pod in pods if pod.metadata.name])

    def _check_names(self, pods: Sequence[Pod]) -> None:
        seen = set()
        for pod in pods:
            key = (pod.metadata.namespace, pod.metadata.name)
            if key in seen:
                raise ConflictError(f'pod "{key[1]}" is there twice: every pod needs a name of its own')
            seen.add(key)
            if (worker := self._workers.get(key)) is not None:
                raise ConflictError(self._in_use(worker))
            if key in self._coming:
                raise ConflictError(f'pod "{key[1]}" is being created by another command')

    def _in_use(self, worker: PodWorker) -> str:
        age = human_duration(self._node.steady.now() - worker.state.added_at)
        phase = "Terminating" if worker.pod.metadata.deletion_timestamp else worker.pod.status.phase
        option = "" if worker.namespace == "default" else f" -n {worker.namespace}"
        return (
            f'pod "{worker.name}" already exists (started {age} ago, {phase}): '
            f"delete it first: minipod delete pod {worker.name}{option}, or run --replace; or change it: "
            "minipod apply -f FILE"
        )

    def adopt(self, state: model.PodState, owner: str, first: model.Event, saved: bool = True) -> PodWorker:
        """Takes over a pod of an earlier agent. `first`: the event with what the host has of it. `saved`: whether the
        state is that of the store."""
        worker = PodWorker(self._node, state, self._forgotten, self.scheduler.update)
        worker.restore(saved)
        self._add(worker)
        if state.resizing.reason:
            self.deferred.add(worker.uid)
        if (rejected := self.scheduler.adopt(state)) is not None:
            worker.post(rejected)
        worker.post(first)
        if owner:
            self.owned_by(worker, owner)
        return worker

    def _add(self, worker: PodWorker) -> None:
        self._workers[worker.namespace, worker.name] = worker
        self._namespaces.setdefault(worker.namespace, {})[worker.name] = worker
        self._by_uid[worker.uid] = worker

    def _state_of(self, uid: str) -> model.PodState | None:
        worker = self._by_uid.get(uid)
        return None if worker is None else worker.state

    def _post(self, uid: str, event: model.Event) -> None:
        if (worker := self._by_uid.get(uid)) is not None:
            worker.post(event)

    # -- ownership ----------------------------------------------------------------------------------------------

    def own(self, worker: PodWorker, owner: str) -> None:
        """The pod is deleted when that process (`processes.identity`) ends, also under a later agent."""
        self._node.store.put_owner(worker.uid, owner)
        self.owned_by(worker, owner)

    def owned_by(self, worker: PodWorker, owner: str) -> None:
        """The pod is deleted when that process ends: a foreground run that survived its agent."""
        stop = processes.when_gone(owner, lambda: worker.post(model.DeleteRequested()))
        self._owners[worker.uid] = stop

    # -- deletion and exits -------------------------------------------------------------------------------------

    def delete(self, namespace: str, name: str, grace_period_s: int | None = None) -> PodWorker:
        """Begins a graceful deletion; `worker.forgotten` is done at its end. Raises NotFoundError; ConflictError for a
        static pod, which ends with its file."""
        worker = self.find(namespace, name)
        if file := file_of(worker.pod):
            raise ConflictError(f'pods "{name}" is forbidden: a static pod: remove its file {file} to end it')
        worker.post(model.DeleteRequested(grace_period_s=grace_period_s))
        return worker

    def container_exited(self, status: ContainerStatus) -> None:
        """The runtime's on_exit."""
        try:
            sandbox = self._node.runtime.pod_sandbox_status(status.sandbox_id)
        except NotFoundError:
            return
        worker = self._by_uid.get(sandbox.config.uid)
        if worker is not None:
            worker.container_exited(status)

    def _forgotten(self, worker: PodWorker) -> None:
        del self._workers[worker.namespace, worker.name]
        del self._namespaces[worker.namespace][worker.name]
        if not self._namespaces[worker.namespace]:
            del self._namespaces[worker.namespace]
        del self._by_uid[worker.uid]
        self._node.events.forget_pod(worker.uid)
        if (stop := self._owners.pop(worker.uid, None)) is not None:
            stop()
        if worker.uid not in self.keep_logs:
            self.remove_logs(worker)
        self.deferred.discard(worker.uid)
        self.scheduler.forget(worker.uid)
        self._on_change()

    def _retry_resizes(self) -> None:
        """There is room: checks the deferred resizes again, before pods that wait for a node."""
        from minipod.agent.pods import resizing  # imported late: few pods are resized

        for uid in sorted(self.deferred):
            worker = self._by_uid.get(uid)
            if worker is None or not worker.state.resizing.reason:  # it has not handled that event yet
                continue
            state = worker.state
            reason, _ = resizing.no_room(self._node, state.pod, allocated_pod(state), self.scheduler.used(uid))
            if not reason:
                self.deferred.discard(uid)
                worker.post(model.ResizeAsked(pod=state.pod))
                worker.catch_up()  # the next one finds less room

    def log_directory(self, pod: Pod) -> str:
        return log_directory(pod, self._node.paths)

    def remove_logs(self, worker: PodWorker) -> None:
        """Removes the logs, the last resource of a pod, in a thread: they may be gigabytes. `close` waits for it."""
        self.keep_logs.discard(worker.uid)
        self._remove_logs(worker.uid, self.log_directory(worker.pod))

    def remove_logs_of_gone(self) -> None:
        """Those that earlier agents forgot the pods of and did not remove any more. Raises HostError."""
        for uid, path in self._node.store.logs_of_gone().items():
            if uid not in self.keep_logs and uid not in self.removals.values():
                self._remove_logs(uid, path)

    def _remove_logs(self, uid: str, path: str) -> None:
        task = asyncio.get_running_loop().create_task(self._logs_removed(uid, path))
        self.removals[task] = uid
        task.add_done_callback(self.removals.pop)

    async def _logs_removed(self, uid: str, path: str) -> None:
        try:
            await slowly_off_loop(_remove_log_tree, path)
            reached("pod.logs-removed")
            self._node.store.logs_removed(uid)
        except OSError as error:
            log.warning("logs %s: %s", error.filename or path, error.strerror)
        except HostError as error:  # the next agent removes them once more
            log.warning("logs %s: %s", path, error)

    async def close(self) -> None:
        self.scheduler.close()
        for stop in self._owners.values():
            stop()
        self._node.unsaved.close()
        await asyncio.gather(*(worker.close() for worker in self._by_uid.values()))
        if self.removals:
            await asyncio.wait(list(self.removals), timeout=_REMOVAL_S)


class _Keeper:
    """The `registry.Keeper` of pods: each is stored by its worker."""

    def __init__(self, pods: Pods) -> None:
        self._pods = pods

    def find(self, kind: Kind, namespace: str, name: str) -> Pod | None:
        worker = self._pods.worker(namespace, name)
        if worker is None:
            return None
        worker.catch_up()
        return worker.pod if self._pods.worker(namespace, name) is worker else None

    def list(self, kind: Kind, namespace: str | None) -> list[Any]:
        return [worker.pod for worker in self._pods.select(namespace, None)]

    def completed(self, thing: Pod) -> Pod:
        return self._pods.completed(thing)

    def create(self, thing: Pod, applied: bytes | None) -> Pod:
        return self._pods.create([thing], applied=applied)[0].pod

    def update(self, new: Pod, old: Pod, applied: bytes | None) -> Pod:
        if (path := file_of(old)) and new.spec != old.spec:
            raise ConflictError(f'pods "{old.metadata.name}" is forbidden: a static pod: change its file {path}')
        return self._worker(old).update(model.PodUpdated(pod=new), applied)

    def delete(self, thing: Pod, grace_period_s: int | None) -> Pod:
        if is_static(thing):
            return thing  # a kubelet makes the mirror anew; the containers do not notice
        return self._worker(thing).update(model.DeleteRequested(grace_period_s=grace_period_s))

    def _worker(self, pod: Pod) -> PodWorker:
        return self._pods.find(pod.metadata.namespace, pod.metadata.name)


def _refuse_mirrors(pods: Sequence[Pod]) -> None:
    """A kubelet deletes mirrors that have no file; here no client can make one. Raises ManifestError."""
    for pod in pods:
        if is_static(pod):
            raise ManifestError(
                f'pods "{pod.metadata.name}" is forbidden: metadata.annotations[{MIRROR}] is for static pods: remove it'
            )


def _remove_log_tree(path: str) -> None:
    """Without following links: a pod with a hostPath to the directory may write there."""
    folder, name = os.path.split(path)
    with contextlib.suppress(FileNotFoundError), opened_folder(folder, LOG_FOLDERS - 2) as folder_fd:
        remove_tree_at(folder_fd, name, path)
