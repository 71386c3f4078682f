"""Pod sandboxes (layer 3): executing and undoing what `plan.sandbox` lists, with a record of it on disk. No policy."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from minipod.errors import ContainerError, MinipodError, NotFoundError, SandboxError
from minipod.failpoint import reached
from minipod.kernel.error_text import text_of
from minipod.kernel.mount import reunite
from minipod.kernel.remove import remove_tree
from minipod.paths import Paths
from minipod.plan.configs import HostFacts, NetworkFacts, SandboxConfig
from minipod.plan.operation import HostOperation
from minipod.plan.sandbox import (
    RECORD,
    netns_path,
    pause_cgroup,
    pause_process,
    sandbox_directory,
    sandbox_operations,
)
from minipod.runtime import cgroup, host_work
from minipod.runtime.descriptors import ROOM
from minipod.runtime.index import Index
from minipod.runtime.network import Network
from minipod.runtime.offload import off_loop, slowly_off_loop
from minipod.runtime.records import SandboxRecord, decode_operations, encode_operations, load_all, save
from minipod.runtime.spawner.versions import Spawners
from minipod.runtime.status import SandboxState, SandboxStatus

_LEAVE_S = 5.0  # an agent that exits waits so long for a lease; one that waits for a lock ends with the agent

log = logging.getLogger(__name__)


class Ready:
    """The number of ready sandboxes and the sum of their CPU requests, updated with each change."""

    def __init__(self) -> None:
        self.count = 0
        self._cpu_requests: Counter[str] = Counter()  # by the parent of the pod's cgroup

    def replace(self, old: SandboxRecord | None, new: SandboxRecord | None) -> None:
        for record, sign in ((old, -1), (new, 1)):
            if record is not None and record.status.state == SandboxState.READY:
                config = record.status.config
                self.count += sign
                self._cpu_requests[os.path.dirname(config.cgroup_parent)] += sign * config.cpu_request_millicores

    def cpu_requests(self, group: str) -> int:
        return self._cpu_requests[group]


class Sandboxes:
    """Every sandbox of this instance."""

    def __init__(self, paths: Paths, facts: HostFacts, network: Network, spawners: Spawners) -> None:
        self._paths = paths
        self._facts = facts
        self._network = network
        self._spawners = spawners
        self._folder = f"{paths.root}/sandboxes"
        self._records: Index[SandboxRecord] = Index(lambda record: record.status.config.uid)
        self._ready = Ready()
        self._making: dict[str, SandboxConfig] = {}  # by id
        self._leasing = asyncio.Lock()
        self._host = asyncio.Lock()  # held while an operation may make or remove what pods share

    def load(self) -> None:
        for record in load_all(self._folder, RECORD, SandboxRecord).values():
            self._keep(record)
        reunite(self._folder)  # the last one may have gone with the agent

    def statuses(self, pod_uid: str | None = None) -> list[SandboxStatus]:
        """The sandboxes of a pod, or all."""
        return [record.status for record in (self._records if pod_uid is None else self._records.of(pod_uid))]

    def ids(self) -> frozenset[str]:
        """The ids of all, including those that are being created. Callable from any thread."""
        return self._records.keys() | frozenset(self._making)

    def places(self) -> Iterator[str]:
        """The cgroups and network namespaces of all, by path."""
        for config in (*(status.config for status in self.statuses()), *self._making.values()):
            yield config.cgroup_parent
            yield netns_path(config, self._paths)

    def cpu_requests(self, group: str) -> int:
        """The sum of the CPU requests of the ready sandboxes below this cgroup, in millicores."""
        return self._ready.cpu_requests(group)

    def get(self, sandbox_id: str) -> SandboxStatus:
        return self._record(sandbox_id).status

    def _record(self, sandbox_id: str) -> SandboxRecord:
        try:
            return self._records[sandbox_id]
        except KeyError:
            raise NotFoundError(f'sandbox "{sandbox_id[:12]}" is not known') from None

    async def run(self, config: SandboxConfig, warn: Callable[[str], None] | None = None) -> SandboxStatus:
        """RunPodSandbox. After a failure removes what was made. Raises SandboxError."""
        network = NetworkFacts()
        operations: tuple[HostOperation, ...] = ()
        self._making[config.id] = config
        try:
            self._check_netns_name(config)
            if why := ROOM.refusal():  # none of its containers could be started
                raise SandboxError(why)
            network = await self._lease(config, warn)
            reached("sandbox.leased")
            operations = sandbox_operations(config, network, self._facts, self._paths)
            status = self._status(config, network)
            self._save(SandboxRecord(status=status, operations=msgspec.Raw(encode_operations(operations))))
            reached("sandbox.saved")
            async with self._host:
                await host_work.execute(operations)
            reached("sandbox.made")
            await self._start_pause(config)
            reached("sandbox.ready")
        except (OSError, MinipodError) as error:
            failure = error if isinstance(error, SandboxError) else SandboxError(text_of(error))
            for note in await self._clean_up(config.id, operations):
                failure.add_note(note)
            raise failure from error
        finally:
            del self._making[config.id]
        return self.get(config.id)

    async def _lease(self, config: SandboxConfig, warn: Callable[[str], None] | None) -> NetworkFacts:
        """Waits in a thread for the host's rules and locks; `warn` is called here."""
        warnings: list[str] = []
        async with self._leasing:
            lease = asyncio.ensure_future(off_loop(self._network.lease, config, warnings.append))
            try:
                return await asyncio.shield(lease)
            except asyncio.CancelledError:  # no record names this sandbox yet: its lease would stay
                ended, _ = await asyncio.wait([lease], timeout=_LEAVE_S)
                if ended and lease.exception() is None:
                    await off_loop(self._network.release, config.id)
                raise
            finally:
                for text in warnings:
                    (warn or log.warning)(text)

    async def keep_names(self) -> None:
        """The answerer runs while a sandbox has an address. Raises HostError, OSError."""
        async with self._leasing:
            await off_loop(self._network.keep_names)

    def _check_netns_name(self, config: SandboxConfig) -> None:
        path = netns_path(config, self._paths)
        if path and os.path.exists(path):
            raise SandboxError(
                f"network namespace {path} exists already and is not this pod's: remove it (ip netns delete "
                f"{os.path.basename(path)}) or give the pod another name"
            )

    def _status(self, config: SandboxConfig, network: NetworkFacts) -> SandboxStatus:
        return SandboxStatus(
            id=config.id,
            config=config,
            state=SandboxState.READY,
            created_at_ns=time.time_ns(),
            network=network,
            ips=tuple(address.partition("/")[0] for address in (network.ipv4, network.ipv6) if address),
            netns_path=netns_path(config, self._paths),
        )

    def update_resources(self, sandbox_id: str, config: SandboxConfig) -> None:
        """Record the new limits and requests of its cgroup."""
        record = self._record(sandbox_id)
        changed = msgspec.structs.replace(
            record.status.config,
            cgroup_resources=config.cgroup_resources,
            cpu_request_millicores=config.cpu_request_millicores,
        )
        self._save(msgspec.structs.replace(record, status=msgspec.structs.replace(record.status, config=changed)))

    def _keep(self, record: SandboxRecord) -> None:
        sandbox_id = record.status.id
        self._ready.replace(self._records.get(sandbox_id), record)
        self._records[sandbox_id] = record

    def _drop(self, sandbox_id: str) -> SandboxRecord | None:
        record = self._records.pop(sandbox_id)
        self._ready.replace(record, None)
        return record

    def _save(self, record: SandboxRecord) -> None:
        sandbox_id = record.status.id
        self._keep(record)
        os.makedirs(f"{self._folder}/{sandbox_id}", mode=0o700, exist_ok=True)
        save(f"{self._folder}/{sandbox_id}/{RECORD}", record)

    async def _start_pause(self, config: SandboxConfig) -> None:
        pause = pause_process(config, self._facts, self._paths, os.uname().machine)
        if pause is None:
            return
        clone, operations = pause
        spawned = await self._spawners.current.spawn(_pause_key(config.id), clone, list(operations), stdio="fds")
        for fd in spawned.fds.values():
            os.close(fd)
        reached("sandbox.pause-spawned")
        self._save(msgspec.structs.replace(self._records[config.id], pause_pid=spawned.pid))

    def pause_pid(self, sandbox_id: str) -> int:
        """The first process of a pod's shared PID namespace; 0 where it has none. Raises NotFoundError."""
        return self._record(sandbox_id).pause_pid

    @contextlib.contextmanager
    def pause_pidfd(self, sandbox_id: str) -> Iterator[int]:
        """The pidfd of the first process of a pod's shared PID namespace. Raises ContainerError if it does not run.

        The pid was not reused as long as the process is in the pod's cgroup.
        """
        record = self._record(sandbox_id)
        try:
            pidfd = os.pidfd_open(record.pause_pid)
        except (OSError, ValueError):
            pidfd = -1
        try:
            group = pause_cgroup(record.status.config)
            if pidfd < 0 or record.pause_pid not in cgroup.pids(group, self._facts):
                raise ContainerError("the first process of the pod's PID namespace has ended", "RunContainerError")
            yield pidfd
        finally:
            if pidfd >= 0:
                os.close(pidfd)

    def _others_are_ready(self, sandbox_id: str) -> bool:
        record = self._records.get(sandbox_id)
        return self._ready.count > (record is not None and record.status.state == SandboxState.READY)

    def is_stopped(self, sandbox_id: str) -> bool:
        """Whether nothing but its record is left, or it is not known."""
        record = self._records.get(sandbox_id)
        return record is None or (record.status.state == SandboxState.NOT_READY and bytes(record.operations) == b"[]")

    async def stop(self, sandbox_id: str) -> None:
        """StopPodSandbox: removes its processes, namespaces, network and mounts; keeps the record. Idempotent.

        Raises SandboxError that names what could not be undone; calling again tries again.
        """
        if self.is_stopped(sandbox_id):
            return
        record = self._record(sandbox_id)
        await self._end_pause(record)
        operations = decode_operations(record.operations)
        async with self._host:
            failures = await off_loop(_undo, operations)
            if not failures:  # those that `cgroup.complete` has added since
                await off_loop(cgroup.remove, record.status.config.cgroup_parent, self._facts)
            if not self._others_are_ready(sandbox_id):
                # also groups that a killed agent made and no list of operations contains
                await off_loop(cgroup.remove_instance, self._paths, self._facts)
        reached("sandbox.undone")
        await self._release(sandbox_id, failures)
        reached("sandbox.unleased")
        status = msgspec.structs.replace(record.status, state=SandboxState.NOT_READY)
        left = msgspec.Raw(encode_operations(operations)) if failures else msgspec.Raw(b"[]")
        self._save(SandboxRecord(status=status, operations=left))
        reached("sandbox.stopped")
        if failures:
            raise SandboxError("stopping the sandbox: " + "; ".join(failures), "FailedKillPod")

    async def remove(self, sandbox_id: str) -> None:
        """RemovePodSandbox, for a stopped sandbox. Idempotent."""
        if self._drop(sandbox_id) is not None:
            await slowly_off_loop(remove_tree, sandbox_directory(sandbox_id, self._paths))
            reached("sandbox.removed")
            await self._reunite()

    async def _end_pause(self, record: SandboxRecord) -> None:
        if record.pause_pid or record.status.config.namespaces.pid == "pod":  # it may run unrecorded
            await self._spawners.kill_and_forget(_pause_key(record.status.id))
            reached("sandbox.pause-ended")

    async def _clean_up(self, sandbox_id: str, operations: Sequence[HostOperation]) -> list[str]:
        """Cleans up after a failed start. Returns what could not be removed."""
        record = self._records.get(sandbox_id)
        if record is not None:
            await self._end_pause(record)
            operations = decode_operations(record.operations)
        async with self._host:
            failures = await off_loop(_undo, operations)
        await self._release(sandbox_id, failures)
        self._drop(sandbox_id)
        with contextlib.suppress(OSError):
            await slowly_off_loop(remove_tree, sandbox_directory(sandbox_id, self._paths))
        await self._reunite()
        return [f"cleaning up: {failure}" for failure in failures]

    async def _reunite(self) -> None:
        """With the last sandbox their directory ceases to be a mount of its own."""
        if not self._records:
            async with self._host:  # none is being made: another's directory would be covered by its own new mount
                await off_loop(reunite, self._folder)

    async def _release(self, sandbox_id: str, failures: list[str]) -> None:
        try:
            async with self._leasing:
                await off_loop(self._network.release, sandbox_id)
        except (OSError, MinipodError) as error:
            failures.append(text_of(error))


def _pause_key(sandbox_id: str) -> str:
    return f"{sandbox_id}.pause"


def _undo(operations: Iterable[HostOperation]) -> list[str]:
    """Undo all in reverse order, also after failures. Returns the failures."""
    failures = []
    for operation in reversed(tuple(operations)):
        try:
            operation.undo()
            reached("undone", operation)
        except Exception as error:  # also a MemoryError or no thread: the other operations are undone all the same
            failures.append(f"{type(operation).__name__}: {text_of(error)}")
    return failures
