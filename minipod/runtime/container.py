"""One container as the runtime holds it (layer 3): its record, its pidfd, its log, the wait for its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import Iterable, Sequence

import msgspec

from minipod.kernel.chance import random_bits
from minipod.kernel.layers import read_in_layers
from minipod.paths import Paths
from minipod.plan.configs import ContainerConfig, HostFacts, Image, SandboxConfig
from minipod.plan.container import ContainerPlan, SeccompFilter, capabilities_of, container_plan
from minipod.plan.operation import ChildOperation
from minipod.plan.process.identity import Exec, ResolveUser
from minipod.plan.process.passage import with_passage
from minipod.plan.refusals import refuse_start
from minipod.runtime.logs import ContainerLog
from minipod.runtime.records import ContainerRecord, save
from minipod.runtime.seccomp import compiled_filter
from minipod.runtime.spawner.client import ChildExit
from minipod.runtime.status import ContainerState, ContainerStatus

log = logging.getLogger(__name__)


class Container:
    """Mutable only through `update`, which keeps the file on disk in step."""

    def __init__(self, record: ContainerRecord, directory: str) -> None:
        self.record = record
        self.directory = directory
        self.pidfd = -1
        self.log: ContainerLog | None = None
        self.held: dict[str, int] = {}  # stdin's writing end, the terminal: for attach
        self.ended = asyncio.Event()
        self.early_exit: ChildExit | None = None  # reported before `start` had its answer
        self.watched = False
        self.unsaved = False  # the file on disk is older than the record: a full disk
        if record.status.state == ContainerState.EXITED:
            self.ended.set()

    @property
    def status(self) -> ContainerStatus:
        return self.record.status

    def save(self) -> None:
        os.makedirs(self.directory, mode=0o700, exist_ok=True)
        save(f"{self.directory}/container.json", self.record)

    def update(self, **changes: object) -> None:
        """Replace fields of the status and save it. A full disk prevents no container from starting or ending."""
        self.record = msgspec.structs.replace(self.record, status=msgspec.structs.replace(self.status, **changes))
        try:
            self.save()
            self.unsaved = False
        except OSError as error:
            self.unsaved = True
            log.error("container %s: its record is not saved: %s", self.status.id[:12], error)

    def send_signal(self, number: int) -> None:
        """To its first process; no error if that is gone."""
        if self.pidfd < 0:
            return
        try:
            signal.pidfd_send_signal(self.pidfd, number)
        except ProcessLookupError:
            pass

    def fail_to_start(self, message: str) -> None:
        """The status that containerd reports of a task that could not be created or did not get to exec."""
        now = time.time_ns()
        self.update(
            state=ContainerState.EXITED, reason="StartError", exit_code=128, message=message, finished_at_ns=now
        )
        self.ended.set()

    def descriptors(self) -> dict[str, int]:
        """What the agent has of its process, by the names of the spawner's; not copies."""
        output = self.log.descriptors() if self.log is not None and "terminal" not in self.held else {}
        return {"pidfd": self.pidfd, **self.held, **output}

    def release(self) -> None:
        """Close what it holds; the process is not touched."""
        if self.log is not None:
            self.log.detach()
            self.log = None
        for fd in (*self.held.values(), self.pidfd):
            if fd >= 0:
                os.close(fd)
        self.held.clear()
        self.pidfd = -1


def discard(container: Container, failures: Sequence[str]) -> None:
    """Close its descriptors and, unless operations could not be undone, remove its record."""
    container.release()
    if not failures:
        for name in ("container.json", "stdout.partial", "stderr.partial"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{container.directory}/{name}")
        with contextlib.suppress(OSError):
            os.rmdir(container.directory)


def end_of(ended: ChildExit | None, out_of_memory: bool, now_ns: int) -> dict[str, object]:
    """The status fields that an end changes. `ended` None: unknown how (the kubelet's ContainerStatusUnknown)."""
    if ended is None or not ended.known:
        code, number, finished_at_ns = 137, 0, ended.finished_at_ns if ended is not None else now_ns
        reason, message = "ContainerStatusUnknown", "it ended while nobody could see how"
    else:
        code, number, finished_at_ns, message = ended.code, ended.signal, ended.finished_at_ns, ""
        reason = "OOMKilled" if out_of_memory else "Completed" if code == 0 else "Error"
    return {
        "state": ContainerState.EXITED,
        "exit_code": code,
        "signal": number,
        "reason": reason,
        "message": message,
        "finished_at_ns": finished_at_ns,
    }


def plan_of(
    config: ContainerConfig, sandbox: SandboxConfig, image: Image, facts: HostFacts, paths: Paths
) -> ContainerPlan:
    """With its filter compiled: so a wrong profile is known before anything is made. Raises ContainerError."""
    return container_plan(config, sandbox, image, facts, paths, seccomp_filter(config, paths))


def checked_plan(
    config: ContainerConfig, sandbox: SandboxConfig, image: Image, facts: HostFacts, paths: Paths
) -> ContainerPlan:
    """The same for the creation, where also an unknown user fails. Reads the image's files and may compile a filter
    for seconds: not on the loop. Raises ContainerError.
    """
    plan = plan_of(config, sandbox, image, facts, paths)
    check_user(plan.child, image.layers)
    return plan


def start_plan(record: ContainerRecord, image: Image, facts: HostFacts, paths: Paths) -> ContainerPlan:
    """The same at the start, with what an OCI runtime refuses only then. Raises ContainerError."""
    plan = plan_of(record.status.config, record.sandbox, image, facts, paths)
    launch = plan.child[-1]
    assert isinstance(launch, Exec)
    refuse_start(record.status.config, record.cwd, launch.argv)
    return plan


def check_user(operations: Iterable[ChildOperation], layers: Sequence[str]) -> None:
    """Whether the image knows its user, before anything is made: it is the creation that fails (containerd).

    The child looks again, in the root that it has mounted. Raises ContainerError.
    """
    for operation in operations:
        if isinstance(operation, ResolveUser):
            operation.find(lambda path, limit: read_in_layers(layers, path, limit))


def seccomp_filter(config: ContainerConfig, paths: Paths) -> SeccompFilter:
    """The compiled filter of a container, which also holds for its execs; empty where it has none."""
    security = config.security
    if security.privileged or security.seccomp == "Unconfined":
        return SeccompFilter("Unconfined")
    if not security.seccomp_localhost:  # it lets pass what `passage` is for
        return SeccompFilter(security.seccomp, compiled_filter(security.seccomp, capabilities_of(config), paths))
    profile, cookie = security.seccomp_localhost, random_bits(64)
    program = compiled_filter(profile, capabilities_of(config), paths)
    return SeccompFilter(profile, with_passage(program, cookie), cookie)


def signal_number(name: str, default: int = signal.SIGTERM) -> int:
    """SIGTERM, TERM, 15, SIGRTMIN+3 as an image's STOPSIGNAL writes them; what is not known is `default`."""
    if not name:
        return default
    if name.isascii() and name.isdigit():
        return int(name) if 0 < int(name) <= 64 else default
    upper = name.upper()
    upper = upper if upper.startswith("SIG") else f"SIG{upper}"
    base, plus, offset = upper.partition("+")
    try:
        number = int(signal.Signals[base])
    except KeyError:
        return default
    return number + int(offset) if plus and offset.isdigit() else number
