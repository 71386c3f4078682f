"""The httpGet probe, and the request of a hook (layer 5), after pkg/probe/http and net/http's client.

One GET without keep-alive; redirects to the same host are followed, ten of them; certificates are not verified.
"""

from __future__ import annotations

import asyncio
import re
from functools import cache
from typing import NamedTuple
from urllib.parse import SplitResult, quote, urljoin, urlsplit, urlunsplit

from minipod.agent.probes.kinds.connection import Answer, Connection, Done, Tls, TlsError, join_host_port, words
from minipod.agent.probes.kinds.http_answer import HttpAnswer, MalformedError
from minipod.api.types import HTTPGetAction
from minipod.plan.env import go_quote

VERSION = "1.36"  # of the Kubernetes that the probed one sees
MAX_REDIRECTS = 10
_REDIRECTS = (301, 302, 303, 307, 308)
_PORTS = {"http": 80, "https": 443}
_IN_PATH = "/%:@!$&'()*+,;=~-._"
_IN_QUERY = _IN_PATH + "?"
_IN_LOCATION = _IN_QUERY + "#[]"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NO_HOST = re.compile(r'[\x00-\x20\x7f/?#@\\<>"^`{|}]')
_BAD_ESCAPE = re.compile(r"%(?![0-9a-fA-F]{2})")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110: a header's name


class HttpRequest(NamedTuple):
    """A GET. `host_header` empty: the URL's. `headers`: as they are sent, but for Host, Connection and Referer."""

    url: str
    headers: tuple[tuple[str, str], ...]
    host_header: str = ""
    referer: str = ""

    def lines(self) -> bytes:
        """What is sent."""
        url = urlsplit(self.url)
        target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        host = self.host_header or url.netloc.rpartition("@")[2]
        lines = [f"GET {target} HTTP/1.1", f"Host: {host}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        if self.referer:
            lines.append(f"Referer: {self.referer}")
        lines += ["Connection: close", "", ""]
        return "\r\n".join(lines).encode("utf-8", "replace")

    def fault(self) -> str:
        """Why it is not sent, in net/http's words: a header could end itself and begin another, or a request."""
        for name, value in (*self.headers, ("Host", self.host_header)):
            if not _TOKEN.fullmatch(name):
                return f"net/http: invalid header field name {go_quote(name)}"
            if _CONTROL.search(value.replace("\t", "")):  # the value may be a secret
                return f"net/http: invalid header field value for {go_quote(name)}"
        return ""


def http_request(action: HTTPGetAction, pod_ip: str, port: int, purpose: str = "probe") -> HttpRequest:
    """request.go NewRequestForHTTPGetAction. `purpose`: probe | lifecycle, part of the User-Agent.

    Raises ValueError for a host that no URL can hold.
    """
    scheme = (action.scheme or "HTTP").lower()
    if found := _NO_HOST.search(action.host):
        raise ValueError(f"parse {go_quote(action.host)}: invalid character {go_quote(found[0])} in host name")
    path, query = _path_and_query(action.path)
    url = urlunsplit((scheme, join_host_port(action.host or pod_ip, port), path, query, ""))
    headers = [(_canonical(header.name), header.value) for header in action.http_headers]
    names = {name for name, _ in headers}
    host_header = next((value for name, value in headers if name == "Host"), "")
    sent = [("User-Agent", f"kube-{purpose}/{VERSION}")] if "User-Agent" not in names else []
    sent += [] if "Accept" in names else [("Accept", "*/*")]
    # Set to nothing, these two are not sent.
    sent += [(name, value) for name, value in headers if name != "Host" and (value or name not in _OWN)]
    return HttpRequest(url, tuple(sent), host_header)


def _path_and_query(written: str) -> tuple[str, str]:
    """formatURL: what is no URL reference (a control character, a broken escape) is a path, every byte of it quoted."""
    try:
        if _CONTROL.search(written) or _BAD_ESCAPE.search(written):
            raise ValueError(written)
        found = urlsplit(written)
        path, query = quote(found.path, safe=_IN_PATH), quote(found.query, safe=_IN_QUERY)
    except ValueError:
        path, query = quote(written, safe=_IN_PATH.replace("%", ""), errors="replace"), ""
    return path if path.startswith("/") else "/" + path, query


SPEAKS_HTTP = "http: server gave HTTP response to HTTPS client"
_OWN = ("Accept", "User-Agent")


def _canonical(name: str) -> str:
    """net/http CanonicalHeaderKey."""
    return "-".join(part[:1].upper() + part[1:].lower() for part in name.split("-"))


class HttpProbe:
    """One attempt, with its redirects. `address`: of the request's host, numeric. `judged`: the status counts."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        address: str,
        request: HttpRequest,
        done: Done,
        judged: bool = True,
    ) -> None:
        self._loop = loop
        self._address = address
        self._first = request
        self._done = done
        self._judged = judged
        self._followed = 0
        self._open(request)

    def _open(self, request: HttpRequest) -> None:
        self._request = request
        self._answer = HttpAnswer()
        if fault := request.fault():
            self._fail(fault)
            return
        url = urlsplit(request.url)
        try:
            port = url.port or _PORTS[url.scheme]
        except (ValueError, KeyError):
            self._fail(f'unsupported protocol scheme or port in "{request.url}"')
            return
        tls = _tls() if url.scheme == "https" else None
        name = "" if _is_address(url) else url.hostname or ""
        self._dialled = join_host_port(self._address, port)
        self._connection = Connection(self._loop, self._address, port, self, tls, name)
        self._connection.start()

    # -- the connection's user ----------------------------------------------------------------------------------

    def connected(self) -> bytes:
        return self._request.lines()

    def received(self, data: bytes) -> bytes:
        try:
            self._answer.feed(data)
        except MalformedError as error:
            self._connection.close()
            if self._answer.status:
                self._done(Answer("error", str(error)))
            else:
                self._fail(str(error))
            return b""
        if self._answer.whole:
            self._connection.close()
            self._over()
        return b""

    def ended(self) -> None:
        if self._answer.end():
            self._over()
        elif self._answer.status:
            self._done(Answer("error", "unexpected EOF"))
        else:
            self._fail("EOF")

    def failed(self, stage: str, error: OSError) -> None:
        if stage == "dial":
            self._fail(f"dial tcp {self._dialled}: connect: {words(error)}")
        elif isinstance(error, TlsError):
            plain = error.reason == "WRONG_VERSION_NUMBER" or error.reason == "HTTP_REQUEST"
            self._fail(SPEAKS_HTTP if plain else f"tls: {words(error)}")
        elif self._answer.status:
            self._done(Answer("error", f"{stage} tcp {self._dialled}: {words(error)}"))
        else:
            self._fail(f"{stage} tcp {self._dialled}: {stage}: {words(error)}")

    def time_is_up(self) -> None:
        self._connection.close()
        if self._answer.status:
            message = "context deadline exceeded (Client.Timeout or context cancellation while reading body)"
            self._done(Answer("error", message))
        else:
            self._fail("context deadline exceeded (Client.Timeout exceeded while awaiting headers)")

    def give_up(self) -> None:
        self._connection.close()

    # -- answers ------------------------------------------------------------------------------------------------

    def _fail(self, message: str) -> None:
        self._done(Answer("failure", f'Get "{self._request.url}": {message}'))

    def _over(self) -> None:
        status = self._answer.status
        if status in _REDIRECTS and self._follow():
            return
        if 200 <= status < 300 or not self._judged:
            self._done(Answer("success"))
        elif 300 <= status < 400:
            body = self._answer.body.decode("utf-8", "replace")
            self._done(Answer("warning", f"Probe terminated redirects, Response body: {body}"))
        else:
            self._done(Answer("failure", f"HTTP probe failed with statuscode: {status}"))

    def _follow(self) -> bool:
        """Whether the redirect is followed (or was the one too many); it is not, to another host."""
        location = self._answer.headers.get(b"location", b"").decode("utf-8", "replace")
        if not location:
            return False
        try:
            if _CONTROL.search(location):
                raise ValueError(location)
            url = urljoin(self._request.url, quote(location, safe=_IN_LOCATION))
            same_host = urlsplit(url).hostname == urlsplit(self._first.url).hostname
        except ValueError:
            self._fail(f"failed to parse Location header {go_quote(location)}")
            return True
        if not same_host:
            return False
        self._followed += 1
        if self._followed >= MAX_REDIRECTS:
            self._fail(f"stopped after {MAX_REDIRECTS} redirects")
            return True
        host_header = "" if urlsplit(location).scheme else self._request.host_header
        referer = "" if self._request.url.startswith("https:") and url.startswith("http:") else self._request.url
        self._open(HttpRequest(url.partition("#")[0], self._first.headers, host_header, referer))
        return True


@cache
def _tls() -> Tls:
    from minipod.agent.probes.kinds.tls import UnverifiedTls

    return UnverifiedTls()


def _is_address(url: SplitResult) -> bool:
    host = url.hostname or ""
    return ":" in host or host.replace(".", "").isdigit()
