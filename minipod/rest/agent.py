"""The agent as the API's process sees it (layer 6): requests over the control socket, from an event loop.

One connection for each request, as the control socket has it. Knows no HTTP.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import msgspec

from minipod import __version__
from minipod.paths import Paths

_CHUNK = 1 << 18
_RIGHTS = socket.CMSG_SPACE(4 * array.array("i").itemsize)


class AgentUnavailableError(Exception):
    """No agent answers, or it went away in the middle of an answer."""


class Line(msgspec.Struct):
    """One line of an answer: an event, the last line of success (`ok`), or an error."""

    event: str = ""
    type: str = ""
    object: msgspec.Raw = msgspec.Raw(b"")
    resource_version: str = ""
    warnings: tuple[str, ...] = ()
    exists: bool = True
    fds: tuple[str, ...] = ()
    exit_code: int | None = None
    ok: bool = False
    error: dict[str, Any] | None = None

    @property
    def data(self) -> bytes:
        """The object as JSON."""
        return bytes(self.object)


class RefusedError(Exception):
    """The agent's error; `error` is its body."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        super().__init__(str(error.get("message", "")))
        self.error = error


_decoder = msgspec.json.Decoder(Line)


class Call:
    """One request and its lines. `fds` collects descriptors that came; the caller owns what it takes out."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = bytearray()
        self._searched = 0
        self.fds: list[int] = []

    async def lines(self) -> AsyncIterator[Line]:
        """Every event, and the last line. Raises RefusedError, AgentUnavailableError."""
        while True:
            line = await self._line()
            if line.error is not None:
                raise RefusedError(line.error)
            yield line
            if line.ok:
                return

    async def last(self) -> Line:
        """The last line; events are passed over."""
        async for line in self.lines():
            if line.ok:
                return line
        raise AgentUnavailableError("the agent went away")

    async def _line(self) -> Line:
        while (end := self._buffer.find(b"\n", self._searched)) < 0:
            self._searched = len(self._buffer)
            await self._fill()
        line = _decoder.decode(bytes(memoryview(self._buffer)[:end]))
        del self._buffer[: end + 1]
        self._searched = 0
        return line

    async def _fill(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                data, ancillary, _, _ = self._sock.recvmsg(_CHUNK, _RIGHTS, socket.MSG_CMSG_CLOEXEC)
                break
            except BlockingIOError:
                readable: asyncio.Future[None] = loop.create_future()
                loop.add_reader(self._sock, _set, readable)
                try:
                    await readable
                finally:
                    loop.remove_reader(self._sock)
            except OSError as error:
                raise AgentUnavailableError(str(error)) from None
        for level, kind, payload in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds = array.array("i")
                fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
                self.fds += fds
        if not data:
            raise AgentUnavailableError("the agent went away")
        self._buffer += data

    async def send(self, message: Mapping[str, Any]) -> None:
        await asyncio.get_running_loop().sock_sendall(self._sock, msgspec.json.encode(message) + b"\n")

    def close(self) -> None:
        self._sock.close()
        for fd in self.fds:
            os.close(fd)
        self.fds = []


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class Agent:
    """Opens requests. `paths`: of the agent's instance."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths

    @contextlib.asynccontextmanager
    async def call(self, request: Mapping[str, Any], fds: Sequence[int] = ()) -> AsyncIterator[Call]:
        """Sends one request. Raises AgentUnavailableError where no agent listens. `fds` stay the caller's."""
        loop = asyncio.get_running_loop()
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        call = Call(sock)
        try:
            try:
                await loop.sock_connect(sock, self._paths.agent_socket)
                data = msgspec.json.encode({**request, "version": __version__}) + b"\n"
                if fds:
                    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
                    data = data[sock.sendmsg([data], rights) :]
                await loop.sock_sendall(sock, data)
            except OSError as error:
                raise AgentUnavailableError(f"the agent does not answer: {error.strerror}") from None
            yield call
        finally:
            call.close()

    async def objects(self, request: Mapping[str, Any]) -> tuple[list[bytes], str]:
        """The objects that a `get` answers with, as JSON, and the list's resourceVersion.

        Raises RefusedError, AgentUnavailableError.
        """
        found: list[bytes] = []
        version = ""
        async with self.call(request) as call:
            async for line in call.lines():
                if line.event == "object":
                    found.append(line.data)
                version = line.resource_version or version
        return found, version

    async def ask(self, request: Mapping[str, Any]) -> Line:
        """The last line of a request. Raises RefusedError, AgentUnavailableError."""
        async with self.call(request) as call:
            return await call.last()
