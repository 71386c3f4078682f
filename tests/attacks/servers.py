"""Servers in a pod that do all they can to who probes them."""

from __future__ import annotations

import gzip
import socket
import threading
from collections.abc import Callable, Iterator

MIB = 1 << 20


class Server:
    """Answers every request with what `answer` gives, as long as that is taken: on the loopback, or with a port on
    all addresses of its thread's network namespace."""

    def __init__(self, answer: Callable[[bytes], Iterator[bytes]], port: int = 0) -> None:
        self.requests: list[bytes] = []
        self.closed = threading.Event()
        self._answer = answer
        self._talks: list[threading.Thread] = []
        self._socket = socket.create_server(("" if port else "127.0.0.1", port), backlog=64)
        self.port: int = self._socket.getsockname()[1]
        self._accepting = threading.Thread(target=self._serve)
        self._accepting.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self._talks.append(threading.Thread(target=self._talk, args=(connection,)))
            self._talks[-1].start()

    def _talk(self, connection: socket.socket) -> None:
        with connection:
            try:
                request = connection.recv(65536)
                self.requests.append(request)
                for text in self._answer(request):
                    connection.sendall(text)
                    if text in (b"", DRIP):
                        self.closed.wait(0.05)
                    if self.closed.is_set():
                        return
            except OSError:
                return

    def close(self) -> None:
        self.closed.set()
        self._socket.shutdown(socket.SHUT_RDWR)
        for thread in (self._accepting, *self._talks):
            thread.join()
        self._socket.close()


HEAD = b"HTTP/1.1 200 OK\r\n"
DRIP = b"x"


def endless(first: bytes, again: bytes) -> Callable[[bytes], Iterator[bytes]]:
    def answer(_: bytes) -> Iterator[bytes]:
        yield first
        while True:
            yield again

    return answer


def once(text: bytes) -> Callable[[bytes], Iterator[bytes]]:
    return lambda _: iter((text,))


def redirected(location: bytes) -> bytes:
    return b"HTTP/1.1 302 Found\r\nLocation: " + location + b"\r\nContent-Length: 0\r\n\r\n"


BOMB = gzip.compress(bytes(8 * MIB))
SERVERS: dict[str, tuple[Callable[[bytes], Iterator[bytes]], str]] = {
    "headers": (endless(HEAD, b"X: 0123456789\r\n" * 4000), "net/http: server response headers exceeded"),
    "interim": (endless(b"", b"HTTP/1.1 103 Hint\r\n\r\n" * 3000), "net/http: too many 1xx informational responses"),
    "trickle": (endless(HEAD + b"X: ", DRIP), "context deadline exceeded"),
    "silence": (endless(b"", b""), "context deadline exceeded"),
    "garbage": (once(b"\0\xff\r\n\r\n" * 100), "malformed HTTP response"),
    "chain": (once(redirected(b"/again")), "stopped after 10 redirects"),
    "file": (once(redirected(b"file://127.0.0.1/etc/passwd")), "unsupported protocol scheme"),
    "crlf": (once(redirected(b"/x\rX-Evil: 1")), "failed to parse Location header"),
}
#: those that are answers, however much is behind them
WELL: dict[str, Callable[[bytes], Iterator[bytes]]] = {
    "body": endless(HEAD + b"\r\n", b"x" * 65536),
    "chunks": endless(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 10000),
    "gzip": once(HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB) + BOMB),
    "elsewhere": once(redirected(b"http://169.254.169.254/latest/meta-data")),
}


def frames(kind: int, stream: int, payload: bytes) -> bytes:
    """64 KiB of one frame of HTTP/2, again and again."""
    frame = len(payload).to_bytes(3, "big") + bytes((kind, 0)) + stream.to_bytes(4, "big") + payload
    return frame * (65536 // len(frame))


GRPC_FLOODS = {
    "garbage": b"\xff" * 65536,
    "settings": frames(4, 0, b""),
    "ping": frames(6, 0, b"12345678"),
    "continuation": frames(9, 1, b"x" * 100),
    "data": frames(0, 1, b"x" * 16000),
}
