"""A gRPC health server for tests, by itself: `python3 -I health_server.py PORT FILE` serves while FILE is there.

HTTP/2 for one unary call without TLS, and nothing of minipod in it: what its client says is only looked at for frames.
"""

from __future__ import annotations

import contextlib
import os
import socketserver
import struct
import sys

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS, PING = 0, 1, 4, 6
END_STREAM, ACK, END_HEADERS = 0x1, 0x1, 0x4
SERVING, NOT_SERVING = 1, 2


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def literal(name: bytes, value: bytes) -> bytes:
    """A header field without indexing and without Huffman's code (RFC 7541, 6.2.2)."""
    return bytes([0, len(name)]) + name + bytes([len(value)]) + value


def answer(stream: int, status: int) -> bytes:
    message = bytes([0x08, status])
    return (
        frame(HEADERS, END_HEADERS, stream, b"\x88" + literal(b"content-type", b"application/grpc"))
        + frame(DATA, 0, stream, struct.pack(">BI", 0, len(message)) + message)
        + frame(HEADERS, END_HEADERS | END_STREAM, stream, literal(b"grpc-status", b"0"))
    )


class Talk(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # its client needs no more than the answer
            self.talk()

    def talk(self) -> None:
        if self.rfile.read(len(PREFACE)) != PREFACE:
            return
        self.wfile.write(frame(SETTINGS, 0, 0))
        while len(head := self.rfile.read(9)) == 9:
            kind, flags, stream = struct.unpack(">BBI", head[3:])
            payload = self.rfile.read(int.from_bytes(head[:3], "big"))
            if kind in (SETTINGS, PING) and not flags & ACK:
                self.wfile.write(frame(kind, ACK, 0, payload if kind == PING else b""))
            elif kind in (HEADERS, DATA) and flags & END_STREAM:
                self.wfile.write(answer(stream, SERVING if os.path.exists(FILE) else NOT_SERVING))


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
    request_queue_size = 128


if __name__ == "__main__":
    PORT, FILE = int(sys.argv[1]), sys.argv[2]
    Server(("", PORT), Talk).serve_forever()
