"""Questions on their way to the host's resolvers (layer 2): over UDP, or TCP where the question came over TCP.

Each attempt has a socket of its own, connected, so with a random port and answers of that resolver only, and a random
number. An answer that does not match is not looked at further. A resolver that says nothing in time, or that it cannot
answer, is followed by the next; after the last attempt the answer is SERVFAIL.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import struct
from collections.abc import Callable

from minipod.names import wire
from minipod.names.budget import Shares
from minipod.names.loop import Loop, Timer

PORT = 53
ATTEMPT_S = (1.5, 1.5, 2.0)  # together as long as a client waits before it asks again (resolv.conf(5): 5 s)
MOST, MOST_EACH = 512, 64  # questions under way: in all, of one address
ANSWER_BYTES = 0xFFFF
_SERVFAIL, _REFUSED = 2, 5

Server = tuple[int, tuple[object, ...]]  # address family and socket address


def servers_of(addresses: tuple[str, ...], port: int = PORT) -> tuple[Server, ...]:
    """Those of the addresses that are some, `fe80::1%eth0` too."""
    found: list[Server] = []
    for address in addresses:
        with contextlib.suppress(OSError):
            family, _, _, _, place = socket.getaddrinfo(
                address.encode(), port, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST
            )[0]
            found.append((family, place))
    return tuple(found)


class Forwarder:
    """All questions under way. `servers` may be replaced at any time."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.servers: tuple[Server, ...] = ()
        self.preferred = 0  # the server that answered last
        self._shares = Shares(MOST, MOST_EACH)
        self._under_way: set[tuple[str, bytes]] = set()

    @property
    def is_idle(self) -> bool:
        return not self._shares.count

    def ask(
        self, question: wire.Question, source: str, key: str, over_tcp: bool, reply: Callable[[bytes], None]
    ) -> None:
        """`key`: where the client is: what it repeats while its question is under way is dropped, as is what exceeds
        its share.
        """
        identity = (key, question.data)
        if identity in self._under_way:
            return
        if not self.servers:
            reply(wire.failure(question))
            return
        if not self._shares.take(source):
            return
        self._under_way.add(identity)

        def done(data: bytes) -> None:
            self._under_way.discard(identity)
            self._shares.give_back(source)
            reply(data)

        _Exchange(self, question, over_tcp, done).begin()


class _Exchange:
    """One question, attempt after attempt."""

    def __init__(
        self, forwarder: Forwarder, question: wire.Question, over_tcp: bool, done: Callable[[bytes], None]
    ) -> None:
        self._forwarder = forwarder
        self._loop = forwarder.loop
        self._question = question
        self._over_tcp = over_tcp
        self._done = done
        self._servers = forwarder.servers
        self._first = forwarder.preferred % len(self._servers)
        self._attempt = -1
        self._socket: socket.socket | None = None
        self._timer: Timer | None = None
        self._sent = b""  # of TCP: what is still to be sent
        self._received = b""

    def begin(self) -> None:
        """The next attempt; the failure after the last."""
        self._stop()
        self._attempt += 1
        if self._attempt >= len(ATTEMPT_S):
            self._done(wire.failure(self._question))
            return
        family, place = self._servers[self._index]
        self._number = os.urandom(2)
        kind = socket.SOCK_STREAM if self._over_tcp else socket.SOCK_DGRAM
        try:
            self._socket = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            with contextlib.suppress(BlockingIOError):
                self._socket.connect(place)
            message = self._number + self._question.data[2:]
            if self._over_tcp:
                self._sent = struct.pack("!H", len(message)) + message
            else:
                self._socket.send(message)
        except OSError:  # no route to it, no socket
            self._timer = self._loop.later(0 if self._attempt + 1 < len(self._servers) else ATTEMPT_S[0], self.begin)
            return
        events = select.EPOLLIN | select.EPOLLOUT if self._over_tcp else select.EPOLLIN
        self._loop.watch(self._socket.fileno(), events, self._ready)
        self._timer = self._loop.later(ATTEMPT_S[self._attempt], self.begin)

    @property
    def _index(self) -> int:
        return (self._first + self._attempt) % len(self._servers)

    def _ready(self, events: int) -> None:
        try:
            data = self._exchanged(events) if self._over_tcp else self._receive(ANSWER_BYTES)
        except OSError as error:
            if error.errno != errno.EAGAIN:
                self._failed()
            return
        if data is None or data[:2] != self._number:
            return
        passed = wire.passed_on(self._question, data, self._question.most_bytes(self._over_tcp))
        if passed is None:
            return
        if wire.rcode_of(passed) in (_SERVFAIL, _REFUSED) and self._attempt + 1 < len(self._servers):
            self.begin()
            return
        self._forwarder.preferred = self._index
        self._stop()
        self._done(passed)

    def _failed(self) -> None:
        """Nothing listens there: the next resolver at once, but never the same one in a loop."""
        if self._attempt + 1 < len(self._servers):
            self.begin()
        else:
            self._close()

    def _receive(self, most: int) -> bytes:
        assert self._socket is not None
        return self._socket.recv(most)

    def _exchanged(self, events: int) -> bytes | None:
        """The whole answer over TCP, None until it is there. Raises OSError, also where the connection has ended."""
        assert self._socket is not None
        if self._sent and events & select.EPOLLOUT:
            self._sent = self._sent[self._socket.send(self._sent) :]
            if not self._sent:
                self._loop.change(self._socket.fileno(), select.EPOLLIN)
        if not events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
            return None
        data = self._receive(ANSWER_BYTES)
        if not data:
            raise ConnectionResetError(errno.ECONNRESET, "ended before its answer")
        self._received += data
        if len(self._received) < 2 or len(self._received) - 2 < (length := struct.unpack_from("!H", self._received)[0]):
            return None
        return self._received[2 : 2 + length]

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._close()
        self._received = b""

    def _close(self) -> None:
        if self._socket is not None:
            self._loop.forget(self._socket.fileno())
            self._socket.close()
            self._socket = None
