"""Containers whose spawner has died (layer 3): the next spawner holds what is left of them, and reports their ends.

Where it cannot, the agent watches them by their pidfds itself.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any

from minipod.errors import AgentError
from minipod.kernel import process
from minipod.runtime.container import Container
from minipod.runtime.regained import regained
from minipod.runtime.spawner.client import ChildExit, SpawnError
from minipod.runtime.spawner.versions import Spawners
from minipod.runtime.status import ContainerState

log = logging.getLogger(__name__)


class Orphans:
    """Callbacks: `begin` starts a task, `finish` completes an exit, `lose` reports what is lost for good."""

    def __init__(
        self,
        spawners: Spawners,
        begin: Callable[[Coroutine[Any, Any, None]], object],
        finish: Callable[[Container, ChildExit | None], Awaitable[None]],
        lose: Callable[[Container, str], None],
    ) -> None:
        self._spawners = spawners
        self._begin = begin
        self._finish = finish
        self._lose = lose

    def regain(self, container: Container, pids: list[int], fds: dict[str, int]) -> None:
        """Adds the descriptors of a running container that no spawner has, as far as there still are some.

        `fds`: those that are known already.
        """
        try:
            fds["pidfd"] = os.pidfd_open(container.status.pid)
        except ProcessLookupError:
            return
        pipes = container.record.pipes.items()
        fds |= regained(pids, {name: number for name, number in pipes if name not in fds})
        config = container.status.config
        if config.tty and "terminal" not in fds:
            self._lose(container, "agent and spawner died at once: its terminal is gone, and what it wrote into it")
        elif not config.tty and (missing := [name for name in ("stdout", "stderr") if name not in fds]):
            what = " and ".join(missing)
            self._lose(container, f"agent and spawner died at once: {what} cannot be found again: output is lost")
        if config.stdin and not config.tty:
            self._lose(container, "agent and spawner died at once: its standard input has ended")

    async def hold(self, containers: Iterable[Container]) -> None:
        """The spawner of some of them has died: the next one holds what this agent has of those that run."""
        try:
            known = await self._spawners.children()
        except SpawnError:  # it is gone as well, which is another call
            return
        for container in list(containers):  # also one whose start was the last that it answered
            running = container.status.state == ContainerState.RUNNING and container.pidfd >= 0
            if running and container.status.id not in known and not container.watched:
                await self._hold(container)

    async def _hold(self, container: Container) -> None:
        status = container.status
        fds: dict[str, int] = {}
        try:
            for name, fd in container.descriptors().items():
                fds[name] = os.dup(fd)  # while it is sent the container may end
            await self._spawners.current.hold(status.id, status.pid, status.started_at_ns, fds)
            log.info("container %s is held by another spawner, its own is gone", status.id[:12])
        except (SpawnError, AgentError, OSError) as error:
            log.warning("container %s: no spawner holds it: %s", status.id[:12], error)
            self._watch(container)
        finally:
            for fd in fds.values():
                os.close(fd)

    def _watch(self, container: Container) -> None:
        if container.pidfd >= 0:
            container.watched = True
            asyncio.get_running_loop().add_reader(container.pidfd, self._ended, container)

    def _ended(self, container: Container) -> None:
        asyncio.get_running_loop().remove_reader(container.pidfd)
        self._begin(self._finish_watched(container))

    async def _finish_watched(self, container: Container) -> None:
        await self._finish(container, await end_by_pidfd(container.status.id, container.status.pid, container.pidfd))


async def end_by_pidfd(key: str, pid: int, pidfd: int) -> ChildExit | None:
    """How a process that has ended, and is not our child, did so; None where that cannot be known.

    Retries, because the status may be unavailable between the exit and its being reaped by init.
    """
    ended_at_ns = time.time_ns()
    for _ in range(process.EXIT_ATTEMPTS):
        found = process.exit_of(pidfd, pid)
        if found is not None:
            return ChildExit(key, pid, *found, 0, ended_at_ns)
        await asyncio.sleep(process.EXIT_PAUSE_S)
    return None


async def until_readable(fd: int) -> None:
    """Until the process of a pidfd has ended."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(fd, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(fd)
