"""A spawner of a test's own with its agent's end, children that wait for the test, and how long things may take."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import psutil

from minipod.paths import Paths
from minipod.plan.operation import ChildOperation
from minipod.plan.process.identity import Exec, NewSession
from minipod.plan.process.namespaces import Clone
from minipod.runtime.spawner.client import ChildExit
from minipod.runtime.spawner.start import reap
from minipod.runtime.spawner.versions import Spawners
from tests.patience import SLOWNESS

WAIT_S = 10.0 * SLOWNESS


class Host:
    """Spawners of a test's own, with the ends that they tell."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths
        self.ends: dict[str, ChildExit] = {}
        self.lost = 0
        self.spawners = Spawners(paths, self._ended, self._lost)

    def _ended(self, ended: ChildExit) -> None:
        self.ends[ended.key] = ended

    def _lost(self) -> None:
        self.lost += 1

    async def end_of(self, key: str) -> ChildExit:
        await until(lambda: key in self.ends)
        return self.ends[key]

    def processes(self) -> list[psutil.Process]:
        mark = f"{self.paths.root}/exits"
        return [p for p in psutil.process_iter(["cmdline"]) if any(mark in word for word in p.info["cmdline"] or [])]

    def process(self) -> psutil.Process:
        (found,) = self.processes()
        return found


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.01)


def on_host(paths: Paths, body: Callable[[Host], Awaitable[None]]) -> None:
    async def run() -> None:
        async with _host(paths) as host:
            await body(host)

    asyncio.run(run())


@contextlib.asynccontextmanager
async def _host(paths: Paths) -> AsyncIterator[Host]:
    host = Host(paths)
    host.spawners.open()
    try:
        yield host
    finally:
        for key in await host.spawners.children():
            await host.spawners.forget(key)
        host.spawners.close()
        children = psutil.Process().children()
        _, alive = await asyncio.to_thread(psutil.wait_procs, children, WAIT_S)
        assert not alive


def shell(script: str) -> list[ChildOperation]:
    return [NewSession(), Exec(argv=("/bin/sh", "-c", script), env=("PATH=/bin:/usr/bin",))]


HERE = Clone(namespaces=())


def closed(fds: dict[str, int]) -> None:
    for fd in fds.values():
        os.close(fd)


def whole(fd: int) -> bytes:
    """All that a pipe without a writer still has."""
    return b"".join(iter(lambda: os.read(fd, 1 << 20), b""))


def connected(paths: Paths) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.settimeout(WAIT_S)
    (name,) = os.listdir(f"{paths.root}/spawners")
    sock.connect(f"{paths.root}/spawners/{name}")
    return sock


def answer_of(sock: socket.socket, data: bytes, fds: list[int]) -> dict[str, Any]:
    socket.send_fds(sock, [data], fds)
    answer: dict[str, Any] = json.loads(sock.recv(1 << 20))
    return answer


def gate(paths: Paths, name: str) -> str:
    """Shell that waits for `opened` of that name."""
    os.mkfifo(f"{paths.root}/{name}.gate")
    return f"cat {paths.root}/{name}.gate; "


async def opened(paths: Paths, *names: str) -> None:
    for name in names:
        await asyncio.to_thread(lambda path: open(path, "wb").close(), f"{paths.root}/{name}.gate")
        os.unlink(f"{paths.root}/{name}.gate")


async def gone(pid: int) -> None:
    await until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    reap()


async def next_agent_after_the_spawner(host: Host, *keys: str) -> None:
    """The agent leaves, then all children end, and their spawner after them; another agent comes."""
    pid = host.process().pid
    host.spawners.close()
    await opened(host.paths, *keys)
    await gone(pid)
    host.spawners = Host(host.paths).spawners
    host.spawners.open()


def spawner_of(agent: int) -> psutil.Process:
    """The parent of the containers of an agent, whose other child answers questions for names."""
    [spawner] = [
        child for child in psutil.Process(agent).children() if "minipod.names" not in " ".join(child.cmdline())
    ]
    return spawner
