"""What a server in a pod may do to who probes it: nothing but fail the probe (unit)."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from functools import partial

import pytest

from minipod.agent.probes.kinds.connection import Answer, Attempt, Done
from minipod.agent.probes.kinds.hpack import encode
from minipod.agent.probes.kinds.http import HttpProbe, http_request
from minipod.agent.probes.kinds.http_answer import MAX_BODY, MAX_HEAD, HttpAnswer, MalformedError
from minipod.agent.probes.targets import http as http_maker
from minipod.api.types import Container, HTTPGetAction, HTTPHeader
from tests.unit.test_probe_kinds import HEADERS, HELLO, SERVING, TRAILERS, Serve, answering, ask, getting, grpc

OK = b"HTTP/1.1 200 OK\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def failing(text: bytes) -> str:
    """What is wrong with an answer that comes at once."""
    with pytest.raises(MalformedError) as caught:
        HttpAnswer().feed(text)
    return str(caught.value)


# -- HTTP answers


def test_five_interim_answers_are_taken_and_a_sixth_is_too_many() -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n"
    answer = HttpAnswer()
    answer.feed(interim * 5 + OK)
    assert answer.status == 200
    assert b"link" not in answer.headers
    assert failing(interim * 6 + OK) == "net/http: too many 1xx informational responses"
    assert failing(interim * 20_000).startswith("net/http: too many 1xx")


def test_all_heads_together_have_a_limit() -> None:
    exceeded = f"net/http: server response headers exceeded {MAX_HEAD} bytes; aborted"
    assert failing(b"HTTP/1.1 200 OK\r\n" + b"X-A: 0123456789\r\n" * (MAX_HEAD // 16)) == exceeded
    padded = b"HTTP/1.1 103 Hint\r\nX: " + b"x" * (MAX_HEAD // 3) + b"\r\n\r\n"
    assert failing(padded * 3) == exceeded
    assert failing(b"HTTP/1.1 200 OK\r\nX: " + b"x" * MAX_HEAD + b"\r\n\r\n") == exceeded


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"HTTP/1.1 000 \r\n\r\n", "malformed HTTP response"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", "bad Content-Length"),
        ("HTTP/1.1 200 OK\r\nContent-Length: ²\r\n\r\n".encode(), "bad Content-Length"),
        (CHUNKED + b"-5\r\nabcdefgh\r\n", "invalid byte in chunk length"),
        (CHUNKED + b"0x5\r\nabcde\r\n", "invalid byte in chunk length"),
        (CHUNKED + b"1_0\r\n", "invalid byte in chunk length"),
        (CHUNKED + b"\r\n" * 5, "invalid byte in chunk length"),
        (CHUNKED + b"f" * 17 + b"\r\n", "invalid byte in chunk length"),
        (CHUNKED + b"1" * 5000, "header line too long"),
        (CHUNKED + b"1;" + b"x" * 5000 + b"\r\n", "header line too long"),
        (CHUNKED + b"1\r\nabcd\r\n", "malformed chunked encoding"),
        (CHUNKED + (b"1;" + b"x" * 4000 + b"\r\na\r\n") * 6, "chunked encoding contains too much non-data"),
    ],
)
def test_numbers_and_chunks_are_what_the_rfc_says_or_refused(head: bytes, words: str) -> None:
    assert failing(head).startswith(words)


def test_a_body_of_single_byte_chunks_is_read_in_one_go() -> None:
    answer = HttpAnswer()
    begun = time.process_time()
    answer.feed(CHUNKED + b"1\r\nx\r\n" * 100_000)
    assert (answer.body, answer.whole) == (b"x" * MAX_BODY, True)
    assert time.process_time() - begun < 0.5


def test_a_chunk_without_end_is_read_as_far_as_a_body() -> None:
    answer = HttpAnswer()
    answer.feed(CHUNKED + b"7fffffffffffffff\r\n" + b"x" * 5000)
    assert not answer.whole
    answer.feed(b"x" * 6000)
    assert (len(answer.body), answer.whole) == (MAX_BODY, True)


def test_trailers_are_not_read() -> None:
    answer = HttpAnswer()
    answer.feed(CHUNKED + b"2\r\nok\r\n0\r\nX: 1\r\n")
    assert (answer.body, answer.whole) == (b"ok", True)


def test_a_body_that_breaks_the_rules_is_an_error_that_counts_for_nothing() -> None:
    assert ask(getting(), lambda _: CHUNKED + b"zz\r\n")[0] == Answer("error", "invalid byte in chunk length")


@pytest.mark.parametrize("location", ["//[", "http://[::1/", "/a\x01b", "/a\rX: 1", "/\x7f"])
def test_a_place_that_is_no_url_is_a_failure(location: str) -> None:
    answer, asked = ask(getting(), answering("302 Found", f"Location: {location}"))
    assert answer.result == "failure"
    assert "failed to parse Location header" in answer.message
    assert not re.search(r"[\x00-\x1f\x7f]", answer.message)
    assert len(asked) == 1


def test_a_place_cannot_say_more_than_a_place() -> None:
    """No second line, no password, and what it says in other letters is escaped."""

    def serve(request: bytes) -> bytes:
        if request.startswith(b"GET /x "):
            return answering("302 Found", f"Location: //me:secret@127.0.0.1:{port_of(request)}/a b HTTP/1.1?ü")(request)
        return answering("200 OK")(request)

    _, asked = ask(getting(), serve)
    lines = asked[1].decode().split("\r\n")
    assert lines[0] == "GET /a%20b%20HTTP/1.1?%C3%BC HTTP/1.1"
    assert lines[1] == f"Host: 127.0.0.1:{port_of(asked[0])}"


def port_of(request: bytes) -> int:
    found = re.search(rb"Host: 127.0.0.1:(\d+)", request)
    assert found is not None
    return int(found[1])


# -- HTTP requests


def refused(action: HTTPGetAction) -> Answer:
    """The answer to a request that is not sent: there is no server."""
    answers: list[Answer] = []
    loop = asyncio.new_event_loop()
    HttpProbe(loop, "127.0.0.1", http_request(action, "127.0.0.1", 1), answers.append)
    loop.close()
    return answers[0]


@pytest.mark.parametrize("value", ["a\r\nX: 1", "a\nb", "a\rb", "\0", "\x7f", "\x1b[31m"])
@pytest.mark.parametrize("name", ["X-A", "Host"])
def test_a_header_s_value_cannot_hold_another_header(name: str, value: str) -> None:
    action = HTTPGetAction(path="/", port=1, http_headers=(HTTPHeader(name=name.lower(), value=value),))
    message = f'Get "http://127.0.0.1:1/": net/http: invalid header field value for "{name}"'
    assert refused(action) == Answer("failure", message)


@pytest.mark.parametrize("name", ["a b", "x\r\ny", "", "ä", "a:"])
def test_a_header_s_name_is_a_token(name: str) -> None:
    action = HTTPGetAction(path="/", port=1, http_headers=(HTTPHeader(name=name, value="1"),))
    assert "net/http: invalid header field name" in refused(action).message


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("/a\r\nX: 1", "/a%0D%0AX%3A%201"),
        ("/a\0b?c", "/a%00b%3Fc"),
        ("/100%?x", "/100%25%3Fx"),
        ("//[", "//%5B"),
        ("/a%20b", "/a%20b"),
        ("/a b?c d", "/a%20b?c%20d"),
    ],
)
def test_a_path_that_is_no_url_is_sent_as_a_path(path: str, sent: str) -> None:
    request = http_request(HTTPGetAction(path=path, port=1), "127.0.0.1", 1)
    assert request.lines().decode().split("\r\n")[0].replace(":", "%3A") == f"GET {sent} HTTP/1.1".replace(":", "%3A")


@pytest.mark.parametrize("host", ["a b", "a\r\nb", "a\0", "user@host", "a/b", "a?b", "a#b"])
def test_a_host_is_a_host(host: str) -> None:
    with pytest.raises(ValueError, match="in host name"):
        http_request(HTTPGetAction(path="/", port=1, host=host), "127.0.0.1", 1)


def test_a_host_that_no_name_can_be_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A label of 64 letters cannot even be asked for (UnicodeError)."""
    monkeypatch.setattr(socket, "getaddrinfo", _encoding)

    def make(loop: asyncio.AbstractEventLoop, port: int, done: Done) -> Attempt:
        action = HTTPGetAction(path="/", port=port, host="a" * 64 + ".example")
        return http_maker(loop, Container(name="c"), "127.0.0.1", action)(done)

    answer, _ = ask(make)
    assert answer.message.endswith("no such host")


def _encoding(host: str, *_: object, **__: object) -> None:
    host.encode("idna")


# -- gRPC


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def flooding(text: bytes) -> Serve:
    return lambda data: text if b"/grpc.health.v1.Health/Check" in data else b""


@pytest.mark.parametrize(
    ("kind", "stream", "payload"),
    [(6, 0, b"12345678"), (4, 0, b""), (9, 1, b""), (99, 0, b""), (0, 1, b"x" * 100)],
    ids=["PING", "SETTINGS", "CONTINUATION", "unknown", "DATA"],
)
def test_a_flood_of_any_frame_ends_the_call(kind: int, stream: int, payload: bytes) -> None:
    flood = frame(kind, 0, stream, payload) * (600_000 // (9 + len(payload)))
    answer, asked = ask(grpc, flooding(HEADERS + flood + SERVING + TRAILERS), first=HELLO)
    assert answer.message.endswith("rpc error: code = Unavailable desc = an answer that is too large")
    assert sum(map(len, asked)) < 1 << 19


def test_headers_in_many_frames_have_a_limit() -> None:
    flood = frame(1, 0, 1, b"") + frame(9, 0, 1, b"x" * 16384) * 3
    answer, _ = ask(grpc, flooding(flood), first=HELLO)
    assert answer.message.endswith("headers that are too large")


def test_headers_that_stand_for_many_others_stay_small() -> None:
    """An entry of 4,000 bytes that is referred to by one byte, 16,000 times."""
    bomb = b"\x40" + encode((("a", "x" * 4000),))[1:] + b"\xbe" * 12_000
    answer, _ = ask(grpc, flooding(frame(1, 5, 1, bomb)), first=HELLO)
    assert "unexpected HTTP status code" in answer.message


@pytest.mark.parametrize("status", ["²", "9" * 5000, "-1", "0x", ""])
def test_a_status_that_is_no_number_is_none(status: str) -> None:
    trailers = frame(1, 5, 1, encode(((":status", "200"), ("grpc-status", status))))
    answer, _ = ask(grpc, flooding(trailers), first=HELLO)
    assert answer.message.endswith("unexpected HTTP status code received from server: 200")


def test_a_continuation_of_nothing_ends_no_headers() -> None:
    answer, _ = ask(grpc, flooding(frame(9, 4, 1, b"") + HEADERS + SERVING + TRAILERS), first=HELLO)
    assert answer == Answer("success", "service healthy")


def test_nothing_is_read_after_the_end_of_the_call() -> None:
    answers: list[Answer] = []

    def make(loop: asyncio.AbstractEventLoop, port: int, done: Done) -> Attempt:
        return grpc(loop, port, partial(_both, answers, done))

    ask(make, flooding(HEADERS + SERVING + TRAILERS * 3 + frame(3, 0, 1, b"1234")), first=HELLO)
    assert answers == [Answer("success", "service healthy")]


def _both(answers: list[Answer], done: Done, answer: Answer) -> None:
    answers.append(answer)
    done(answer)
