"""The agent's end of the spawner's socket (layer 3): requests, and notices of exits. Decides nothing."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from minipod.errors import ContainerError
from minipod.failpoint import reached
from minipod.plan.operation import ChildOperation
from minipod.plan.process.namespaces import Clone
from minipod.runtime.spawner.inbox import MESSAGE_LIMIT, BadMessage, Inbox, close_all, named, number_of, widen

log = logging.getLogger(__name__)

T = TypeVar("T")


class SpawnError(ContainerError):
    """The child could not be made or did not get to exec. `.errno` is the kernel's, 0 where there is none."""

    def __init__(self, message: str, errno: int, operation: str, reason: str = "") -> None:
        super().__init__(message, reason or None)
        self.errno = errno
        self.operation = operation


class SpawnerGoneError(SpawnError):
    """The spawner died before it answered: what it was asked for may have happened, or not."""

    def __init__(self, errno: int = 0, why: str = "") -> None:
        super().__init__(f"the spawner is gone{why}", errno, "")


class Spawned(msgspec.Struct, frozen=True):
    """A child that has exec'ed. `fds`, the caller's own: pidfd, and stdin, stdout, stderr, terminal where there are."""

    pid: int
    started_at_ns: int
    facts: dict[str, Any]
    fds: dict[str, int]


class ChildExit(msgspec.Struct, frozen=True):
    """How a child ended: `code` is 128+n for an end by signal n. `known` False: it could not be found out."""

    key: str
    pid: int
    code: int
    signal: int
    started_at_ns: int
    finished_at_ns: int
    known: bool = True


class Child(msgspec.Struct, frozen=True):
    """One that the spawner knows; `exit` is None while it runs, `started_at_ns` 0 until it has executed."""

    key: str
    pid: int
    exit: ChildExit | None
    started_at_ns: int = 0
    facts: dict[str, Any] = {}


class _Failure(msgspec.Struct, frozen=True):
    message: str
    errno: int
    op: str
    reason: str = ""


class _Message(msgspec.Struct, frozen=True):
    """Any message of a spawner: the answer to request `id`, or the notice of an exit."""

    id: int | None = None
    fds: tuple[str, ...] = ()
    error: _Failure | None = None
    exit: ChildExit | None = None


class _Started(msgspec.Struct, frozen=True):
    pid: int
    started_at_ns: int
    facts: dict[str, Any]


class _Ended(msgspec.Struct, frozen=True):
    exit: ChildExit


class _Listed(msgspec.Struct, frozen=True):
    children: list[Child]
    more: bool = False


class _Done(msgspec.Struct, frozen=True):
    """An answer without contents: the request was carried out."""


class SpawnerClient:
    """One connection. Requests may be made at the same time; each is answered by its number."""

    def __init__(self, on_exit: Callable[[ChildExit], None], on_lost: Callable[[], None]) -> None:
        self._on_exit = on_exit
        self._on_lost = on_lost
        self._socket: socket.socket | None = None
        self._waiting: dict[int, asyncio.Future[tuple[bytes, dict[str, int]]]] = {}
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
        widen(sock)
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
                future.set_exception(SpawnerGoneError())
        self._waiting.clear()

    def _readable(self) -> None:
        """Reads all messages there are: an exit must be known before a timeout that waits for it is handled."""
        while self._socket is not None:
            fds: list[int] = []
            try:
                data, fds = self._inbox.receive(self._socket)
                if not data:
                    self._lose()
                    return
                self._handle(data, fds)
            except BlockingIOError:
                return
            except OSError:
                self._lose()
            except BadMessage as error:
                close_all(fds)
                self._reject(error)

    def _lose(self) -> None:
        self.close()
        self._on_lost()

    def _handle(self, data: memoryview, fds: list[int]) -> None:
        """Takes over `fds`, unless it raises BadMessage."""
        message = decode(data, _Message)
        by_name = named(message.fds, fds, message.id)
        if message.id is None:
            if message.exit is None or fds:
                raise BadMessage("neither an answer nor an end", None)
            self._on_exit(message.exit)
            return
        future = self._waiting.pop(message.id, None)
        if future is None or future.done() or message.error is not None:
            close_all(fds)
        if future is None or future.done():
            return
        if (failure := message.error) is not None:
            future.set_exception(SpawnError(failure.message, failure.errno, failure.op, failure.reason))
        else:
            future.set_result((bytes(data), by_name))

    def _reject(self, error: BadMessage) -> None:
        """Fails the request that the message answers. Where its number is unreadable, all requests fail: the spawner is
        treated as lost."""
        log.error("the spawner sent what is %s", error)
        if error.number is None:
            self._lose()
        elif (future := self._waiting.pop(error.number, None)) is not None and not future.done():
            future.set_exception(SpawnError(f"the spawner's answer is {error}", 0, ""))

    async def _request(
        self, message: dict[str, Any], kind: type[T], fds: dict[str, int] | None = None
    ) -> tuple[T, dict[str, int]]:
        if self._socket is None:
            raise SpawnerGoneError()
        self._next_id += 1
        number = self._next_id
        message = {"id": number, "fds": list(fds or ()), **message}
        encoded = msgspec.json.encode(message)
        if len(encoded) > MESSAGE_LIMIT // 2:
            raise SpawnError("exec: argument list too long: command and environment together", errno.E2BIG, "Exec")
        while True:
            try:
                socket.send_fds(self._socket, [encoded], list((fds or {}).values()))
                break
            except BlockingIOError:
                await _writable(self._socket)
            except OSError as error:
                raise SpawnerGoneError(error.errno or 0, f": {error.strerror}") from None
        reached("sent", message["do"])
        # Only now can an answer come, or the notice that the spawner is gone.
        future: asyncio.Future[tuple[bytes, dict[str, int]]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            answer, by_name = await future
        except asyncio.CancelledError:
            if not future.cancelled() and future.exception() is None:  # answered a moment before
                close_all(future.result()[1].values())
            raise
        try:
            return decode(answer, kind), by_name
        except BadMessage as error:
            close_all(by_name.values())
            raise SpawnError(f"the spawner's answer is {error}", 0, "") from None

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
        request = {
            "do": "spawn",
            "key": key,
            "clone": clone,
            "ops": operations,
            "stdio": stdio,
            "stdin": stdin,
            "keep": keep,
        }
        answer, theirs = await self._request(request, _Started, fds)
        return Spawned(answer.pid, answer.started_at_ns, answer.facts, theirs)

    async def launch(self, key: str, fds: dict[str, int]) -> Spawned:
        """Start a program of `kernel.launcher`; returns when the command was executed. Raises SpawnError."""
        answer, theirs = await self._request({"do": "launch", "key": key}, _Started, fds)
        return Spawned(answer.pid, answer.started_at_ns, answer.facts, theirs)

    async def launch_to_end(self, key: str, fds: dict[str, int]) -> ChildExit:
        """The same, until the command has ended. Raises SpawnError."""
        answer, _ = await self._request({"do": "launch", "key": key, "to_end": True}, _Ended, fds)
        return answer.exit

    async def kill(self, key: str) -> None:
        """A command that was launched to its end. One that has ended is left alone."""
        await self._request({"do": "kill", "key": key}, _Done)

    async def list(self) -> list[Child]:
        """Every child it knows."""
        found: list[Child] = []
        more = True
        while more:
            answer, _ = await self._request({"do": "list", "after": found[-1].key if found else ""}, _Listed)
            found += answer.children
            more = answer.more and bool(answer.children)
        return found

    async def hold(self, key: str, pid: int, started_at_ns: int, fds: dict[str, int]) -> None:
        """The child's spawner has died: this one keeps copies of `fds` (as of Spawned) and reports its end."""
        await self._request({"do": "hold", "key": key, "pid": pid, "started_at_ns": started_at_ns}, _Done, fds)

    async def adopt(self, key: str) -> Spawned:
        """What an earlier agent's `spawn` would have returned, once the child has exec'ed. Raises SpawnError."""
        try:
            answer, theirs = await self._request({"do": "adopt", "key": key}, _Started)
        except SpawnError:  # one of minipod 0.1 does not know this request
            found = [child for child in await self.list() if child.key == key and child.started_at_ns]
            if not found:
                raise
            answer = _Started(found[0].pid, found[0].started_at_ns, found[0].facts)
            theirs = await self.reattach(key)
        return Spawned(answer.pid, answer.started_at_ns, answer.facts, theirs)

    async def reattach(self, key: str) -> dict[str, int]:
        """The stdio descriptors that are kept for `key`, by name; empty where there are none."""
        _, theirs = await self._request({"do": "reattach", "key": key}, _Done)
        return theirs

    async def close_stdin(self, key: str) -> None:
        """Another has the writing end of its standard input now, and its end is the input's end (stdinOnce)."""
        await self._request({"do": "close_stdin", "key": key}, _Done)

    async def forget(self, key: str) -> None:
        """The end of `key` is known and saved: its record and descriptors can go."""
        await self._request({"do": "forget", "key": key}, _Done)


def decode(data: bytes | memoryview, kind: type[T]) -> T:
    """Raises BadMessage."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:  # ValueError: UTF-8
        raise BadMessage(f"not understood: {error}", number_of(data)) from None


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
