"""The server's side of a WebSocket (layer 5): binary messages on a connection that HTTP has handed over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Message, Ping, RejectConnection, Request
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

MAX_MESSAGE_BYTES = 4 << 20
SEND_S = 60.0
_CHUNK = 64 << 10


class WebSocketError(Exception):
    """The client is gone or violates the protocol."""


class WebSocket:
    """One upgraded connection. One reader and any number of senders."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._ws = WSConnection(ConnectionType.SERVER)
        self._is_closed = False

    async def accept(self, head: bytes, protocols: Sequence[str]) -> str:
        """`head`: the request for the upgrade. Returns the protocol, the first of ours that the client has too.

        Raises WebSocketError where there is none.
        """
        try:
            self._ws.receive_data(head)
            request = next(self._ws.events())
        except (RemoteProtocolError, StopIteration) as error:
            raise WebSocketError(f"no WebSocket: {error}") from None
        if not isinstance(request, Request):
            raise WebSocketError("no WebSocket")
        protocol = next((found for found in protocols if found in request.subprotocols), None)
        if protocol is None:
            await self._send(self._ws.send(RejectConnection(status_code=400)))
            raise WebSocketError("no common protocol")
        await self._send(self._ws.send(AcceptConnection(subprotocol=protocol)))
        return protocol

    async def messages(self) -> AsyncIterator[bytes]:
        """Until the client closes the connection. Raises WebSocketError."""
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
                        raise WebSocketError("a message is too long")
                    if event.message_finished:
                        yield bytes(message)
                        message.clear()
            data = await self._reader.read(_CHUNK)
            if not data:
                return
            try:
                self._ws.receive_data(data)
            except RemoteProtocolError as error:
                raise WebSocketError(str(error)) from None

    async def send(self, data: bytes) -> None:
        """One message. Raises WebSocketError where the client is gone or takes nothing."""
        if not self._is_closed:
            await self._send(self._ws.send(BytesMessage(data=data)))

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
            raise WebSocketError(str(error)) from None
