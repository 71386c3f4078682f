"""The running agent (layer 7): composes its parts; serves until it is stopped or has been idle for long enough."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial

from minipod.agent import leftovers, losses
from minipod.agent.clock_watch import ClockWatch
from minipod.agent.image_gc import ImageCollector
from minipod.agent.names import NamesKeeper
from minipod.agent.node import Node
from minipod.agent.objects.claims import Claims
from minipod.agent.objects.refresh import Refresher
from minipod.agent.objects.usage import UsageWatch
from minipod.agent.planner import PodPlanner
from minipod.agent.pods import recovery
from minipod.agent.pods.table import Pods
from minipod.agent.registry.checkpoints import Checkpoints
from minipod.agent.registry.store import Store
from minipod.agent.static.pods import StaticPods
from minipod.agent.watchdog import Watchdog
from minipod.api.timestamps import timestamp
from minipod.config import load_config
from minipod.control import server
from minipod.control.verbs.agent import Origin, Started
from minipod.control.verbs.table import Verbs
from minipod.errors import HostError
from minipod.failpoint import reached
from minipod.kernel import sd_notify
from minipod.kernel.error_text import expect_errors_at
from minipod.kernel.memory import give_back
from minipod.kernel.sd_notify import ServiceManager
from minipod.runtime import room
from minipod.runtime.cgroup import of_the_caller
from minipod.runtime.facts import host_facts
from minipod.runtime.offload import finish, off_loop
from minipod.runtime.runtime import Runtime
from minipod.serve.agent_log import AgentLog
from minipod.serve.options import Options
from minipod.serve.renewal import Renewal

log = logging.getLogger("minipod.agent")

STACK_BYTES = 1 << 20  # of each thread; it counts in full against RLIMIT_DATA, which 8 MiB each would reach with 128
SWITCH_S = 0.0001  # how long the loop waits for the GIL while a thread computes, after each system call anew
TRIM_AFTER_S = 2.0  # after the last pod and connection
WATCHDOG_SHARE = 0.25  # of the service manager's watchdog interval: a late turn or a lost message is no failure
FINISH_S = 5.0  # an agent that exits waits so long for what its threads are doing
SWEEP_AFTER_S = 1.0  # what an earlier agent left is not urgent; the client that started this one is


def serve(options: Options, ready: Callable[[], None], notes: Sequence[str], manager: ServiceManager) -> int:
    """Runs until the agent exits; `ready` is called once the control socket answers. Raises MinipodError.

    `notes`: warnings from before there was a log. `manager`: the service manager that is notified, if there is one.
    """
    logging.basicConfig(handlers=[AgentLog()], level=logging.INFO)
    for note in notes:
        log.warning("%s", note)
    sys.setswitchinterval(SWITCH_S)
    threading.stack_size(STACK_BYTES)
    watchdog = Watchdog()
    signal.signal(
        signal.SIGINT, signal.SIG_DFL
    )  # like SIGTERM, until `Service.run` handles both; otherwise asyncio would handle it
    with asyncio.Runner(loop_factory=watchdog.new_loop) as runner:
        return runner.run(_serve(options, ready, watchdog, manager))


async def _serve(options: Options, ready: Callable[[], None], watchdog: Watchdog, manager: ServiceManager) -> int:
    paths = options.paths
    config = load_config(options.config)
    expect_errors_at(paths.root, paths.state)
    store = Store(f"{paths.state}/minipod.db")
    try:
        facts = host_facts(config)
        if not facts.cgroup_mounts:
            raise HostError("no cgroup file system is mounted: mount -t cgroup2 none /sys/fs/cgroup (minipod check)")
        for note in of_the_caller(facts):
            log.warning("%s", note)
        runtime = Runtime(paths, config, facts, manager)
        node = Node(paths, config, facts, store, runtime, PodPlanner(paths, config, facts), watchdog=watchdog)
        asyncio.get_running_loop().set_exception_handler(partial(_log_exception, Renewal(options, bool(manager))))
        await Service(node, options.auto, manager).run(ready)
    finally:
        store.close()
    return 0


class Service:
    """One agent, from opening its socket to closing it."""

    def __init__(self, node: Node, auto: bool, manager: ServiceManager) -> None:
        self._node = node
        self._auto = auto
        self._manager = manager
        self._leaving = asyncio.Event()
        self._idle: asyncio.TimerHandle | None = None
        self._trimming: asyncio.TimerHandle | None = None
        self._sweeping: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()  # the agent exits: it sweeps at once
        self._loop = asyncio.get_running_loop()
        self._pods = Pods(node, self._check_idle)
        self._server: server.Server | None = None

    async def run(self, ready: Callable[[], None]) -> None:
        node = self._node
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)  # not `loop.add_signal_handler`, which loads `inspect` (serve.late)
        node.runtime.on_exit = self._pods.container_exited
        node.runtime.on_loss = losses.reporter(node)
        await node.runtime.open()
        watchers: list[asyncio.Task[None]] = []
        try:
            claims = Claims(node, self._pods)
            node.find_sources, node.claims_lack = claims.sources, claims.lack  # before any pod is continued
            await recovery.recover(node, self._pods)
            reached("agent.recovered")
            static = StaticPods(node, self._pods)
            verbs = Verbs(
                node,
                self._pods,
                self._leaving.set,
                self._connections,
                claims,
                origin=self._origin(static.path),
                problems=lambda: static.problems,
            )
            watchers += [self._loop.create_task(watcher.run()) for watcher in (*self._watchers(claims), static)]
            watchers.append(self._loop.create_task(self._warn_of_limits()))
            for task in watchers:
                task.add_done_callback(_log_broken)
            self._server = self._listening(verbs)
            self._server.start()
            ready()
            node.watchdog.start()
            self._show_alive(sd_notify.READY)
            reached("agent.serving")
            log.info("agent %d serves %s", os.getpid(), node.paths.root)
            self._check_idle()
            self._sweeping = self._loop.create_task(self._sweep())
            await self._leaving.wait()
            self._manager.notify(sd_notify.STOPPING)
            reached("agent.leaving")
            await self._server.stop()
            if self._sweeping is not None:
                self._hurry.set()
                await self._sweeping
        finally:
            for task in watchers:
                task.cancel()
            await asyncio.gather(*watchers, return_exceptions=True)
            await self._pods.close()
            await finish(FINISH_S)
            await node.runtime.close()
            node.watchdog.close()
            reached("agent.closed")
        log.info("agent %d exits, %d pods keep running", os.getpid(), len(self._pods))

    def _origin(self, static_pods: str) -> Origin:
        is_service = bool(self._manager or self._manager.unit)
        started: Started = "command" if self._auto else "service" if is_service else "foreground"
        since = timestamp(self._node.clock())
        return Origin(started=started, unit=self._manager.unit, since=since, static_pods=static_pods)

    def _listening(self, verbs: Verbs) -> server.Server:
        path = self._node.paths.agent_socket
        sockets = self._manager.sockets
        sock = server.taken_over(sockets[0].fd, path) if sockets else server.listen(path)
        return server.Server(sock, "" if sockets else path, verbs.table(), self._check_idle)

    def _end(self, *_: object) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._leaving.set)

    async def _warn_of_limits(self) -> None:
        """Not before the client that started this agent is served: to count mounts takes long where there are many."""
        await asyncio.sleep(SWEEP_AFTER_S)
        for line in await off_loop(room.shortfalls, self._node.config):
            log.warning("%s", line)

    async def _sweep(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._hurry.wait(), SWEEP_AFTER_S)
        await leftovers.sweep(self._node, self._pods)

    def _watchers(
        self, claims: Claims
    ) -> tuple[Claims, Refresher, UsageWatch, ImageCollector, Checkpoints, ClockWatch, NamesKeeper]:
        node = self._node
        usage, checkpoints, clock = (
            UsageWatch(node, self._pods),
            Checkpoints(node.store.path),
            ClockWatch(node, self._pods),
        )
        names = NamesKeeper(node, self._pods)
        return claims, Refresher(node, self._pods), usage, ImageCollector(node), checkpoints, clock, names

    def _show_alive(self, *first: str) -> None:
        """Called by the loop itself: a service manager with a watchdog restarts an agent whose loop is stuck."""
        self._manager.notify(*first, sd_notify.ALIVE, sd_notify.status(f"{len(self._pods)} pods"))
        if self._manager.watchdog_s:
            self._loop.call_later(self._manager.watchdog_s * WATCHDOG_SHARE, self._show_alive)

    def _connections(self) -> int:
        return self._server.connections if self._server is not None else 0

    def _check_idle(self) -> None:
        """Called when a pod or a connection comes or goes."""
        for timer in (self._idle, self._trimming):
            if timer is not None:
                timer.cancel()
        self._idle = self._trimming = None
        if len(self._pods) or self._connections():
            return
        self._trimming = self._loop.call_later(TRIM_AFTER_S, give_back)  # it takes some milliseconds
        if self._auto:
            self._idle = self._loop.call_later(self._node.config.idle_exit_s, self._leaving.set)


def _log_broken(task: asyncio.Task[None]) -> None:
    """Logs the error of a watcher that ended: it should run as long as the agent."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("a watcher broke: %s", error, exc_info=error)


def _log_exception(renewal: Renewal, loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    error = context.get("exception")
    try:
        log.error("%s", context.get("message"), exc_info=error if isinstance(error, BaseException) else None)
    finally:
        if isinstance(error, MemoryError):
            renewal.begin()
