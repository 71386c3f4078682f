"""Parses an HTTP/1 response incrementally (layer 5, pure): status, headers, the first 10 KiB of the body.

The server in the pod chooses what is read here: every loop is bounded, and so is what is kept. Limits and messages are
those of Go's net/http, except the size of headers (there 10 MiB) and the number of interim responses.
"""

from __future__ import annotations

import re

from minipod.plan.env import go_quote

MAX_BODY = 10 << 10  # pkg/probe/http maxRespBodyLength
MAX_HEAD = 256 << 10  # of all headers together, those of interim answers too
MAX_INTERIM = 5
_MAX_CHUNK_LINE = 4096
_MAX_CHUNK_EXCESS = 16 << 10  # of what is not data: net/http/internal chunkedReader.excess
_END_OF_HEAD = re.compile(rb"\r?\n\r?\n")
_STATUS_LINE = re.compile(rb"HTTP/\d\.\d ([1-9]\d\d)(?: |$)")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_CHUNK_LINE = re.compile(rb"([0-9a-fA-F]{1,16})[ \t]*(?:;.*)?", re.DOTALL)


class MalformedError(Exception):
    """This is no answer of HTTP."""


class HttpAnswer:
    """`status` is 0 until the head is there. Feed it until `whole`."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.body = b""
        self.whole = False
        self._rest = bytearray()
        self._searched = 0
        self._head_bytes = 0
        self._interim = 0
        self._length: int | None = None
        self._chunked = False
        self._excess = 0

    def feed(self, data: bytes) -> None:
        """Raises MalformedError."""
        self._rest += data
        while not self.status:
            if not self._head():
                return
        if self._chunked:
            self._chunks()
        else:
            self.body += self._rest
            self._rest.clear()
            self.whole = self._length is not None and len(self.body) >= self._length
        if len(self.body) >= MAX_BODY:
            self.whole = True
        if self.whole:
            self.body = self.body[: MAX_BODY if self._length is None else min(self._length, MAX_BODY)]

    def end(self) -> bool:
        """Nothing more comes; whether that is how this answer ends."""
        self.whole = self.whole or (bool(self.status) and self._length is None and not self._chunked)
        return self.whole

    def _head(self) -> bool:
        """Takes one head; whether there was one. `status` stays 0 after that of an interim answer."""
        found = _END_OF_HEAD.search(self._rest, max(0, self._searched - 3))
        self._searched = len(self._rest)
        if self._head_bytes + (found.end() if found else len(self._rest)) > MAX_HEAD:
            raise MalformedError(f"net/http: server response headers exceeded {MAX_HEAD} bytes; aborted")
        if found is None:
            if not self._rest.startswith(b"HTTP/"[: len(self._rest)]):
                raise MalformedError("malformed HTTP response " + _quoted(self._rest.split(b"\n")[0]))
            return False
        lines = bytes(self._rest[: found.start()]).split(b"\n")
        del self._rest[: found.end()]
        self._searched = 0
        self._head_bytes += found.end()
        line = _STATUS_LINE.match(lines[0].rstrip(b"\r"))
        if line is None:
            raise MalformedError("malformed HTTP response " + _quoted(lines[0]))
        status = int(line[1])
        if 100 <= status < 200 and status != 101:
            self._interim += 1  # 103 Early Hints and the like come before the answer
            if self._interim > MAX_INTERIM:
                raise MalformedError("net/http: too many 1xx informational responses")
            return True
        for each in lines[1:]:
            name, _, value = each.partition(b":")
            self.headers[name.strip().lower()] = value.strip()
        self.status = status
        self._measure()
        return True

    def _measure(self) -> None:
        """How long the body is, or how its end is known."""
        self._chunked = self.headers.get(b"transfer-encoding", b"").lower() == b"chunked"
        length = self.headers.get(b"content-length", b"")
        if self.status in (204, 304):
            self._length, self._chunked = 0, False
        elif length and not self._chunked:
            if not _LENGTH.fullmatch(length):
                raise MalformedError(f"bad Content-Length {_quoted(length)}")
            self._length = int(length)

    def _chunks(self) -> None:
        at = 0
        while not self.whole:
            newline = self._rest.find(b"\n", at)
            if newline < 0 or newline - at > _MAX_CHUNK_LINE:
                if len(self._rest) - at > _MAX_CHUNK_LINE:
                    raise MalformedError("header line too long")
                break
            line = _CHUNK_LINE.fullmatch(bytes(self._rest[at:newline]).rstrip())
            if line is None:
                raise MalformedError("invalid byte in chunk length")
            size = int(line[1], 16)
            begin, end = newline + 1, newline + 1 + size
            data = self._rest[begin:end]
            if size == 0 or len(self.body) + len(data) >= MAX_BODY:
                self.body += data
                self.whole = True
            elif len(self._rest) < end + 2:
                break
            elif self._rest[end : end + 2] != b"\r\n":
                raise MalformedError("malformed chunked encoding")
            else:
                self.body += data
                self._excess = max(0, self._excess + newline - at + 2 - 16 - 2 * size)
                if self._excess > _MAX_CHUNK_EXCESS:
                    raise MalformedError("chunked encoding contains too much non-data")
                at = end + 2
        del self._rest[:at]


def _quoted(line: bytes | bytearray) -> str:
    return go_quote(bytes(line).rstrip(b"\r").decode("latin-1")[:100])
