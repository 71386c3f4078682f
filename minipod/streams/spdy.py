"""SPDY/3.1 frames (layer 5), as far as Kubernetes' streams use them: a server's side, without sockets.

Streams with headers, data both ways, half-closes, resets, pings. Flow control is not used: moby/spdystream, the only
client there is, ignores it. Rules: the SPDY draft 3.1.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

MAX_FRAME_BYTES = 1 << 20
MAX_HEADER_BYTES = 64 << 10
MAX_STREAMS = 1024
_SYN_STREAM, _SYN_REPLY, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _HEADERS = 1, 2, 3, 4, 6, 7, 8
_CONTROL = 0x8003 << 16
_FIN = 1
_CANCEL, _REFUSED = 5, 3

_WORDS = (
    "options|head|post|put|delete|trace|accept|accept-charset|accept-encoding|accept-language|"
    "accept-ranges|age|allow|authorization|cache-control|connection|content-base|content-encoding|"
    "content-language|content-length|content-location|content-md5|content-range|content-type|date|etag|"
    "expect|expires|from|host|if-match|if-modified-since|if-none-match|if-range|if-unmodified-since|"
    "last-modified|location|max-forwards|pragma|proxy-authenticate|proxy-authorization|range|referer|"
    "retry-after|server|te|trailer|transfer-encoding|upgrade|user-agent|vary|via|warning|"
    "www-authenticate|method|get|status|200 OK|version|HTTP/1.1|url|public|set-cookie|keep-alive|origin"
)
_REST = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 No"
    "n-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403"
    " Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Fe"
    "b Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunke"
    "d,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/"
    "javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
#: what both sides' compressors know of headers before the first one (draft 3.1, 2.6.10.1)
DICTIONARY = b"".join(struct.pack(">I", len(word)) + word.encode() for word in _WORDS.split("|")) + _REST.encode()


class SpdyError(Exception):
    """The client violates the protocol."""


class Opened(NamedTuple):
    """The client has opened a stream. Header names are in lower case."""

    stream: int
    headers: dict[str, str]


class Data(NamedTuple):
    """`is_end`: the client sends no more on it."""

    stream: int
    data: bytes
    is_end: bool


class Reset(NamedTuple):
    stream: int


Event = Opened | Data | Reset


class Spdy:
    """One connection. What is to be sent is in `out` after each call."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)
        self._deflate = zlib.compressobj(zdict=DICTIONARY)
        self._streams: set[int] = set()
        self.out = bytearray()

    def receive(self, data: bytes) -> Iterator[Event]:
        """The events of what has come. Raises SpdyError."""
        self._buffer += data
        while len(self._buffer) >= 8:
            head, length = struct.unpack_from(">II", self._buffer)
            flags, size = length >> 24, length & 0xFFFFFF
            if size > MAX_FRAME_BYTES:
                raise SpdyError(f"a frame of {size} bytes is too long")
            if len(self._buffer) < 8 + size:
                return
            payload = bytes(self._buffer[8 : 8 + size])
            del self._buffer[: 8 + size]
            if not head >> 31:
                if head in self._streams:
                    yield Data(head, payload, bool(flags & _FIN))
                continue
            if head & 0xFFFF0000 != _CONTROL:
                raise SpdyError(f"version {head >> 16 & 0x7FFF} of SPDY, not 3")
            yield from self._control(head & 0xFFFF, flags, payload)

    def _control(self, kind: int, flags: int, payload: bytes) -> Iterator[Event]:
        if kind == _SYN_STREAM:
            yield from self._opened(flags, payload)
        elif kind == _RST_STREAM and len(payload) == 8:
            stream = struct.unpack_from(">I", payload)[0] & 0x7FFFFFFF
            if stream in self._streams:
                self._streams.discard(stream)
                yield Reset(stream)
        elif kind == _PING and len(payload) == 4:
            self._frame(_PING, 0, payload)
        elif kind == _HEADERS and len(payload) >= 4:
            self._headers(payload[4:])  # the compressor's state follows every header block

    def _opened(self, flags: int, payload: bytes) -> Iterator[Event]:
        if len(payload) < 10:
            raise SpdyError("a stream's first frame is too short")
        stream = struct.unpack_from(">I", payload)[0] & 0x7FFFFFFF
        headers = self._headers(payload[10:])
        if stream in self._streams or not stream % 2:
            raise SpdyError(f"stream {stream} is open, or not the client's to open")
        if len(self._streams) >= MAX_STREAMS:
            self._frame(_RST_STREAM, 0, struct.pack(">II", stream, _REFUSED))
            return
        self._streams.add(stream)
        yield Opened(stream, headers)
        if flags & _FIN:
            yield Data(stream, b"", True)

    def _headers(self, block: bytes) -> dict[str, str]:
        try:
            text = self._inflate.decompress(block, MAX_HEADER_BYTES)
        except zlib.error as error:
            raise SpdyError(f"headers: {error}") from None
        if self._inflate.unconsumed_tail:
            raise SpdyError("headers are too long")
        headers, at = {}, 4
        try:
            (count,) = struct.unpack_from(">I", text)
            for _ in range(min(count, 1000)):
                name, at = _string(text, at)
                value, at = _string(text, at)
                headers[name.lower()] = value
        except (struct.error, UnicodeDecodeError):
            raise SpdyError("headers are cut off") from None
        return headers

    def accept(self, stream: int) -> None:
        """Answers a stream that the client has opened."""
        block = self._deflate.compress(struct.pack(">I", 0)) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        self._frame(_SYN_REPLY, 0, struct.pack(">I", stream) + block)

    def send(self, stream: int, data: bytes, *, is_end: bool = False) -> None:
        """Nothing where the stream is closed."""
        if stream in self._streams:
            flags = _FIN if is_end else 0
            self.out += struct.pack(">II", stream, flags << 24 | len(data)) + data

    def reset(self, stream: int) -> None:
        if stream in self._streams:
            self._streams.discard(stream)
            self._frame(_RST_STREAM, 0, struct.pack(">II", stream, _CANCEL))

    def close(self, stream: int) -> None:
        """Both sides are done with it."""
        self._streams.discard(stream)

    def _frame(self, kind: int, flags: int, payload: bytes) -> None:
        self.out += struct.pack(">II", _CONTROL | kind, flags << 24 | len(payload)) + payload


def _string(text: bytes, at: int) -> tuple[str, int]:
    (size,) = struct.unpack_from(">I", text, at)
    found = text[at + 4 : at + 4 + size]
    if len(found) < size:
        raise struct.error("cut off")
    return found.decode(), at + 4 + size
