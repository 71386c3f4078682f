"""The spawners of one instance (layer 3): this version's own, and older ones that still have containers.

A newer agent starts a spawner of its own version and leaves the older one its containers; a spawner that died is
replaced, and its containers are watched through their pidfds.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable, Iterator

import minipod
from minipod.errors import AgentError
from minipod.kernel.cgroup import Hierarchy
from minipod.paths import Paths
from minipod.runtime.spawner import group
from minipod.runtime.spawner.client import Child, ChildExit, Spawned, SpawnerClient, SpawnerGoneError, SpawnError
from minipod.runtime.spawner.start import reap, start_spawner

log = logging.getLogger(__name__)

_SILENCE_S = 2.0  # long before the command line shows the log's last line (`cli.patience`)
_RETRY_S = 1.0
_REAP_AFTER_S = 0.2  # its socket closes a moment before it is a zombie


class Spawners:
    """Connections by socket path. `current` makes the new children."""

    def __init__(
        self,
        paths: Paths,
        on_exit: Callable[[ChildExit], None],
        on_lost: Callable[[], None],
        hierarchies: tuple[Hierarchy, ...] = (),
    ) -> None:
        """`hierarchies`: in which a service's spawners have a group of their own."""
        self._hierarchies = hierarchies
        self._cgroup_root = paths.cgroup_root
        self._folder = f"{paths.root}/spawners"
        self._exits = f"{paths.root}/exits"
        self._own = f"{self._folder}/{minipod.__version__}.sock"
        self._on_exit = on_exit
        self._on_lost = on_lost
        self._clients: dict[str, SpawnerClient] = {}
        self._is_closed = False
        self._pause_ends: dict[str, asyncio.Event] = {}
        self.losses = 0  # how many spawners have died

    @property
    def current(self) -> SpawnerClient:
        client = self._clients.get(self._own)
        if client is None:
            raise AgentError("the spawner is gone: try again")
        return client

    def open(self) -> None:
        """Connect to every spawner that lives, and start this version's own where it does not."""
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(self._folder):
                path = f"{self._folder}/{name}"
                if not self._connect(path):
                    os.unlink(path)
        if self._own not in self._clients:
            self._start()
        self.separate()

    def separate(self) -> None:
        """Out of the agent's control group, where that is a service's; also called when an answerer has started."""
        try:
            group.separate(self._exits, self._cgroup_root, self._hierarchies)
        except OSError as error:
            log.warning("%s: %s: the spawner stays in the agent's group", error.filename, error.strerror)

    def _start(self) -> None:
        start_spawner(self._own, self._exits)
        if not self._connect(self._own):
            raise AgentError(f"the spawner does not answer at {self._own}: see the agent's log")

    def _connect(self, path: str) -> bool:
        client = SpawnerClient(self._exited, lambda: self._lost(path))
        try:
            client.connect(path)
        except OSError:
            return False
        self._clients[path] = client
        return True

    def _lost(self, path: str) -> None:
        self.losses += 1
        self._clients.pop(path, None)
        with contextlib.suppress(OSError):
            os.unlink(path)
        asyncio.get_running_loop().call_later(_REAP_AFTER_S, reap)
        if path == self._own:
            self._replace()
        else:
            self._on_lost()

    def _replace(self) -> None:
        """Starts another; where that cannot be done now (no process, no memory), again and again."""
        if self._is_closed:
            return
        try:
            self._start()
        except (OSError, AgentError) as error:
            log.error("no spawner can be started, which is tried every %.0f s: %s", _RETRY_S, error)
            asyncio.get_running_loop().call_later(_RETRY_S, self._replace)
            return
        self.separate()
        self._on_lost()

    def _exited(self, ended: ChildExit) -> None:
        waiting = self._pause_ends.get(ended.key)
        if waiting is not None:
            waiting.set()
        self._on_exit(ended)

    def close(self) -> None:
        self._is_closed = True
        for client in self._clients.values():
            client.close()
        self._clients.clear()

    async def children(self) -> dict[str, ChildExit | None]:
        """Key -> how it ended, None while it runs."""
        found = {}
        for path in list(self._clients):
            for child in await self._list(path):
                found[child.key] = child.exit
        return found

    async def _list(self, path: str) -> list[Child]:
        """A spawner that was about to end when it was connected to has saved what it knew for the one after it."""
        with _noticed(path):
            try:
                return await self._clients[path].list()
            except SpawnError:
                return await self._clients[path].list() if path in self._clients else []

    async def adopt(self, key: str) -> Spawned:
        """A child whose start an earlier agent asked for, once it has exec'ed. Raises SpawnError: none has it."""
        failure = SpawnError(f"no spawner has {key}", 0, "adopt")
        for client in list(self._clients.values()):
            try:
                return await client.adopt(key)
            except SpawnError as error:
                failure = error
        raise failure

    async def reattach(self, key: str) -> dict[str, int]:
        """The descriptors that a spawner keeps for `key`; the caller's own."""
        for client in list(self._clients.values()):
            fds = await client.reattach(key)
            if fds:
                return fds
        return {}

    async def close_stdin(self, key: str) -> None:
        """The spawner that holds the writing end of its standard input closes it."""
        for client in list(self._clients.values()):
            with contextlib.suppress(SpawnError):
                await client.close_stdin(key)

    async def forget(self, key: str) -> None:
        """The spawner that has it drops its record, also on disk; where it dies, the one after it.

        An older spawner ends after its last child.
        """
        for path, client in list(self._clients.items()):
            with contextlib.suppress(SpawnError):
                try:
                    await client.forget(key)
                except SpawnerGoneError:
                    await asyncio.sleep(0)  # until that is noticed
                    if self._clients.get(path, client) is client:
                        raise
                    await self._clients[path].forget(key)
                if path != self._own and not await client.list():
                    self._dismiss(path, client)

    def _dismiss(self, path: str, client: SpawnerClient) -> None:
        del self._clients[path]
        client.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)

    async def kill_and_forget(self, key: str, timeout_s: float = 10.0) -> None:
        """End a child that has no other waiter (a pod's pause process)."""
        fds = await self.reattach(key)
        ended = self._pause_ends[key] = asyncio.Event()
        try:
            if "pidfd" in fds:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(fds["pidfd"], signal.SIGKILL)
                    async with asyncio.timeout(timeout_s):
                        await ended.wait()
        finally:
            del self._pause_ends[key]
            for fd in fds.values():
                os.close(fd)
        await self.forget(key)


@contextlib.contextmanager
def _noticed(path: str) -> Iterator[None]:
    """Logs that a spawner is silent: an agent that starts waits for it, and commands wait for that agent."""
    text = "the spawner at %s has not answered for %d s: a process that is stopped or hangs cannot: see its state in ps"
    timer = asyncio.get_running_loop().call_later(_SILENCE_S, log.warning, text, path, _SILENCE_S)
    try:
        yield
    finally:
        timer.cancel()
