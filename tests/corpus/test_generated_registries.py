"""Generated registries: whatever one answers, a pull gets what was promised or fails with a RegistryError."""

from __future__ import annotations

import contextlib
import email.message
import http.client
import json
import socket
import threading
import time
from collections.abc import Mapping
from typing import Any, cast

from hypothesis import example, given
from hypothesis import strategies as st

from minipod.api.references import parse_reference
from minipod.errors import ImageError
from minipod.runtime.images.manifests import Descriptor, Index, Manifest, decode
from minipod.runtime.images.registry.client import Repository, read_challenges
from minipod.runtime.images.registry.credentials import credentials_for, parse_legacy_secret, parse_secret
from minipod.runtime.images.registry.hosts import Endpoint, Registries, RegistryOptions
from minipod.runtime.images.registry.http import MAX_REDIRECTS, Http, RegistryError, Response, address_of
from tests.corpus.changes import with_changes

words = st.sampled_from(
    ["Bearer", "Basic", "realm", "service", "scope", "=", ",", '"', '"https://auth.test/token"', "http://[::1", "https://x:99999/",
     "https://x:0/", "https://\u00e9/", "https://x/ y", "ftp://x/", "https:///", "\x00", "\r\n", "x" * 300, " "]
)  # fmt: skip
challenges = st.lists(words, max_size=12).map(" ".join)
addresses = st.one_of(words, st.text(max_size=20), words.map(lambda word: f"https://x/{word}"))
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=6,
)
tokens = st.one_of(
    st.dictionaries(st.sampled_from(["token", "access_token", "errors", "details"]), values).map(json.dumps),
    st.text(max_size=20),
    st.just("[" * 100_000),
)
headers = st.dictionaries(
    st.sampled_from(["Docker-Content-Digest", "Content-Type", "Retry-After", "Location", "WWW-Authenticate"]),
    st.one_of(challenges, st.just("9" * 5000), st.just("sha256:../../x"), st.text(max_size=20)),
)
answers = st.lists(st.tuples(st.sampled_from([200, 206, 401, 403, 404, 429, 500, 777]), headers, tokens), max_size=6)

ENDPOINT = Endpoint("https", "registry.test", 443, "", "registry.test", RegistryOptions())


class FakeHttp:
    """Answers with these, one after the other, and then with the last."""

    def __init__(self, given: list[tuple[int, dict[str, str], str]]) -> None:
        self.given = given or [(500, {}, "")]
        self.asked: list[str] = []

    def request(self, method: str, url: str, *_: object) -> Response:
        self.asked.append(url)
        status, fields, body = self.given[min(len(self.asked), len(self.given)) - 1]
        return cast(Response, FakeResponse(status, fields, body.encode("utf-8", "surrogatepass"), url))


class FakeResponse:
    def __init__(self, status: int, fields: Mapping[str, str], body: bytes, url: str) -> None:
        self.status, self.url, self._body = status, url, body
        self.headers = email.message.Message()
        for name, value in fields.items():
            self.headers[name] = value.replace("\r", "").replace("\n", "")  # no header can bring them

    def read(self, max_bytes: int = 1 << 20) -> bytes:
        return self._body[:max_bytes]

    def __enter__(self) -> FakeResponse:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def repository(given: list[tuple[int, dict[str, str], str]]) -> tuple[Repository, FakeHttp]:
    asking = FakeHttp(given)
    return Repository(cast(Http, asking), ENDPOINT, "library/x", iter(())), asking


@given(answers)
@example([(401, {"WWW-Authenticate": 'Bearer realm="http://[::1"'}, "")])
@example([(401, {"WWW-Authenticate": 'Bearer realm="https://x:99999/"'}, "")])
@example([(401, {"WWW-Authenticate": 'Bearer realm="https://x/"'}, ""), (200, {}, "[" * 100_000)])
def test_whatever_a_registry_answers_is_a_manifest_or_a_registry_error(
    given: list[tuple[int, dict[str, str], str]],
) -> None:
    found, asking = repository(given)
    with contextlib.suppress(RegistryError):
        descriptor, data = found.manifest("latest")
        assert descriptor.size == len(data)
        with contextlib.suppress(ImageError):
            decode(data, Manifest, "x", "here")
            decode(data, Index, "x", "here")
    assert len(asking.asked) < 30
    assert all(address_of(url) is not None for url in asking.asked)


@given(addresses)
@example("https://x:99999/")
@example("http://[::1")
def test_a_redirect_leads_to_an_address_or_is_refused(target: str) -> None:
    followed = Http(cast(Any, None), threading.Event(), {})
    with contextlib.suppress(RegistryError):
        assert address_of(followed._follow("https://registry.test/v2/x", target)) is not None


@given(st.lists(challenges, max_size=3))
def test_challenges_are_read_or_left_out(given: list[str]) -> None:
    for scheme, parameters in read_challenges(given):
        assert scheme.isalpha()
        assert all(name == name.lower() for name in parameters)


def test_a_long_challenge_is_read_in_no_time() -> None:
    began = time.process_time()
    for text in (
        "Bearer " + 'a="' * 20_000,
        "Bearer " + "a = b , " * 5_000 + "=",
        "B" * 60_000,
        "Bearer " + " " * 60_000,
    ):
        list(read_challenges([text]))
    assert time.process_time() - began < 2


@given(st.dictionaries(st.sampled_from(["digest", "size", "mediaType", "annotations", "platform"]), values))
def test_a_descriptor_names_a_blob_or_is_refused(given: dict[str, Any]) -> None:
    with contextlib.suppress(ImageError):
        found = decode(json.dumps(given).encode(), Descriptor, "x", "here")
        assert len(found.hex) == 64
        assert found.size >= 0


# -- what comes over the wire

bytes_of_answers = st.lists(
    st.sampled_from(
        [
            b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 200\r\n", b"HTTP/1.1 307 x\r\n", b"HTTP/9.9 200 x\r\n",
            b"HTTP/1.1 99 x\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"Content-Length: 5\r\n", b"Content-Length: -1\r\n",
            b"Content-Length: 1_0\r\n",
            b"Content-Length: " + b"9" * 5000 + b"\r\n", b"Transfer-Encoding: chunked\r\n", b"Location: //[\r\n",
            b"Location: /v2/\r\n", b"Connection: close\r\n", b"\r\n", b"\n", b"hello", b"5\r\nhello\r\n", b"0\r\n\r\n",
            b"-5\r\n", b"fffffffffffffffff\r\n", b"zz\r\n", b"X: " + b"x" * 70_000 + b"\r\n",
            b"A: b\r\n" * 120, b"\x00", b"\xff\xfe",
        ]
    )
    | st.binary(max_size=20),
    max_size=12,
).map(b"".join)  # fmt: skip


WIRED = "http://registry.test/v2/"


class WiredHttp(Http):
    """Whatever is asked for, this is what comes back, on a connection of its own; then it is closed."""

    def __init__(self, answer: bytes) -> None:
        super().__init__(Registries(), threading.Event(), {})
        self._answer = answer
        self.connections = 0

    def _connection(
        self, key: tuple[object, ...], url: str, endpoint: Endpoint, proxy: str
    ) -> tuple[http.client.HTTPConnection, bool]:
        self.connections += 1
        connection = http.client.HTTPConnection("registry.test")
        connection.sock, theirs = socket.socketpair()
        connection.sock.settimeout(5)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        theirs.sendall(self._answer)
        theirs.shutdown(socket.SHUT_WR)
        self._theirs = [*getattr(self, "_theirs", []), theirs]
        return connection, True

    def close(self) -> None:
        super().close()
        for theirs in self._theirs:
            theirs.close()


@given(bytes_of_answers)
@example(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
@example(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
@example(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello")
@example(b"HTTP/1.1 307 x\r\nLocation: /again\r\nContent-Length: 0\r\n\r\n")
def test_any_bytes_of_a_registry_are_an_answer_or_a_registry_error(answer: bytes) -> None:
    wired = WiredHttp(answer)
    try:
        with (
            contextlib.suppress(RegistryError),
            wired.request("GET", "http://registry.test/v2/", ENDPOINT, {}) as response,
        ):
            body = response.read(1 << 16)
            assert len(body) <= len(answer)
            assert body in answer or "chunked" in response.headers.get("Transfer-Encoding", "").lower()
    finally:
        wired.close()
    assert wired.connections <= MAX_REDIRECTS


# -- credentials

AUTHS = {
    "auths": {
        "registry.test": {"auth": "am9lOnNlY3JldA=="}, "*.test/team": {"username": "joe", "password": "secret"},
        "https://index.docker.io/v1/": {"identitytoken": "t"},
    },
    "credsStore": "", "credHelpers": {},
}  # fmt: skip


@given(with_changes(AUTHS))
@example({"auths": {"registry.test": {"auth": "é"}}})
@example({"auths": {"registry.test": {"auth": "/w=="}}})
@example({"auths": {"registry.test": {"username": "\ud800", "password": "x"}}})
@example({"auths": {"[": {"auth": "am9l"}, "http://[::1": {}, "x:99999999": {}, "*" * 40: {}}})
def test_any_secret_is_credentials_or_an_image_error(document: Any) -> None:
    reference = parse_reference("registry.test/team/box:1")
    with contextlib.suppress(ImageError):
        secret = parse_secret(json.dumps(document), "secret")
        for found in credentials_for(reference, "registry.test", [("secret", secret)], {"HOME": "/nowhere"}):
            assert found.basic.isascii()
            assert "secret" not in repr(found).replace("from secret", "")
    with contextlib.suppress(ImageError):
        parse_legacy_secret(json.dumps(document), "secret")


@given(st.binary(max_size=60))
def test_any_bytes_are_a_secret_or_an_image_error(data: bytes) -> None:
    for parse in (parse_secret, parse_legacy_secret):
        with contextlib.suppress(ImageError):
            parse(data, "secret")
