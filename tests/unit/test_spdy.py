"""SPDY/3.1 as kubectl's port-forward speaks it: frames in, frames out."""

from __future__ import annotations

import struct
import zlib

import pytest

from minipod.streams.spdy import DICTIONARY, Data, Opened, Reset, Spdy, SpdyError


class Client:
    """The other side's compressor and frames."""

    def __init__(self) -> None:
        self._deflate = zlib.compressobj(zdict=DICTIONARY)
        self.inflate = zlib.decompressobj(zdict=DICTIONARY)

    def syn(self, stream: int, headers: dict[str, str], flags: int = 0) -> bytes:
        text = struct.pack(">I", len(headers))
        for pair in headers.items():
            for word in pair:
                text += struct.pack(">I", len(word)) + word.encode()
        block = self._deflate.compress(text) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        return control(1, struct.pack(">IIH", stream, 0, 0) + block, flags)


def control(kind: int, payload: bytes, flags: int = 0) -> bytes:
    return struct.pack(">II", 0x80030000 | kind, flags << 24 | len(payload)) + payload


def data(stream: int, payload: bytes, flags: int = 0) -> bytes:
    return struct.pack(">II", stream, flags << 24 | len(payload)) + payload


def test_the_dictionary_is_the_drafts() -> None:
    assert zlib.adler32(DICTIONARY) == 0xE3C6A7C2


def test_streams_are_opened_answered_and_carry_data_in_any_pieces() -> None:
    client, server = Client(), Spdy()
    sent = client.syn(1, {"streamType": "error", "port": "80"}) + client.syn(3, {"streamType": "data"})
    sent += data(3, b"abc") + data(3, b"", flags=1)
    events = [event for byte in sent for event in server.receive(bytes([byte]))]
    assert events == [
        Opened(1, {"streamtype": "error", "port": "80"}),
        Opened(3, {"streamtype": "data"}),
        Data(3, b"abc", False),
        Data(3, b"", True),
    ]
    server.accept(1)
    server.send(3, b"xyz", is_end=True)
    reply, rest = bytes(server.out[:8]), bytes(server.out)
    size = struct.unpack(">I", reply[4:])[0]
    assert struct.unpack(">I", reply[:4])[0] == 0x80030002
    assert client.inflate.decompress(rest[12 : 8 + size]) == struct.pack(">I", 0)
    assert rest[8 + size :] == data(3, b"xyz", flags=1)


def test_pings_are_answered_and_resets_end_a_stream() -> None:
    client, server = Client(), Spdy()
    ping = control(6, struct.pack(">I", 1))
    assert [*server.receive(client.syn(1, {}) + ping + control(3, struct.pack(">II", 1, 5)) + data(1, b"late"))] == [
        Opened(1, {}),
        Reset(1),
    ]
    assert bytes(server.out) == ping


@pytest.mark.parametrize(
    "sent",
    [
        struct.pack(">II", 0x80020001, 0),  # SPDY/2
        struct.pack(">II", 1, 2 << 20),  # too long
        control(1, b"short"),
        control(1, struct.pack(">IIH", 1, 0, 0) + b"not compressed"),
        Client().syn(2, {}),  # an even number is the server's
    ],
)
def test_violations_end_the_connection(sent: bytes) -> None:
    with pytest.raises(SpdyError):
        list(Spdy().receive(sent))


def test_headers_cannot_be_a_bomb() -> None:
    with pytest.raises(SpdyError, match="too long"):
        list(Spdy().receive(Client().syn(1, {"a": "x" * (1 << 20)})))
