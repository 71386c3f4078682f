"""Header compression of HTTP/2 (layer 5, pure): RFC 7541. Writes plainly, reads everything.

Small enough to be held here: the one call that is made with it needs no library of HTTP/2.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

_TABLE_SIZE = 4096
_MAX_HEADERS = 1000

# Appendix A: name=value, where there is a value.
_STATIC = (
    ":authority :method=GET :method=POST :path=/ :path=/index.html :scheme=http :scheme=https :status=200 "
    ":status=204 :status=206 :status=304 :status=400 :status=404 :status=500 accept-charset "
    "accept-encoding=gzip,deflate accept-language accept-ranges accept access-control-allow-origin age allow "
    "authorization cache-control content-disposition content-encoding content-language content-length "
    "content-location content-range content-type cookie date etag expect expires from host if-match "
    "if-modified-since if-none-match if-range if-unmodified-since last-modified link location max-forwards "
    "proxy-authenticate proxy-authorization range referer refresh retry-after server set-cookie "
    "strict-transport-security transfer-encoding user-agent vary via www-authenticate"
)
# Appendix B: the length of each byte's code and of the end mark, one digit (0-9, a-z) each. The code is canonical.
_LENGTHS = (
    "dnsssssssoussussssssssusssssssss6aacd68baa8b8666555666666678f6cad677777777777777777777"
    "77878djde6f56565666577666567655677777fbedskmkkmmmnmnnnnnonoomnonnnnlmnmnnomlkmmnnlnmmo"
    "lmnnllmlnmnnkmmmnmmnqqkjmnmpqqqrrqopjlqrrqrollqqsrrrkoklmllnmmppooqnqrqqrrrrrsrrrrrqu"
)


class HpackError(Exception):
    """A header block that breaks the rules."""


def _static_table() -> tuple[tuple[bytes, bytes], ...]:
    pairs = (entry.partition("=") for entry in _STATIC.split())
    return tuple((name.encode(), value.replace(",", ", ").encode()) for name, _, value in pairs)


def _huffman_table() -> dict[tuple[int, int], int]:
    """(length, code) -> byte; 256 is the end mark."""
    lengths = [int(digit, 36) for digit in _LENGTHS]
    table = {}
    code = last = 0
    for symbol in sorted(range(len(lengths)), key=lambda symbol: (lengths[symbol], symbol)):
        code <<= lengths[symbol] - last
        last = lengths[symbol]
        table[last, code] = symbol
        code += 1
    return table


_TABLE = _static_table()
_HUFFMAN = _huffman_table()


def encode(headers: Iterable[tuple[str, str]]) -> bytes:
    """Literals that ask nothing of the other side's memory (section 6.2.2)."""
    return b"".join(b"\x00" + _string(name) + _string(value) for name, value in headers)


def _string(text: str) -> bytes:
    data = text.encode()
    length, prefix = len(data), b""
    if length < 127:
        return bytes((length,)) + data
    length, prefix = length - 127, b"\x7f"
    while length >= 128:
        length, prefix = length >> 7, prefix + bytes((length & 127 | 128,))
    return prefix + bytes((length,)) + data


class Decoder:
    """One connection's: header blocks refer to those before them."""

    def __init__(self) -> None:
        self._dynamic: deque[tuple[bytes, bytes]] = deque()  # newest first
        self._size = 0
        self._limit = _TABLE_SIZE

    def decode(self, block: bytes) -> dict[bytes, bytes]:
        """Of equal names the last one counts. Raises HpackError."""
        headers: dict[bytes, bytes] = {}
        at = 0
        try:
            while at < len(block):
                at = self._field(block, at, headers)
                if len(headers) > _MAX_HEADERS:
                    raise HpackError("too many headers")
        except IndexError:
            raise HpackError("a header block that is cut off") from None
        return headers

    def _field(self, block: bytes, at: int, headers: dict[bytes, bytes]) -> int:
        first = block[at]
        if first & 0x80:
            index, at = _integer(block, at, 7)
            name, value = self._entry(index)
        elif first & 0xE0 == 0x20:
            self._limit, at = _integer(block, at, 5)
            if self._limit > _TABLE_SIZE:
                raise HpackError("a table larger than was offered")
            self._shrink()
            return at
        else:
            remembered = bool(first & 0x40)
            index, at = _integer(block, at, 6 if remembered else 4)
            name, at = (self._entry(index)[0], at) if index else _text(block, at)
            value, at = _text(block, at)
            if remembered:
                self._dynamic.appendleft((name, value))
                self._size += len(name) + len(value) + 32
                self._shrink()
        headers[name] = value
        return at

    def _entry(self, index: int) -> tuple[bytes, bytes]:
        if not 0 < index <= len(_TABLE) + len(self._dynamic):
            raise HpackError(f"there is no entry {index}")
        return _TABLE[index - 1] if index <= len(_TABLE) else self._dynamic[index - len(_TABLE) - 1]

    def _shrink(self) -> None:
        while self._size > self._limit:
            name, value = self._dynamic.pop()
            self._size -= len(name) + len(value) + 32


def _integer(block: bytes, at: int, bits: int) -> tuple[int, int]:
    """Section 5.1: a number and where it ends."""
    mask = (1 << bits) - 1
    number, at = block[at] & mask, at + 1
    if number < mask:
        return number, at
    for shift in range(0, 28, 7):
        part, at = block[at], at + 1
        number += (part & 127) << shift
        if part < 128:
            return number, at
    raise HpackError("a number without end")


def _text(block: bytes, at: int) -> tuple[bytes, int]:
    """Section 5.2: a string and where it ends."""
    coded = bool(block[at] & 0x80)
    length, at = _integer(block, at, 7)
    if at + length > len(block):
        raise HpackError("a string that is cut off")
    data = block[at : at + length]
    return (_decoded(data) if coded else data), at + length


def _decoded(data: bytes) -> bytes:
    result = bytearray()
    code = length = 0
    for byte in data:
        for shift in range(7, -1, -1):
            code, length = code << 1 | byte >> shift & 1, length + 1
            symbol = _HUFFMAN.get((length, code))
            if symbol is not None:
                if symbol == 256:
                    raise HpackError("the end mark inside a string")
                result.append(symbol)
                code = length = 0
            elif length > 30:
                raise HpackError("no such code")
    if length > 7 or code != (1 << length) - 1:
        raise HpackError("padding that is none")
    return bytes(result)
