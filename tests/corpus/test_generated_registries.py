"""Generated registries: whatever one answers, a pull gets what was promised or fails with a RegistryError."""

from __future__ import annotations

import contextlib
import email.message
import json
import threading
import time
from collections.abc import Mapping
from typing import Any, cast

from hypothesis import example, given
from hypothesis import strategies as st

from minipod.errors import ImageError
from minipod.runtime.images.manifests import Descriptor, Index, Manifest, decode
from minipod.runtime.images.registry.client import Repository, read_challenges
from minipod.runtime.images.registry.hosts import Endpoint, RegistryOptions
from minipod.runtime.images.registry.http import Http, RegistryError, Response, address_of

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
    http = FakeHttp(given)
    return Repository(cast(Http, http), ENDPOINT, "library/x", iter(())), http


@given(answers)
@example([(401, {"WWW-Authenticate": 'Bearer realm="http://[::1"'}, "")])
@example([(401, {"WWW-Authenticate": 'Bearer realm="https://x:99999/"'}, "")])
@example([(401, {"WWW-Authenticate": 'Bearer realm="https://x/"'}, ""), (200, {}, "[" * 100_000)])
def test_whatever_a_registry_answers_is_a_manifest_or_a_registry_error(
    given: list[tuple[int, dict[str, str], str]],
) -> None:
    found, http = repository(given)
    with contextlib.suppress(RegistryError):
        descriptor, data = found.manifest("latest")
        assert descriptor.size == len(data)
        with contextlib.suppress(ImageError):
            decode(data, Manifest, "x", "here")
            decode(data, Index, "x", "here")
    assert len(http.asked) < 30
    assert all(address_of(url) is not None for url in http.asked)


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
