"""Channels of a remote command over WebSocket (layer 5): stdin, stdout, stderr, errors and terminal sizes in frames.

Protocols v5 and v4.channel.k8s.io: the first byte of a binary message is its channel; in v5 [255, channel] ends one.
Rules: apimachinery's util/remotecommand, client-go's tools/remotecommand/websocket.go. Knows no pods.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import NamedTuple

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Message, Ping, RejectConnection, Request
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
MAX_MESSAGE_BYTES = 1 << 20
SEND_S = 60.0
_CHUNK = 64 << 10


class Frame(NamedTuple):
    """`is_end`: the client closes the channel; there is no data then."""

    channel: int
    data: bytes
    is_end: bool = False


class ChannelsError(Exception):
    """The client is gone or violates the protocol."""


class Channels:
    """The server's side of one upgraded connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._ws = WSConnection(ConnectionType.SERVER)
        self._is_closed = False

    async def accept(self, head: bytes) -> None:
        """`head`: the request for the upgrade. Raises ChannelsError for a client that speaks none of the protocols."""
        try:
            self._ws.receive_data(head)
            request = next(self._ws.events())
        except (RemoteProtocolError, StopIteration) as error:
            raise ChannelsError(f"no WebSocket: {error}") from None
        if not isinstance(request, Request):
            raise ChannelsError("no WebSocket")
        protocol = next((found for found in PROTOCOLS if found in request.subprotocols), None)
        if protocol is None:
            await self._send(self._ws.send(RejectConnection(status_code=400)))
            raise ChannelsError("no common protocol")
        await self._send(self._ws.send(AcceptConnection(subprotocol=protocol)))

    async def frames(self) -> AsyncIterator[Frame]:
        """Until the client closes the connection. Raises ChannelsError."""
        message = bytearray()
        while True:
            for event in self._ws.events():
                if isinstance(event, Ping):
                    await self._send(self._ws.send(event.response()))
                elif isinstance(event, CloseConnection):
                    return
                elif isinstance(event, Message):
                    message += event.data if isinstance(event, BytesMessage) else str(event.data).encode()
                    if len(message) > MAX_MESSAGE_BYTES:
                        raise ChannelsError("a message is too long")
                    if event.message_finished:
                        if message:
                            yield _frame(bytes(message))
                        message.clear()
            data = await self._reader.read(_CHUNK)
            if not data:
                return
            try:
                self._ws.receive_data(data)
            except RemoteProtocolError as error:
                raise ChannelsError(str(error)) from None

    async def send(self, channel: int, data: bytes) -> None:
        """Raises ChannelsError where the client is gone or takes nothing."""
        if not self._is_closed:
            await self._send(self._ws.send(BytesMessage(data=bytes([channel]) + data)))

    async def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            await self._send(self._ws.send(CloseConnection(code=1000)))

    async def _send(self, data: bytes) -> None:
        try:
            self._writer.write(data)
            async with asyncio.timeout(SEND_S):
                await self._writer.drain()
        except (OSError, TimeoutError, LocalProtocolError) as error:
            self._is_closed = True
            raise ChannelsError(str(error)) from None


def _frame(message: bytes) -> Frame:
    if message[0] == CLOSE and len(message) > 1:
        return Frame(message[1], b"", is_end=True)
    return Frame(message[0], message[1:])
