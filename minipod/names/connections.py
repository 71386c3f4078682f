"""Questions over TCP (layer 2): two bytes of length and a message, both ways, one after the other (RFC 7766)."""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Callable

from minipod.names.budget import Shares
from minipod.names.loop import Loop, Timer

MOST, MOST_EACH = 128, 8  # connections: in all, of one address
IDLE_S = 10.0
QUESTION_BYTES = 4096  # a question for a name is far shorter
UNSENT_BYTES = 1 << 18  # of answers that the client does not read

Handle = Callable[[bytes, str, str, Callable[[bytes], None]], None]  # message, source, who asks, where to answer


class Listener:
    """Accepts what `is_served` allows and what is within its share."""

    def __init__(self, loop: Loop, listening: socket.socket, is_served: Callable[[str], bool], handle: Handle) -> None:
        self._loop = loop
        self._listening = listening
        self._is_served = is_served
        self._handle = handle
        self._shares = Shares(MOST, MOST_EACH)
        loop.watch(listening.fileno(), select.EPOLLIN, self._accept)

    def _accept(self, _: int) -> None:
        try:
            accepted, place = self._listening.accept()
        except OSError:  # the client has gone, or there is no descriptor left
            return
        accepted.setblocking(False)
        source = str(place[0])
        if not self._is_served(source) or not self._shares.take(source):
            accepted.close()
            return
        _Connection(self._loop, accepted, source, self._handle, lambda: self._shares.give_back(source))


class _Connection:
    def __init__(
        self, loop: Loop, accepted: socket.socket, source: str, handle: Handle, on_close: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._socket = accepted
        self._fd = accepted.fileno()
        self._source = source
        self._key = f"{source} tcp {self._fd}"
        self._handle = handle
        self._on_close = on_close
        self._received = b""
        self._unsent = b""
        self._is_open = True
        self._timer: Timer = loop.later(IDLE_S, self._close)
        loop.watch(self._fd, select.EPOLLIN, self._ready)

    def _ready(self, events: int) -> None:
        try:
            if events & select.EPOLLOUT:
                self._flush()
            if events & ~select.EPOLLOUT:
                self._read()
        except BlockingIOError:
            return
        except OSError:
            self._close()

    def _read(self) -> None:
        data = self._socket.recv(QUESTION_BYTES)
        if not data:
            self._close()
            return
        self._received += data
        while len(self._received) >= 2:
            length = struct.unpack_from("!H", self._received)[0]
            if length > QUESTION_BYTES:
                self._close()
                return
            if len(self._received) - 2 < length:
                return
            message, self._received = self._received[2 : 2 + length], self._received[2 + length :]
            self._timer.cancel()
            self._timer = self._loop.later(IDLE_S, self._close)
            self._handle(message, self._source, self._key, self._send)

    def _send(self, answer: bytes) -> None:
        """Nothing where the client has gone."""
        if not self._is_open:
            return
        self._unsent += struct.pack("!H", len(answer)) + answer
        try:
            self._flush()
        except BlockingIOError:
            pass
        except OSError:
            self._close()
        if len(self._unsent) > UNSENT_BYTES:
            self._close()

    def _flush(self) -> None:
        try:
            while self._unsent:
                self._unsent = self._unsent[self._socket.send(self._unsent) :]
        finally:
            self._loop.change(self._fd, select.EPOLLIN | (select.EPOLLOUT if self._unsent else 0))

    def _close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._timer.cancel()
            self._loop.forget(self._fd)
            self._socket.close()
            self._on_close()
