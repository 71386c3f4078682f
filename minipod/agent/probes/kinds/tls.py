"""TLS for `connection` (layer 5), imported with the first probe that wants it: it loads OpenSSL, 4 MB."""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Callable
from typing import Any, TypeVar

from minipod.agent.probes.kinds.connection import TlsError

T = TypeVar("T")


class TlsSocket(ssl.SSLSocket):
    """A non-blocking socket with TLS."""

    def send(self, data: Any, flags: int = 0) -> int:
        return _translated(lambda: super(TlsSocket, self).send(data, flags))

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        return _translated(lambda: super(TlsSocket, self).recv(buflen, flags))


def _translated(act: Callable[[], T]) -> T:
    try:
        return act()
    except ssl.SSLWantReadError:
        raise BlockingIOError(errno.EAGAIN, "read") from None
    except ssl.SSLWantWriteError:
        raise BlockingIOError(errno.EAGAIN, "write") from None
    except ssl.SSLError as error:
        translated = TlsError(error.errno, error.strerror)
        translated.reason = error.reason
        raise translated from None


class UnverifiedTls:
    """As the kubelet's probes and hooks: any certificate will do."""

    def __init__(self) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE
        self._context.sslsocket_class = TlsSocket

    def wrap(self, connected: socket.socket, host: str) -> socket.socket:
        return self._context.wrap_socket(connected, do_handshake_on_connect=False, server_hostname=host or None)

    def waits_for(self, wrapped: socket.socket) -> str:
        assert isinstance(wrapped, TlsSocket)
        try:
            _translated(wrapped.do_handshake)
        except BlockingIOError as error:
            return str(error.strerror)
        return ""
