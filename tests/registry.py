"""A registry on loopback for tests, in Python: serves OCI layouts, and misbehaves where a test says so."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PATH = re.compile(r"/v2/(?P<name>.+)/(?P<kind>manifests|blobs)/(?P<what>[^/]+)")

#: gets the request; True: it has been answered
Rule = Callable[["Request"], bool]


class Request(BaseHTTPRequestHandler):
    """One request, as rules see it: `path`, `headers`, `kind` (manifests, blobs, "") and `what` (tag or digest)."""

    protocol_version = "HTTP/1.1"
    server: Registry

    def do_GET(self) -> None:
        found = PATH.fullmatch(self.path.split("?")[0])
        self.name, self.kind, self.what = found.group("name", "kind", "what") if found else ("", "", "")
        self.server.seen.append(copy.copy(self))  # one object serves all requests of a connection
        for rule in list(self.server.rules):
            if rule(self):
                return
        self.serve()

    do_HEAD = do_GET  # noqa: N815
    do_POST = do_GET  # noqa: N815

    def serve(self) -> None:
        if self.path == "/v2/":
            self.answer(200, b"{}")
            return
        media_type, data = self.server.content.get(self.what, ("", None))
        if self.kind == "manifests" and data is None:
            digest = self.server.tags.get((self.name, self.what), "")
            media_type, data = self.server.content.get(digest, ("", None))
        if data is None:
            self.fail(404, "MANIFEST_UNKNOWN", "manifest unknown")
            return
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked and self.kind == "blobs" and self.server.ranges:
            start = int(asked[1])
            place = f"bytes {start}-{len(data) - 1}/{len(data)}"
            self.answer(206, data[start:], {"Content-Range": place})
            return
        self.answer(200, data, {"Content-Type": media_type, "Docker-Content-Digest": digest})

    def answer(self, status: int, data: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.begin(status, len(data), headers)
        if self.command != "HEAD":
            self.wfile.write(data)

    def begin(self, status: int, length: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(length), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()

    def fail(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        self.answer(status, json.dumps({"errors": [{"code": code, "message": message}]}).encode(), headers)

    def log_message(self, *args: Any) -> None:
        pass


class Registry(ThreadingHTTPServer):
    """`rules` are asked in order before the request is served; `seen` holds every request."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.content: dict[str, tuple[str, bytes]] = {}
        self.tags: dict[tuple[str, str], str] = {}
        self.rules: list[Rule] = []
        self.seen: list[Request] = []
        self.ranges = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that hangs up is what some tests are about

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    def add(self, layout: Path, name: str = "test", tag: str = "latest") -> str:
        """Serves the layout's image as `name:tag`; returns the manifest's digest."""
        for blob in (layout / "blobs" / "sha256").iterdir():
            self.content[f"sha256:{blob.name}"] = ("application/octet-stream", blob.read_bytes())
        (descriptor,) = json.loads((layout / "index.json").read_text())["manifests"]
        self.tags[name, tag] = descriptor["digest"]
        media_type = descriptor.get("mediaType", "application/vnd.oci.image.manifest.v1+json")
        self.content[descriptor["digest"]] = (media_type, self.content[descriptor["digest"]][1])
        return str(descriptor["digest"])

    def put(self, value: dict[str, Any], media_type: str, name: str = "test", tag: str = "latest") -> str:
        """Serves a manifest or an index made by the test."""
        data = json.dumps(value).encode()
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.content[digest] = (media_type, data)
        self.tags[name, tag] = digest
        return digest

    def requests(self, kind: str, method: str = "GET") -> list[str]:
        return [request.what for request in self.seen if request.kind == kind and request.command == method]


@contextmanager
def running(registry: Registry | None = None, tls: tuple[Path, Path] | None = None) -> Iterator[Registry]:
    """A registry in a thread of its own; `tls`: certificate and key."""
    server = registry or Registry()
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def times(count: int, rule: Rule) -> Rule:
    """Only the first `count` requests to which the rule would answer."""
    left = [count]

    def limited(request: Request) -> bool:
        if left[0] == 0 or not rule(request):
            return False
        left[0] -= 1
        return True

    return limited


def on(kind: str, act: Callable[[Request], None], method: str = "GET") -> Rule:
    """Manifests or blobs are answered by `act`."""

    def rule(request: Request) -> bool:
        if request.kind != kind or request.command != method:
            return False
        act(request)
        return True

    return rule


def held(gate: threading.Event, timeout_s: float) -> None:
    """The request is not answered before the gate opens, or at all when it does not."""
    gate.wait(timeout_s)


def largest(act: Callable[[Request, bytes], None]) -> Rule:
    """The largest blob, which is the layer, is answered by `act`."""

    def rule(request: Request) -> bool:
        if request.kind != "blobs":
            return False
        data = request.server.content[request.what][1]
        if len(data) < max(len(value) for _, value in request.server.content.values()):
            return False
        act(request, data)
        return True

    return rule


def cut(after: int) -> Callable[[Request, bytes], None]:
    """Promises everything, sends `after` bytes from where it is asked to, and hangs up."""

    def act(request: Request, data: bytes) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
        start = int(asked[1]) if asked else 0
        headers = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if asked else {}
        request.begin(206 if asked else 200, len(data) - start, headers)
        request.wfile.write(data[start : start + after])
        request.close_connection = True

    return act


def drip(seconds: float, pause_s: float = 0.05) -> Callable[[Request, bytes], None]:
    """A byte now and then."""

    def act(request: Request, data: bytes) -> None:
        request.begin(200, len(data))
        end = time.monotonic() + seconds
        try:
            for index in range(len(data)):
                if time.monotonic() > end:
                    break
                request.wfile.write(data[index : index + 1])
                time.sleep(pause_s)
        except OSError:
            pass
        request.close_connection = True

    return act


def basic(user: str, password: str) -> Rule:
    """Wants this user by basic authentication."""
    wanted = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    def rule(request: Request) -> bool:
        if request.headers.get("Authorization") == wanted:
            return False
        request.fail(401, "UNAUTHORIZED", "authentication required", {"WWW-Authenticate": 'Basic realm="test"'})
        return True

    return rule


def bearer(users: dict[str, str], token: str = "t0ken") -> Rule:
    """Wants a token, which /token gives to these users; an empty user is anybody."""
    accepted = {"Basic " + base64.b64encode(f"{user}:{word}".encode()).decode() for user, word in users.items()}
    if "" in users:
        accepted.add("")

    def rule(request: Request) -> bool:
        if request.path.startswith("/token"):
            if request.headers.get("Authorization", "") in accepted:
                request.answer(200, json.dumps({"token": token}).encode())
            else:
                request.fail(401, "UNAUTHORIZED", "incorrect username or password")
            return True
        if request.headers.get("Authorization") == f"Bearer {token}":
            return False
        realm = (
            f'Bearer realm="http://{request.server.host}/token",service="test",scope="repository:{request.name}:pull"'
        )
        request.fail(401, "UNAUTHORIZED", "authentication required", {"WWW-Authenticate": realm})
        return True

    return rule
