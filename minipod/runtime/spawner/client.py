"""The agent's end of the spawner's socket (layer 3): ask it, hear of ends. Decides nothing."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Any

import msgspec

from minipod.errors import ContainerError
from minipod.plan.operation import ChildOperation
from minipod.plan.process.namespaces import Clone
from minipod.runtime.spawner.inbox import MESSAGE_LIMIT, Inbox


class SpawnError(ContainerError):
    """The child could not be made or did not get to exec. `.errno` is the kernel's, 0 where there is none."""

    def __init__(self, message: str, errno: int, operation: str, reason: str = "") -> None:
        super().__init__(message, reason or None)
        self.errno = errno
        self.operation = operation


class Spawned(msgspec.Struct, frozen=True):
    """A child that has exec'ed. `fds`, the caller's own: pidfd, and stdin, stdout, stderr, terminal where there are."""

    pid: int
    started_at_ns: int
    facts: dict[str, Any]
    fds: dict[str, int]


class ChildExit(msgspec.Struct, frozen=True):
    """How a child ended: `code` is 128+n for an end by signal n."""

    key: str
    pid: int
    code: int
    signal: int
    started_at_ns: int
    finished_at_ns: int


class SpawnerClient:
    """One connection. Requests may be made at the same time; each is answered by its number."""

    def __init__(self, on_exit: Callable[[ChildExit], None], on_lost: Callable[[], None]) -> None:
        self._on_exit = on_exit
        self._on_lost = on_lost
        self._socket: socket.socket | None = None
        self._waiting: dict[int, asyncio.Future[tuple[dict[str, Any], dict[str, int]]]] = {}
        self._next_id = 0
        self._inbox = Inbox()

    def connect(self, socket_path: str) -> None:
        """Raises ConnectionRefusedError or FileNotFoundError where no spawner listens."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            sock.connect(socket_path)
        except OSError:
            sock.close()
            raise
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MESSAGE_LIMIT)
        sock.setblocking(False)
        self._socket = sock
        asyncio.get_running_loop().add_reader(sock.fileno(), self._readable)

    def close(self) -> None:
        sock, self._socket = self._socket, None
        if sock is not None:
            asyncio.get_running_loop().remove_reader(sock.fileno())
            sock.close()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(SpawnError("the spawner is gone", 0, ""))
        self._waiting.clear()

    def _readable(self) -> None:
        """All there is: what has ended must be known before anybody's patience is."""
        while self._socket is not None:
            try:
                data, fds = self._inbox.receive(self._socket)
            except BlockingIOError:
                return
            except OSError:
                data, fds = None, []
            if not data:
                self.close()
                self._on_lost()
                return
            message = msgspec.json.decode(data)
            if "id" in message:
                self._answered(message, fds)
            else:
                self._on_exit(msgspec.convert(message["exit"], ChildExit))

    def _answered(self, message: dict[str, Any], fds: list[int]) -> None:
        named = dict(zip(message.get("fds", ()), fds, strict=True))
        future = self._waiting.pop(message["id"], None)
        if future is None or future.done():
            for fd in fds:
                os.close(fd)
        else:
            future.set_result((message, named))

    async def _request(
        self, message: dict[str, Any], fds: dict[str, int] | None = None
    ) -> tuple[dict[str, Any], dict[str, int]]:
        if self._socket is None:
            raise SpawnError("the spawner is gone", 0, "")
        self._next_id += 1
        number = self._next_id
        message = {"id": number, "fds": list(fds or ()), **message}
        encoded = msgspec.json.encode(message)
        if len(encoded) > MESSAGE_LIMIT // 2:
            raise SpawnError("the container's command and environment are too long", 7, "Exec")
        while True:
            try:
                socket.send_fds(self._socket, [encoded], list((fds or {}).values()))
                break
            except BlockingIOError:
                await _writable(self._socket)
            except OSError as error:
                raise SpawnError(f"the spawner is gone: {error.strerror}", error.errno or 0, "") from None
        # Only now is there an answer to come, or the spawner's end to be told.
        future: asyncio.Future[tuple[dict[str, Any], dict[str, int]]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        answer, named = await future
        if "error" in answer:
            failure = answer["error"]
            raise SpawnError(failure["message"], failure["errno"], failure["op"], failure.get("reason", ""))
        return answer, named

    async def spawn(
        self,
        key: str,
        clone: Clone,
        operations: list[ChildOperation],
        *,
        stdio: str = "pipes",
        stdin: bool = False,
        keep: bool = True,
        fds: dict[str, int] | None = None,
    ) -> Spawned:
        """Make a child; returns when it has exec'ed. Raises SpawnError."""
        answer, named = await self._request(
            {
                "do": "spawn",
                "key": key,
                "clone": clone,
                "ops": operations,
                "stdio": stdio,
                "stdin": stdin,
                "keep": keep,
            },
            fds,
        )
        return Spawned(answer["pid"], answer["started_at_ns"], answer["facts"], named)

    async def launch(self, key: str, fds: dict[str, int]) -> Spawned:
        """Start a program of `kernel.launcher`; returns when the command was executed. Raises SpawnError."""
        answer, named = await self._request({"do": "launch", "key": key}, fds)
        return Spawned(answer["pid"], answer["started_at_ns"], answer["facts"], named)

    async def launch_to_end(self, key: str, fds: dict[str, int]) -> ChildExit:
        """The same, until the command has ended. Raises SpawnError."""
        answer, _ = await self._request({"do": "launch", "key": key, "to_end": True}, fds)
        return msgspec.convert(answer["exit"], ChildExit)

    async def kill(self, key: str) -> None:
        """A command that was launched to its end. One that has ended is left alone."""
        await self._request({"do": "kill", "key": key})

    async def list(self) -> list[dict[str, Any]]:
        """Every child it knows: key, pid, started_at_ns, facts, exit (None while it runs)."""
        answer, _ = await self._request({"do": "list"})
        children: list[dict[str, Any]] = answer["children"]
        return children

    async def reattach(self, key: str) -> dict[str, int]:
        """The stdio descriptors that are kept for `key`, by name; empty where there are none."""
        _, named = await self._request({"do": "reattach", "key": key})
        return named

    async def hold(self, key: str, fds: dict[str, int]) -> None:
        """Have descriptors kept that a spawner which died had held."""
        await self._request({"do": "hold", "key": key}, fds)

    async def close_stdin(self, key: str) -> None:
        """Another has the writing end of its standard input now, and its end is the input's end (stdinOnce)."""
        await self._request({"do": "close_stdin", "key": key})

    async def forget(self, key: str) -> None:
        """The end of `key` is known and saved: its record and descriptors can go."""
        await self._request({"do": "forget", "key": key})


async def _writable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_writer(sock.fileno(), _resolve, ready)
    try:
        await ready
    finally:
        loop.remove_writer(sock.fileno())


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
