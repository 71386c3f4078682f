"""The grpc probe (layer 5): one unary grpc.health.v1.Health/Check without TLS, after pkg/probe/grpc.

A client of HTTP/2 (RFC 9113) for exactly this call. As the kubelet's, it says nothing before the server has, and
dials again while there is time. The server in the pod chooses what is read: an answer has some hundred bytes, and
of more than `_MAX_RECEIVED` no frame is looked at, whatever kind it is.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from urllib.parse import unquote

from minipod.agent.probes.kinds.connection import Answer, Connection, Done, join_host_port
from minipod.agent.probes.kinds.hpack import Decoder, HpackError, encode
from minipod.agent.probes.kinds.http import VERSION

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _CONTINUATION = 0, 1, 3, 4, 6, 7, 9
_END_STREAM, _ACK, _END_HEADERS, _PADDED, _PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
_MAX_FRAME = 16384
_MAX_RECEIVED = 64 << 10  # on one connection
_MAX_HEADERS = 16 << 10  # all blocks together, compressed: a KiB takes 1.3 ms to decode
_STREAM = 1
_FIRST_PAUSE_S, _PAUSE_FACTOR = 1.0, 1.6  # gRPC's connection back-off
_SERVING = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
_CODES = (
    "OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists",
    "PermissionDenied", "ResourceExhausted", "FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented",
    "Internal", "Unavailable", "DataLoss", "Unauthenticated",
)  # fmt: skip
_UNIMPLEMENTED = 12
_CODE = re.compile(r"[0-9]{1,10}")


class _ProtocolError(Exception):
    """This is no server of HTTP/2, or one that breaks its rules."""


class GrpcProbe:
    """One attempt, which may dial more than once."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, address: str, port: int, service: str, timeout_s: int, done: Done
    ) -> None:
        self._loop = loop
        self._address = (address, port)
        self._target = join_host_port(address, port)
        self._service = service
        self._timeout_s = timeout_s
        self._done = done
        self._pause_s = _FIRST_PAUSE_S
        self._again: asyncio.TimerHandle | None = None
        self._dial()

    def _dial(self) -> None:
        self._asked = False
        self._is_over = self._last = False
        self._received = self._header_bytes = 0
        self._rest = b""
        self._headers: dict[bytes, bytes] = {}
        self._block = b""
        self._body = b""
        self._decoder = Decoder()
        self._connection = Connection(self._loop, *self._address, self)
        self._connection.start()

    def time_is_up(self) -> None:
        asked = self._asked
        self.give_up()
        if asked:
            message = f"timeout: health rpc did not complete within {self._timeout_s}s"
        else:
            message = f'timeout: failed to connect service "{self._target}" within {self._timeout_s}s'
            message += ": context deadline exceeded"
        self._done(Answer("failure", message))

    def give_up(self) -> None:
        self._connection.close()
        if self._again is not None:
            self._again.cancel()

    # -- the connection's user ----------------------------------------------------------------------------------

    def connected(self) -> bytes:
        return _PREFACE + _frame(_SETTINGS, 0, 0, b"")

    def received(self, data: bytes) -> bytes:
        self._rest += data
        self._received += len(data)
        answer = b""
        try:
            if self._received > _MAX_RECEIVED:
                raise _ProtocolError("an answer that is too large")
            for kind, flags, stream, payload in self._frames():
                answer += self._on_frame(kind, flags, stream, payload)
        except (_ProtocolError, HpackError) as error:
            self._broken(str(error))
        return answer

    def ended(self) -> None:
        self._broken("error reading from server: EOF")

    def failed(self, stage: str, error: OSError) -> None:
        self._broken(f"{stage}: {error}")

    def _broken(self, why: str) -> None:
        """Before the server has said hello it is dialled again; afterwards the call has failed."""
        self._connection.close()
        if self._asked:
            self._is_over = True
            self._finish_rpc(14, why)
            return
        self._again = self._loop.call_later(self._pause_s, self._dial)
        self._pause_s *= _PAUSE_FACTOR

    # -- frames -------------------------------------------------------------------------------------------------

    def _frames(self) -> Iterator[tuple[int, int, int, bytes]]:
        """Those that are whole, until the call is over."""
        data, at = self._rest, 0
        while not self._is_over and len(data) - at >= 9:
            length = int.from_bytes(data[at : at + 3], "big")
            if length > _MAX_FRAME:
                raise _ProtocolError("a frame that is too large")
            end = at + 9 + length
            if len(data) < end:
                break
            kind, flags = data[at + 3], data[at + 4]
            stream = int.from_bytes(data[at + 5 : at + 9], "big") & 0x7FFFFFFF
            yield kind, flags, stream, data[at + 9 : end]
            at = end
        self._rest = data[at:]

    def _on_frame(self, kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        """What is to be answered."""
        if not self._asked and kind != _SETTINGS:
            raise _ProtocolError("the server's first frame is no SETTINGS")
        if kind == _SETTINGS and not flags & _ACK:
            answer = _frame(_SETTINGS, _ACK, 0, b"")
            if not self._asked:
                self._asked = True
                answer += self._request()
            return answer
        if kind == _PING and not flags & _ACK:
            return _frame(_PING, _ACK, 0, payload)
        if kind == _GOAWAY:
            raise _ProtocolError("the server goes away")
        if stream == _STREAM:
            self._on_stream(kind, flags, payload)
        return b""

    def _on_stream(self, kind: int, flags: int, payload: bytes) -> None:
        if kind == _RST_STREAM:
            raise _ProtocolError("stream terminated by RST_STREAM")
        if kind == _DATA:
            self._body += _unpadded(payload, flags)
        elif kind in (_HEADERS, _CONTINUATION):
            if kind == _HEADERS:
                payload = _unpadded(payload, flags)
                self._block = payload[5:] if flags & _PRIORITY else payload
                self._last = bool(flags & _END_STREAM)
            else:
                self._block += payload
            self._header_bytes += len(payload)
            if self._header_bytes > _MAX_HEADERS:
                raise _ProtocolError("headers that are too large")
            if flags & _END_HEADERS:
                self._headers.update(self._decoder.decode(self._block))
                if self._last:
                    self._over()
            return
        if kind == _DATA and flags & _END_STREAM:
            self._over()

    def _request(self) -> bytes:
        headers = (
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/grpc.health.v1.Health/Check"),
            (":authority", self._target),
            ("content-type", "application/grpc"),
            ("user-agent", f"kube-probe/{VERSION}"),
            ("te", "trailers"),
            ("grpc-timeout", f"{self._timeout_s * 1000}m"),
        )
        service = self._service.encode()
        message = b"\x0a" + _varint(len(service)) + service if service else b""
        body = b"\x00" + len(message).to_bytes(4, "big") + message
        return _frame(_HEADERS, _END_HEADERS, _STREAM, encode(headers)) + _frame(_DATA, _END_STREAM, _STREAM, body)

    # -- answers ------------------------------------------------------------------------------------------------

    def _over(self) -> None:
        self._connection.close()
        self._is_over = True
        status = self._headers.get(b":status", b"").decode("latin-1")
        code = self._headers.get(b"grpc-status", b"").decode("latin-1")
        if not _CODE.fullmatch(code):
            self._finish_rpc(2, f"unexpected HTTP status code received from server: {status}")
        elif code != "0":
            self._finish_rpc(int(code), unquote(self._headers.get(b"grpc-message", b"").decode("latin-1")))
        else:
            self._serving(_serving_status(self._body))

    def _serving(self, serving: int) -> None:
        if serving == 1:
            self._done(Answer("success", "service healthy"))
        else:
            self._done(Answer("failure", f'service unhealthy (responded with "{_SERVING.get(serving, serving)}")'))

    def _finish_rpc(self, code: int, message: str) -> None:
        if code == _UNIMPLEMENTED:
            text = f"this server does not implement the grpc health protocol (grpc.health.v1.Health): {message}"
            self._done(Answer("failure", f"error: {text}"))
            return
        name = _CODES[code] if code < len(_CODES) else f"Code({code})"
        self._done(Answer("failure", f"error: health rpc probe failed: rpc error: code = {name} desc = {message}"))


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def _unpadded(payload: bytes, flags: int) -> bytes:
    if not flags & _PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise _ProtocolError("padding that is longer than its frame")
    return payload[1 : len(payload) - payload[0]]


def _varint(number: int) -> bytes:
    data = b""
    while number >= 128:
        number, data = number >> 7, data + bytes((number & 127 | 128,))
    return data + bytes((number,))


def _serving_status(body: bytes) -> int:
    """HealthCheckResponse.status, the only field of the only message; left out where it is UNKNOWN."""
    message = body[5:]
    return message[1] if len(message) >= 2 and message[0] == 0x08 else 0
