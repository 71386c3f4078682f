"""One TCP connection as callbacks, with TLS if wanted (layer 5). Knows no protocol and no time limit.

asyncio's transports would do the same at three times the price.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from typing import NamedTuple, Protocol

_CHUNK = 65536
_IN_PROGRESS = (0, errno.EINPROGRESS)


class Answer(NamedTuple):
    """What came of a probe. `result`: success | warning | failure | error (it could not be made)."""

    result: str
    message: str = ""


Done = Callable[[Answer], None]


class Attempt(Protocol):
    """A probe under way. Its `done` is called once, unless it is given up first."""

    def time_is_up(self) -> None:
        """Ends it with the answer that a time-out is."""

    def give_up(self) -> None:
        """Ends it without an answer."""


class User(Protocol):
    """The protocol on a connection. Nothing is called after `failed` or `ended`."""

    def connected(self) -> bytes:
        """Returns the data to send first."""

    def received(self, data: bytes) -> bytes:
        """Returns the data to send in answer."""

    def ended(self) -> None:
        """The peer has closed its side."""

    def failed(self, stage: str, error: OSError) -> None:
        """`stage`: dial | handshake | read | write"""


class Tls(Protocol):
    """TLS for connections (`tls`). A socket of its own raises BlockingIOError where it would wait, and TlsError."""

    def wrap(self, connected: socket.socket, host: str) -> socket.socket:
        """`host`: the name to send to the server (SNI), `""` for none."""

    def waits_for(self, wrapped: socket.socket) -> str:
        """Continues the handshake: returns `read` or `write` when it waits for that, `""` when it is done.

        Raises OSError.
        """


class TlsError(OSError):
    """A violation of TLS. `reason`: OpenSSL's name for it, as WRONG_VERSION_NUMBER."""

    reason = ""


class Connection:
    """Opens at `start`; `close` may be called at any time, also twice, also by the user in one of its callbacks."""

    __slots__ = ("_address", "_fd", "_host", "_loop", "_out", "_reads", "_socket", "_tls", "_user", "_writes")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        address: str,
        port: int,
        user: User,
        tls: Tls | None = None,
        host: str = "",
    ) -> None:
        """`address`: a numeric one. `host`: the name that TLS sends to the server, if it is a name."""
        self._loop = loop
        self._address = (address, port)
        self._user = user
        self._tls = tls
        self._host = host
        self._socket: socket.socket | None = None
        self._fd = -1
        self._out = b""
        self._reads = self._writes = False  # what the loop watches; cheaper than asking the loop

    def start(self) -> None:
        family = socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET
        try:
            self._socket = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            self._fd = self._socket.fileno()
            number = self._socket.connect_ex(self._address)
        except OSError as error:
            self._fail("dial", error)
            return
        if number not in _IN_PROGRESS:
            self._fail("dial", OSError(number, os.strerror(number)))
            return
        if self._is_open():
            self._connected()
        else:
            self._when_writable(self._connected)

    def _is_open(self) -> bool:
        """A pod of this host answers while connect(2) sends: then the loop need not be asked to watch."""
        assert self._socket is not None
        try:
            self._socket.getpeername()
        except OSError:
            return False
        return True

    def close(self) -> None:
        if self._socket is not None:
            self._not_writable()
            if self._reads:
                self._reads = False
                self._loop.remove_reader(self._fd)
            self._socket.close()
            self._socket = None

    def _when_writable(self, callback: Callable[[], None]) -> None:
        self._writes = True
        self._loop.add_writer(self._fd, callback)

    def _not_writable(self) -> None:
        if self._writes:
            self._writes = False
            self._loop.remove_writer(self._fd)

    def _when_readable(self, callback: Callable[[], None]) -> None:
        self._reads = True
        self._loop.add_reader(self._fd, callback)

    def _fail(self, stage: str, error: OSError) -> None:
        self.close()
        self._user.failed(stage, error)

    def _connected(self) -> None:
        assert self._socket is not None
        number = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            self._fail("dial", OSError(number, os.strerror(number)))
        elif self._tls is None:
            self._begin()
        else:
            self._not_writable()
            self._not_writable()
            self._socket = self._tls.wrap(self._socket, self._host)
            self._handshake()

    def _handshake(self) -> None:
        assert self._tls is not None
        assert self._socket is not None
        self._not_writable()
        try:
            waits_for = self._tls.waits_for(self._socket)
        except OSError as error:
            self._fail("handshake", error)
            return
        if waits_for == "read":
            self._when_readable(self._handshake)
        elif waits_for == "write":
            self._when_writable(self._handshake)
        else:
            self._begin()

    def _begin(self) -> None:
        self._send(self._user.connected())
        if self._socket is not None:
            self._when_readable(self._readable)

    def _send(self, data: bytes) -> None:
        self._out += data
        if self._socket is not None:
            self._write()

    def _write(self) -> None:
        assert self._socket is not None
        try:
            sent = self._socket.send(self._out) if self._out else 0
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._fail("write", error)
            return
        self._out = self._out[sent:]
        if self._out:
            self._when_writable(self._write)
        else:
            self._not_writable()

    def _readable(self) -> None:
        while self._socket is not None:
            try:
                data = self._socket.recv(_CHUNK)
            except BlockingIOError:
                return
            except OSError as error:
                self._fail("read", error)
                return
            if not data:
                self.close()
                self._user.ended()
                return
            self._send(self._user.received(data))
            if self._tls is None:
                return  # what else there is makes the socket readable again; TLS may have read it already


def words(error: OSError) -> str:
    """An error as users of Kubernetes know it: connection refused."""
    return (error.strerror or str(error)).lower()


def join_host_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
