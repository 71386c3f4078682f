"""Reads an answer of HTTP/1 as it comes (layer 5, pure): status, headers, the first 10 KiB of the body."""

from __future__ import annotations

import re

MAX_BODY = 10 << 10  # pkg/probe/http maxRespBodyLength
MAX_HEAD = 1 << 20
_END_OF_HEAD = re.compile(rb"\r?\n\r?\n")
_STATUS_LINE = re.compile(rb"HTTP/\d\.\d (\d{3})(?: |$)")


class MalformedError(Exception):
    """This is no answer of HTTP."""


class HttpAnswer:
    """`status` is 0 until the head is there. Feed it until `whole`."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.body = b""
        self.whole = False
        self._rest = b""
        self._length: int | None = None
        self._chunked = False

    def feed(self, data: bytes) -> None:
        """Raises MalformedError."""
        self._rest += data
        if not self.status and not self._head():
            return
        if self._chunked:
            self._chunks()
        else:
            self.body, self._rest = self.body + self._rest, b""
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
        """Whether the head of the final answer is there."""
        end = _END_OF_HEAD.search(self._rest)
        if end is None:
            if len(self._rest) > MAX_HEAD:
                raise MalformedError(f"response headers exceeded {MAX_HEAD} bytes")
            if not self._rest.startswith(b"HTTP/"[: len(self._rest)]):
                raise MalformedError("malformed HTTP response " + _quoted(self._rest.split(b"\n")[0]))
            return False
        lines = self._rest[: end.start()].split(b"\n")
        self._rest = self._rest[end.end() :]
        found = _STATUS_LINE.match(lines[0].rstrip(b"\r"))
        if found is None:
            raise MalformedError("malformed HTTP response " + _quoted(lines[0]))
        status = int(found[1])
        if 100 <= status < 200 and status != 101:
            return self._head()  # 103 Early Hints and the like come before the answer
        for line in lines[1:]:
            name, _, value = line.partition(b":")
            self.headers[name.strip().lower()] = value.strip()
        self.status = status
        self._chunked = self.headers.get(b"transfer-encoding", b"").lower() == b"chunked"
        length = self.headers.get(b"content-length", b"")
        if status in (204, 304):
            self._length, self._chunked = 0, False
        elif length and not self._chunked:
            if not length.isdigit():
                raise MalformedError(f"bad Content-Length {_quoted(length)}")
            self._length = int(length)
        return True

    def _chunks(self) -> None:
        while True:
            line, newline, after = self._rest.partition(b"\n")
            if not newline:
                if len(self._rest) > MAX_BODY:
                    raise MalformedError("malformed chunked encoding")
                return
            if not line.strip():  # what ends the chunk before
                self._rest = after
                continue
            try:
                size = int(line.split(b";")[0].strip(), 16)
            except ValueError:
                raise MalformedError("malformed chunked encoding") from None
            if size == 0:
                self.whole = True
                return
            if len(after) < size and len(self.body) + len(after) < MAX_BODY:
                return
            self.body += after[:size]
            self._rest = after[size:]
            if len(self.body) >= MAX_BODY:
                return


def _quoted(line: bytes) -> str:
    return '"' + line.rstrip(b"\r").decode("latin-1")[:100].replace('"', '\\"') + '"'
