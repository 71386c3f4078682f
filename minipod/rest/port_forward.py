"""Port forwarding (layer 6): SPDY streams of a client, each pair of them a TCP connection inside the pod.

SPDY comes in the messages of a WebSocket (`SPDY/3.1+portforward.k8s.io`) or directly after an upgrade. For each
connection the client opens two streams: one for an error's text, one for the data; `requestID` pairs them.
Rules: the kubelet's cri-streaming/portforward; client-go's tools/portforward.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable

from minipod.rest.agent import Agent, AgentUnavailableError, RefusedError
from minipod.streams.descriptors import read_some, write_all
from minipod.streams.spdy import Data, Opened, Reset, Spdy, SpdyError

TUNNEL = "SPDY/3.1+portforward.k8s.io"
PROTOCOL = "portforward.k8s.io"
_MOST_UNSENT = 64  # pieces of a stream that wait for the pod; then the client's connection waits

Send = Callable[[bytes], Awaitable[None]]


class _Pair:
    """One connection. `coming`: the data of the client; None ends it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.error = 0
        self.data = 0
        self.coming: asyncio.Queue[bytes | None] = asyncio.Queue(_MOST_UNSENT)


class PortForward:
    """All connections of one client to one pod."""

    def __init__(self, agent: Agent, namespace: str, pod: str, send: Send) -> None:
        self._agent = agent
        self._namespace = namespace
        self._pod = pod
        self._send = send
        self._spdy = Spdy()
        self._pairs: dict[str, _Pair] = {}  # by requestID
        self._of_stream: dict[int, _Pair] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, received: AsyncIterator[bytes]) -> None:
        """Until the client is gone. Raises SpdyError."""
        try:
            async for data in received:
                for event in self._spdy.receive(data):
                    if isinstance(event, Opened):
                        self._opened(event)
                    elif isinstance(event, Data):
                        await self._data(event)
                    else:
                        self._reset(event)
                await self._flush()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _opened(self, event: Opened) -> None:
        headers = event.headers
        kind, port = headers.get("streamtype"), headers.get("port", "")
        if kind not in ("error", "data") or not port.isdecimal() or not 0 < int(port) < 65536:
            self._spdy.reset(event.stream)
            return
        key = headers.get("requestid") or f"{port}.{event.stream if kind == 'error' else event.stream - 2}"
        pair = self._pairs.setdefault(key, _Pair(int(port)))
        self._of_stream[event.stream] = pair
        setattr(pair, kind, event.stream)
        self._spdy.accept(event.stream)
        if pair.error and pair.data:
            del self._pairs[key]
            task = asyncio.get_running_loop().create_task(self._connection(pair))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _data(self, event: Data) -> None:
        pair = self._of_stream.get(event.stream)
        if pair is None or event.stream != pair.data:
            return
        if event.data:
            await pair.coming.put(event.data)
        if event.is_end:
            await pair.coming.put(None)

    def _reset(self, event: Reset) -> None:
        pair = self._of_stream.pop(event.stream, None)
        if pair is not None and event.stream == pair.data:
            with contextlib.suppress(asyncio.QueueFull):
                pair.coming.put_nowait(None)

    async def _connection(self, pair: _Pair) -> None:
        try:
            await self._copy(pair)
        except (RefusedError, AgentUnavailableError) as error:
            text = f"an error occurred forwarding {pair.port} -> {pair.port}: {error}"
            self._spdy.send(pair.error, text.encode())
        self._spdy.send(pair.data, b"", is_end=True)
        self._spdy.send(pair.error, b"", is_end=True)
        for stream in (pair.data, pair.error):
            self._spdy.close(stream)
            self._of_stream.pop(stream, None)
        await self._flush()

    async def _copy(self, pair: _Pair) -> None:
        request = {"verb": "connect", "namespace": self._namespace, "pod": self._pod, "port": pair.port}
        async with self._agent.call(request) as call:
            await anext(call.lines())
            fd = call.fds.pop(0)
            os.set_blocking(fd, False)
            try:
                writing = asyncio.create_task(_write(fd, pair.coming))
                try:
                    while data := await read_some(fd):
                        self._spdy.send(pair.data, data)
                        await self._flush()
                finally:
                    writing.cancel()
                    await asyncio.gather(writing, return_exceptions=True)
            finally:
                os.close(fd)

    async def _flush(self) -> None:
        """Sends what is to be sent; frames of several connections never mix, as each is put there whole."""
        if self._spdy.out:
            data = bytes(self._spdy.out)
            self._spdy.out.clear()
            await self._send(data)


async def _write(fd: int, coming: asyncio.Queue[bytes | None]) -> None:
    import socket

    while (data := await coming.get()) is not None:
        if not await write_all(fd, data):
            while await coming.get() is not None:  # nothing reads it: what comes is dropped
                pass
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(fd)) as half:
        half.shutdown(socket.SHUT_WR)


__all__ = ["PROTOCOL", "TUNNEL", "PortForward", "SpdyError"]
