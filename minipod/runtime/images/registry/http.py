"""HTTP for registries (layer 3): connections, TLS, proxies, redirects, time-outs, attempts. Knows no registry protocol.

On http.client alone: decisions/060 has the numbers. All calls block; many threads may use one `Http`.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import SplitResult, urljoin, urlsplit

from minipod import __version__
from minipod.errors import ImageError
from minipod.runtime.images.errors import Stopped
from minipod.runtime.images.registry.hosts import FILE, PORTS, Endpoint, Registries, RegistryOptions, proxy_for

T = TypeVar("T")

MAX_REDIRECTS = 10
REDIRECTS = (301, 302, 303, 307, 308)
RETRIED = (408, 429, 500, 502, 503, 504)
FIRST_WAIT_S = 0.25
MAX_BODY_BYTES = 4 << 20
IDLE_CONNECTIONS = 8


class RegistryError(ImageError):
    """What a registry, or the way to it, answered. `status` 0: there was no answer. `retry`: it may pass."""

    def __init__(self, message: str, *, status: int = 0, retry: bool = False, wait_s: float = 0.0) -> None:
        super().__init__(message)
        self.status = status
        self.retry = retry
        self.wait_s = wait_s


class Response:
    """An answer whose body has not been read. Read to its end it leaves the connection for the next."""

    def __init__(self, raw: http.client.HTTPResponse, url: str, give_back: Callable[[], None], watch: _Watch) -> None:
        self.status = raw.status
        self.headers = raw.headers
        self.url = url
        self._raw = raw
        self._give_back = give_back
        self._watch = watch
        self._place = place_of(url)
        self._left = raw.length  # None: chunked, or until the connection ends
        self._ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._ended:
            self._raw.close()
            self._give_back()
        else:
            self._watch.close()
            self._raw.close()

    def read1(self, size: int) -> bytes:
        """What comes next, b"" at the end. Raises RegistryError, which may pass, also for a body that ends too early.

        Counts by itself: http.client's read1 does not notice the end before Python 3.11.8, its readinto waits until
        the buffer is full, however slowly.
        """
        if self._ended or self._left == 0:
            self._ended = True
            return b""
        try:
            data = self._raw.read1(size if self._left is None else min(size, self._left))
        except (OSError, http.client.HTTPException) as error:
            raise RegistryError(f"{self._place}: {words_of(error)}", retry=True) from error
        if not data:
            if self._left:
                raise RegistryError(f"{self._place}: the connection ended too early", retry=True)
            self._ended = True
        elif self._left is not None:
            self._left -= len(data)
        self._watch.count(len(data))
        return data

    def read(self, max_bytes: int = MAX_BODY_BYTES) -> bytes:
        """The whole body. Raises RegistryError; one that is too long is refused."""
        parts, left = [], max_bytes
        while data := self.read1(1 << 16):
            left -= len(data)
            if left < 0:
                raise RegistryError(f"{self._place}: the answer is longer than {max_bytes} bytes")
            parts.append(data)
        return b"".join(parts)


class _Watch:
    """Ends a connection that drips: so few bytes over the time of a stall."""

    def __init__(self, connection: http.client.HTTPConnection, registries: Registries, place: str) -> None:
        self._connection = connection
        self._window_s = registries.stall_timeout_s
        self._least = registries.min_bytes_per_s * registries.stall_timeout_s
        self._place = place
        self._since, self._bytes = time.monotonic(), 0

    def count(self, count: int) -> None:
        self._bytes += count
        now = time.monotonic()
        if now - self._since < self._window_s:
            return
        if self._bytes < self._least:
            raise RegistryError(
                f"{self._place}: too slow: {self._bytes} bytes in {now - self._since:.0f} s", retry=True
            )
        self._since, self._bytes = now, 0

    def close(self) -> None:
        self._connection.close()


class Http:
    """Keeps connections, TLS settings and the rules of `registries`."""

    def __init__(self, registries: Registries, stop: threading.Event, environment: Mapping[str, str]) -> None:
        self.registries = registries
        self.stop = stop
        self.environment = dict(environment)
        self._idle: dict[tuple[object, ...], list[http.client.HTTPConnection]] = {}
        self._tls: dict[RegistryOptions, ssl.SSLContext] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        with self._lock:
            for connections in self._idle.values():
                for connection in connections:
                    connection.close()
            self._idle.clear()

    def request(
        self, method: str, url: str, endpoint: Endpoint, headers: Mapping[str, str], body: bytes | None = None
    ) -> Response:
        """Follows redirects; `Authorization` goes to the host it was meant for only. Raises RegistryError, Stopped."""
        home = urlsplit(url)
        for _ in range(MAX_REDIRECTS):
            if self.stop.is_set():
                raise Stopped
            at = urlsplit(url)
            stays = (at.scheme, at.hostname, at.port) == (home.scheme, home.hostname, home.port)
            sent = {name: value for name, value in headers.items() if stays or name.lower() != "authorization"}
            response = self._send(method, url, endpoint, sent, body)
            target = response.headers.get("Location")
            if response.status not in REDIRECTS or not target or body is not None:
                return response
            with response:
                response.read()
            url = self._follow(url, target)
        raise RegistryError(f"{place_of(url)}: more than {MAX_REDIRECTS} redirects")

    def attempts(self, do: Callable[[], T]) -> T:
        """Calls `do` until it succeeds or fails for good, with growing waits. Raises what the last one did, Stopped."""
        for attempt in range(self.registries.attempts):
            try:
                return do()
            except RegistryError as error:
                if not error.retry or attempt + 1 == self.registries.attempts:
                    raise
                self.wait(attempt, error)
        raise AssertionError("unreachable")

    def wait(self, attempt: int, error: RegistryError) -> None:
        """Before the attempt after `attempt` (from 0). Raises Stopped."""
        wait_s = max(error.wait_s, FIRST_WAIT_S * 2**attempt * (1 + random.random() / 2))
        if self.stop.wait(min(wait_s, self.registries.max_wait_s)):
            raise Stopped

    # ---- inside

    def _follow(self, url: str, target: str) -> str:
        try:
            found = urljoin(url, target)
        except ValueError:
            found = ""
        before, after = urlsplit(url), address_of(found)
        if after is None:
            raise RegistryError(f"{place_of(url)}: redirects to {target[:200]!r}, which is no address")
        if before.scheme == "https" and after.scheme == "http":
            raise RegistryError(f"{place_of(url)}: redirects from https to http, to {place_of(found)}")
        return found

    def _send(
        self, method: str, url: str, endpoint: Endpoint, headers: Mapping[str, str], body: bytes | None
    ) -> Response:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or PORTS[parts.scheme]
        proxy = proxy_for(parts.scheme, host, endpoint.options, self.environment)
        key = (parts.scheme, host, port, proxy, endpoint.options)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if proxy and parts.scheme == "http":
            target = url
        all_headers = {"User-Agent": f"minipod/{__version__}", "Accept-Encoding": "identity", **headers}
        while True:
            connection, fresh = self._connection(key, url, endpoint, proxy)
            try:
                connection.request(method, target, body, all_headers)
                raw = connection.getresponse()
                break
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                if not fresh:
                    continue  # an idle connection that the other side had closed
                raise _connect_error(error, url, endpoint, proxy) from error
        watch = _Watch(connection, self.registries, place_of(url))
        return Response(raw, url, lambda: self._give_back(key, connection), watch)

    def _connection(
        self, key: tuple[object, ...], url: str, endpoint: Endpoint, proxy: str
    ) -> tuple[http.client.HTTPConnection, bool]:
        """An idle connection, or a fresh one (True)."""
        with self._lock:
            idle = self._idle.get(key)
            if idle:
                return idle.pop(), False
        through = urlsplit(proxy if "//" in proxy else f"http://{proxy}") if proxy else None
        if through is not None and (through.scheme != "http" or not through.hostname):
            raise RegistryError(f"proxy {proxy!r} is not http://host:port; minipod speaks to no other kind")
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or PORTS[parts.scheme]
        to_host, to_port = (through.hostname or "", through.port or 3128) if through else (host, port)
        connection: http.client.HTTPConnection
        if parts.scheme == "https":
            connection = http.client.HTTPSConnection(to_host, to_port, context=self._tls_context(endpoint.options))
            if through:
                connection.set_tunnel(host, port, _proxy_headers(through.username, through.password))
        else:
            connection = http.client.HTTPConnection(to_host, to_port)
        connection.timeout = self.registries.connect_timeout_s
        try:
            connection.connect()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise _connect_error(error, url, endpoint, proxy) from error
        connection.sock.settimeout(self.registries.stall_timeout_s)
        return connection, True

    def _give_back(self, key: tuple[object, ...], connection: http.client.HTTPConnection) -> None:
        with self._lock:
            idle = self._idle.setdefault(key, [])
            if connection.sock is not None and len(idle) < IDLE_CONNECTIONS:
                idle.append(connection)
                return
        connection.close()

    def _tls_context(self, options: RegistryOptions) -> ssl.SSLContext:
        with self._lock:
            if options not in self._tls:
                self._tls[options] = _make_tls_context(options)
            return self._tls[options]


def _make_tls_context(options: RegistryOptions) -> ssl.SSLContext:
    context = ssl.create_default_context()
    file = options.ca
    try:
        if options.ca:
            context.load_verify_locations(options.ca)
        if options.client_certificate:
            file = options.client_certificate
            context.load_cert_chain(options.client_certificate, options.client_key or None)
    except (OSError, ssl.SSLError) as error:
        raise RegistryError(f"registries.toml: {file}: {words_of(error)}") from error
    if options.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _proxy_headers(username: str | None, password: str | None) -> dict[str, str]:
    if not username:
        return {}
    import base64
    from urllib.parse import unquote

    word = base64.b64encode(f"{unquote(username)}:{unquote(password or '')}".encode()).decode()
    return {"Proxy-Authorization": f"Basic {word}"}


def _connect_error(error: Exception, url: str, endpoint: Endpoint, proxy: str) -> RegistryError:
    place = place_of(url)
    way = f" through the proxy {place_of(proxy)}" if proxy else ""
    table = f'[registry."{endpoint.registry}"]'
    if isinstance(error, ssl.SSLCertVerificationError):
        remedy = f'give its CA in {FILE}: {table} ca = "FILE"'
        return RegistryError(f"{place}{way}: TLS: certificate is not trusted: {error.verify_message}; {remedy}")
    if isinstance(error, ssl.SSLError) and "WRONG_VERSION_NUMBER" in str(error):
        remedy = f"if it is meant to, say so in {FILE}: {table} plain_http = true"
        return RegistryError(f"{place}{way}: TLS: the other side speaks plain HTTP; {remedy}")
    if isinstance(error, ssl.SSLError):
        return RegistryError(f"{place}{way}: TLS: {words_of(error)}")
    if isinstance(error, (socket.gaierror, ConnectionRefusedError)):
        passes = isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN
        remedy = f"without a way there, give a mirror in {FILE} or load the image: minipod image load"
        return RegistryError(f"{place}{way}: {words_of(error)}; {remedy}", retry=passes)
    return RegistryError(f"{place}{way}: {words_of(error)}", retry=True)


def address_of(url: str) -> SplitResult | None:
    """Its parts; None for what can be asked for nothing: a server says where to go next, and may say anything."""
    try:
        parts = urlsplit(url)
        if parts.scheme not in PORTS or not parts.hostname or parts.port == 0:
            return None
    except ValueError:  # brackets that are no address, a port that is no number
        return None
    return parts if url.isascii() and url.isprintable() and " " not in url else None


def place_of(url: str) -> str:
    """Host and port, as people name a registry; no user, no password, no query, which may be secrets."""
    parts = urlsplit(url if "//" in url else f"//{url}")
    with contextlib.suppress(ValueError):
        if parts.port is not None and parts.port != PORTS.get(parts.scheme):
            return f"{parts.hostname}:{parts.port}"
    return parts.hostname or "?"


def words_of(error: Exception) -> str:
    """One line, lower case."""
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).lower().replace("_", " ")
    if isinstance(error, socket.gaierror):
        return f"no such host: {(error.strerror or '').lower()}"
    if isinstance(error, OSError):
        return (error.strerror or (os.strerror(error.errno) if error.errno else str(error))).lower()
    return f"no proper answer: {type(error).__name__}: {error}".rstrip(": ")
