"""HTTP/1.1 on one connection of a server (layer 5): requests in, answers out, the raw connection after an upgrade.

h11 has the grammar; this has the limits: what a client sends is bounded in size and in time. Knows no paths.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
from collections.abc import Awaitable, Callable, Iterable
from typing import Any
from urllib.parse import parse_qsl, unquote

import h11

MAX_HEAD_BYTES = 64 << 10
MAX_BODY_BYTES = 3 << 20  # kube-apiserver's limit
HEAD_S = 30.0  # until a request's head is there whole; also how long an idle connection is kept
BODY_S = 60.0
SEND_S = 60.0  # a client that takes nothing for so long is disconnected
_CHUNK = 64 << 10
_COMPRESSED = 128 << 10  # kube-apiserver compresses larger answers only

JSON = "application/json"

Headers = list[tuple[str, str]]


class HttpError(Exception):
    """The request cannot be read or served; the connection is closed after the answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Request:
    """`path` is decoded, `query` in order, header names are in lower case. `peer`: of a verified client certificate,
    what ssl's getpeercert() gives; None where there is none.
    """

    def __init__(self, method: str, target: str, headers: dict[str, str], body: bytes, peer: Any) -> None:
        path, _, query = target.partition("?")
        self.method = method
        self.raw_path = path
        self.path = unquote(path, errors="replace")
        self.query = parse_qsl(query, keep_blank_values=True, max_num_fields=1000, errors="replace")
        self.headers = headers
        self.body = body
        self.peer = peer

    @property
    def media_type(self) -> str:
        """Of the body; empty where the client does not say."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def value(self, name: str, default: str = "") -> str:
        """Of the first parameter of that name."""
        return next((value for key, value in self.query if key == name), default)

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.query if key == name]

    def flag(self, name: str) -> bool:
        """As Go's conversion of query parameters reads it: anything but false, 0 and nothing is true."""
        return any(value.lower() not in ("false", "0") for value in self.values(name)[:1])


class Exchange:
    """One request and its answer, which is sent whole, in pieces, or by taking the connection over."""

    def __init__(self, connection: HttpConnection, request: Request) -> None:
        self.request = request
        self._connection = connection
        self.is_answered = False
        self.gone = connection.gone

    async def respond(self, status: int, body: bytes, content_type: str = JSON, more: Headers | None = None) -> None:
        headers = [("Content-Type", content_type), *(more or [])]
        if len(body) > _COMPRESSED and "gzip" in self.request.headers.get("accept-encoding", ""):
            body = gzip.compress(body, 1)
            headers.append(("Content-Encoding", "gzip"))
        self.is_answered = True
        await self._connection.send(
            h11.Response(status_code=status, headers=[*headers, ("Content-Length", str(len(body)))])
        )
        if self.request.method != "HEAD":
            await self._connection.send(h11.Data(data=body))
        await self._connection.send(h11.EndOfMessage())

    async def begin(self, content_type: str) -> None:
        """The head of an answer that comes in pieces."""
        self.is_answered = True
        headers = [("Content-Type", content_type), ("Transfer-Encoding", "chunked")]
        await self._connection.send(h11.Response(status_code=200, headers=headers))

    async def send(self, data: bytes) -> None:
        await self._connection.send(h11.Data(data=data))

    async def end(self) -> None:
        await self._connection.send(h11.EndOfMessage())

    async def take_over(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]:
        """The connection itself, with what has been read beyond the request. The caller answers the upgrade."""
        self.is_answered = True
        return await self._connection.taken_over()


Handler = Callable[[Exchange], Awaitable[None]]


class HttpConnection:
    """Serves the requests of one client, one after the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handler: Handler) -> None:
        self._reader = reader
        self._writer = writer
        self._handler = handler
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
        self._is_taken = False
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        tls = writer.get_extra_info("ssl_object")
        self._peer = tls.getpeercert() if tls is not None else None

    async def serve(self) -> None:
        """Until either side is done. Never raises for what a client does."""
        try:
            while not self._is_taken and (request := await self._next_request()) is not None:
                await self._answer(request)
                if self._is_taken or self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
                    break
                self._http.start_next_cycle()
        except (OSError, TimeoutError, h11.LocalProtocolError):
            pass
        finally:
            if not self.gone.done():
                self.gone.set_result(None)
            self._writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await self._writer.wait_closed()

    async def _answer(self, request: Request) -> None:
        self._watch = asyncio.get_running_loop().create_task(self._watch_for_end())
        try:
            await self._handler(Exchange(self, request))
        finally:
            await self._end_watch()

    async def _end_watch(self) -> None:
        self._watch.cancel()
        with contextlib.suppress(asyncio.CancelledError, OSError):
            await self._watch

    async def _watch_for_end(self) -> None:
        """A client that disconnects while it is answered ends the answer. What it sends ahead is kept for later."""
        while True:
            data = await self._reader.read(_CHUNK)
            self._http.receive_data(data)
            if not data or len(self._http.trailing_data[0]) > MAX_HEAD_BYTES:
                if not self.gone.done():
                    self.gone.set_result(None)
                return

    async def _next_request(self) -> Request | None:
        try:
            async with asyncio.timeout(HEAD_S):
                head = await self._event()
            if not isinstance(head, h11.Request):
                return None
            headers = _headers(head.headers)
            if headers.get("expect", "").lower() == "100-continue":
                await self.send(h11.InformationalResponse(status_code=100, headers=[]))
            async with asyncio.timeout(BODY_S):
                body = await self._body(int(headers.get("content-length", 0)))
        except h11.RemoteProtocolError as error:
            await self._refuse(HttpError(error.error_status_hint, str(error)))
            return None
        except HttpError as error:
            await self._refuse(error)
            return None
        return Request(head.method.decode(), head.target.decode("ascii", "replace"), headers, body, self._peer)

    async def _event(self) -> Any:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(await self._reader.read(_CHUNK))
        return event

    async def _body(self, announced: int) -> bytes:
        if announced > MAX_BODY_BYTES:
            raise HttpError(413, f"Request entity too large: limit is {MAX_BODY_BYTES}")
        body = bytearray()
        while isinstance(event := await self._event(), h11.Data):
            body += event.data
            if len(body) > MAX_BODY_BYTES:
                raise HttpError(413, f"Request entity too large: limit is {MAX_BODY_BYTES}")
        return bytes(body)

    async def _refuse(self, error: HttpError) -> None:
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        body = f"{error}\n".encode()
        headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(body))), ("Connection", "close")]
        for event in (h11.Response(status_code=error.status, headers=headers), h11.Data(data=body), h11.EndOfMessage()):
            await self.send(event)

    async def send(self, event: Any) -> None:
        """Raises OSError, TimeoutError where the client is gone or takes nothing."""
        data = self._http.send(event)
        if data:
            self._writer.write(data)
            async with asyncio.timeout(SEND_S):
                await self._writer.drain()

    async def taken_over(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]:
        self._is_taken = True
        await self._end_watch()
        return self._reader, self._writer, self._http.trailing_data[0]


def _headers(pairs: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Repeated ones are joined, as HTTP says."""
    headers: dict[str, str] = {}
    for name, value in pairs:
        key, text = name.decode("latin-1"), value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return headers
