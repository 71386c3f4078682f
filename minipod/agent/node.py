"""What all parts of the agent share (layer 5): runtime, planner, store, registry, clock. No logic of its own.

`Planner` is a protocol so that tests can replace it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from minipod.agent.events import EventRecorder
from minipod.agent.host_node import host_node
from minipod.agent.objects.configuration import Configuration
from minipod.agent.pods.progress import Steps
from minipod.agent.registry.history import History
from minipod.agent.registry.read_only import ReadOnly
from minipod.agent.registry.registry import Registry
from minipod.agent.registry.store import Store
from minipod.agent.registry.stored import StoredObjects
from minipod.agent.registry.unsaved import Unsaved
from minipod.agent.steady import SteadyClock
from minipod.agent.turns import Turns
from minipod.agent.watchdog import Watchdog
from minipod.api import types
from minipod.api.kinds import EVENT, NODE
from minipod.api.types import Pod
from minipod.config import Config
from minipod.errors import HostError
from minipod.kernel.clock import boottime
from minipod.paths import Paths
from minipod.plan.configs import ContainerConfig, HostFacts, Image, SandboxConfig
from minipod.plan.env import Sources
from minipod.plan.operation import HostOperation
from minipod.plan.volumes.sources import FoundSources
from minipod.runtime.face import Runtime
from minipod.runtime.status import SandboxStatus

log = logging.getLogger("minipod.agent")


class Planner(Protocol):
    """Makes the configs that a kubelet would pass to its runtime; `planner.PodPlanner` on a real host."""

    def sandbox_config(self, pod: Pod, attempt: int) -> SandboxConfig: ...

    def container_config(
        self, pod: Pod, name: str, attempt: int, image: Image, sandbox: SandboxStatus, sources: Sources
    ) -> ContainerConfig: ...

    def volume_operations(self, pod: Pod, found: FoundSources) -> tuple[HostOperation, ...]: ...

    def encode_operations(self, operations: tuple[HostOperation, ...]) -> bytes: ...

    def decode_operations(self, data: bytes) -> tuple[HostOperation, ...]: ...


class ProbeFigures:
    """Counts the probes of this agent. `late`: those that began more than LATE_S after their time."""

    LATE_S = 0.5

    def __init__(self) -> None:
        self.made = 0
        self.late = 0

    def count(self, late_s: float) -> None:
        self.made += 1
        self.late += late_s > self.LATE_S


async def _nothing_found(pod: Pod) -> FoundSources:
    return FoundSources()


def _nothing_lacks(pod: Pod) -> str:
    return ""


class Node:
    """The parts. `clock`: seconds since the epoch, to be shown. `steady`: the same, to measure with. `find_sources`:
    finds the volumes of a pod's claims. `claims_lack`: why these claims keep the scheduler from assigning it, or ""."""

    def __init__(
        self,
        paths: Paths,
        config: Config,
        facts: HostFacts,
        store: Store,
        runtime: Runtime,
        planner: Planner,
        *,
        clock: Callable[[], float] = time.time,
        since_boot: Callable[[], float] = boottime,
        watchdog: Watchdog | None = None,
    ) -> None:
        self.paths = paths
        self.config = config
        self.facts = facts
        self.store = store
        self.unsaved = Unsaved(f"{paths.root}/unsaved", store)
        self.runtime = runtime
        self.planner = planner
        self.clock = clock
        self.steady = SteadyClock(store, lambda: self.clock(), since_boot)
        self.watchdog = watchdog or Watchdog()
        self.probe_figures = ProbeFigures()
        self.turns = Turns()
        self.find_sources: Callable[[Pod], Awaitable[FoundSources]] = _nothing_found
        self.claims_lack: Callable[[Pod], str] = _nothing_lacks
        self._host_node: types.Node | None = None
        self.history = History(self.store.version)
        self.pod_steps = Steps(self.history)
        self.events = EventRecorder(
            self.store, self.facts.node_name, self.history.append, self.clock(), lambda: self.steady.ahead_s
        )
        stored = StoredObjects(self.store, lambda: self.clock(), self.history.append)
        self.registry = Registry(self.store, stored)
        self.registry.add_keeper(EVENT, ReadOnly(lambda: self.events.all(self.clock())))
        self.registry.add_keeper(NODE, ReadOnly(lambda: [self.host_node()]))
        self.configuration = Configuration(self.registry, self.paths, self.facts)
        try:
            stored.create_built_in()
        except HostError as error:  # a full disk: the next agent creates them; no pod needs them at once
            log.error("%s", error)

    def host_node(self) -> types.Node:
        """This host as an object. May raise HostError (the store)."""
        if self._host_node is None:
            self._host_node = host_node(self.facts, self.config, self.store, self.clock())
        return self._host_node
