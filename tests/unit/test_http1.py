"""The server's side of HTTP/1.1: limits, pieces, what a client may not do. Over a pair of sockets, without TLS."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from minipod.streams import http1
from minipod.streams.http1 import Exchange, HttpConnection

Handler = Callable[[Exchange], Awaitable[None]]


async def echo(exchange: Exchange) -> None:
    request = exchange.request
    text = f"{request.method} {request.path} {request.query} {len(request.body)}"
    await exchange.respond(200, text.encode(), "text/plain")


def conversation(sent: bytes, handler: Handler = echo, *, half_close: bool = True) -> bytes:
    """Everything that the server answers to what a client sends."""

    async def talk() -> bytes:
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=theirs)
        serving = asyncio.create_task(HttpConnection(reader, writer, handler).serve())
        client_reader, client_writer = await asyncio.open_connection(sock=ours)
        client_writer.write(sent)
        if half_close:
            client_writer.write_eof()
        answer = await client_reader.read()
        client_writer.close()
        await serving
        return answer

    return asyncio.run(talk())


def get(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: x", *headers, "", ""]).encode()


def test_requests_of_one_connection_are_answered_one_after_the_other() -> None:
    post = b"POST /c HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc"
    answer = conversation(get("/a%20b?x=1&x=2&y") + post)
    assert answer.count(b"HTTP/1.1 200") == 2
    assert b"GET /a b [('x', '1'), ('x', '2'), ('y', '')] 0" in answer
    assert b"POST /c [] 3" in answer


def test_an_answer_in_pieces_is_chunked() -> None:
    async def pieces(exchange: Exchange) -> None:
        await exchange.begin("text/plain")
        await exchange.send(b"one")
        await exchange.send(b"two")
        await exchange.end()

    answer = conversation(get("/", "Connection: close"), pieces)
    assert answer.endswith(b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (get("/", "X: " + "y" * (200 << 10)), b"431"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n", b"413"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc", b"400"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n", b"501"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),  # without Host
    ],
)
def test_what_is_no_request_is_refused_and_the_connection_closed(sent: bytes, status: bytes) -> None:
    answer = conversation(sent)
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert b"GET" not in answer


def test_a_body_that_grows_too_long_is_refused_while_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http1, "MAX_BODY_BYTES", 10)
    head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert conversation(head + b"8\r\n12345678\r\n8\r\n12345678\r\n").startswith(b"HTTP/1.1 413")


def test_both_lengths_are_not_taken_for_two_requests() -> None:
    smuggled = (
        b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"5c\r\nGET /secret HTTP/1.1\r\nHost: x\r\n\r\n"
    )
    assert b"/secret" not in conversation(smuggled)


def test_a_slow_head_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http1, "HEAD_S", 0.05)
    assert conversation(b"GET / HTTP/1.1\r\nHost:", half_close=False) == b""


def test_a_client_that_goes_ends_its_answer() -> None:
    ended: list[str] = []

    async def endless(exchange: Exchange) -> None:
        await exchange.begin("text/plain")
        await exchange.gone
        ended.append("gone")

    conversation(get("/"), endless)
    assert ended == ["gone"]


def test_a_large_answer_is_compressed_for_who_accepts_it() -> None:
    async def large(exchange: Exchange) -> None:
        await exchange.respond(200, b"x" * (1 << 20))

    assert len(conversation(get("/", "Accept-Encoding: gzip", "Connection: close"), large)) < 10_000
    assert len(conversation(get("/", "Connection: close"), large)) > 1 << 20


def test_a_connection_that_is_taken_over_keeps_what_came_after_the_request() -> None:
    async def upgrade(exchange: Exchange) -> None:
        reader, writer, rest = await exchange.take_over()
        writer.write(b"taken:" + rest + await reader.read())
        await writer.drain()

    assert conversation(get("/", "Connection: Upgrade", "Upgrade: x") + b"more", upgrade) == b"taken:more"
