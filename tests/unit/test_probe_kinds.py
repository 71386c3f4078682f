"""How probes are made: requests, answers, redirects, gRPC's frames; against small servers on the loopback (unit)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Sequence

import pytest

from minipod.agent.probes.kinds.connection import Answer, Attempt, Done
from minipod.agent.probes.kinds.exec import ExecProbe
from minipod.agent.probes.kinds.grpc import GrpcProbe
from minipod.agent.probes.kinds.hpack import Decoder, HpackError, encode
from minipod.agent.probes.kinds.http import HttpProbe, http_request
from minipod.agent.probes.kinds.http_answer import MAX_BODY, HttpAnswer, MalformedError
from minipod.agent.probes.kinds.tcp import TcpProbe
from minipod.agent.probes.targets import port_number
from minipod.api.types import Container, ContainerPort, HTTPGetAction, HTTPHeader
from minipod.errors import ContainerError
from minipod.runtime.status import ExecResult

Serve = Callable[[bytes], bytes]


def ask(
    make: Callable[[asyncio.AbstractEventLoop, int, Done], Attempt],
    serve: Serve | None = None,
    *,
    first: bytes = b"",
    impatient: bool = False,
) -> tuple[Answer, list[bytes]]:
    """The answer to one attempt at a server that answers `serve(request)`; None: nothing listens there."""

    async def main() -> tuple[Answer, list[bytes]]:
        asked: list[bytes] = []
        talks: list[asyncio.Task[None]] = []

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            talks.append(asyncio.current_task())  # type: ignore[arg-type]
            writer.write(first)
            while serve is not None and (data := await reader.read(65536)):
                asked.append(data)
                answer = serve(data)
                writer.write(answer)
                if not answer:
                    continue
                if not first:
                    break
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        port: int = server.sockets[0].getsockname()[1]
        if serve is None:
            server.close()
            await server.wait_closed()
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[Answer] = loop.create_future()
        attempt = make(loop, port, answered.set_result)
        if impatient:
            while serve is not None and not asked and not first:
                await asyncio.sleep(0)
            attempt.time_is_up()
        if not answered.done():
            await asyncio.wait_for(answered, 10)
        answer = answered.result()
        attempt.give_up()
        server.close()
        while talks:
            with contextlib.suppress(ConnectionError):
                await talks.pop()
        return answer, asked

    return asyncio.run(main())


def getting(path: str = "/x", **fields: object) -> Callable[[asyncio.AbstractEventLoop, int, Done], Attempt]:
    def make(loop: asyncio.AbstractEventLoop, port: int, done: Done) -> Attempt:
        action = HTTPGetAction(path=path, port=port, **fields)  # type: ignore[arg-type]
        return HttpProbe(loop, "127.0.0.1", http_request(action, "127.0.0.1", port), done)

    return make


def answering(status: str, *headers: str, body: str = "ok") -> Serve:
    text = "\r\n".join([f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "", body])
    return lambda _: text.encode()


# -- HTTP


@pytest.mark.parametrize(
    ("status", "result", "message"),
    [
        ("200 OK", "success", ""),
        ("204 No Content", "success", ""),
        ("304 Not Modified", "warning", "Probe terminated redirects, Response body: "),
        ("404 Not Found", "failure", "HTTP probe failed with statuscode: 404"),
        ("500 Oh", "failure", "HTTP probe failed with statuscode: 500"),
    ],
)
def test_what_a_status_means(status: str, result: str, message: str) -> None:
    assert ask(getting(), answering(status))[0] == Answer(result, message)


def test_the_request_is_the_kubelet_s() -> None:
    _, (asked,) = ask(getting("healthz?a=b c#d"), answering("200 OK"))
    lines = asked.decode().split("\r\n")
    assert lines[0] == "GET /healthz?a=b%20c HTTP/1.1"
    assert lines[1].startswith("Host: 127.0.0.1:")
    assert lines[2:] == ["User-Agent: kube-probe/1.36", "Accept: */*", "Connection: close", "", ""]


def test_headers_replace_those_that_are_sent_by_themselves() -> None:
    headers = (("host", "a.example"), ("accept", ""), ("USER-AGENT", "me"), ("x-a", "1"), ("x-a", "2"))
    _, (asked,) = ask(
        getting(http_headers=tuple(HTTPHeader(name=name, value=value) for name, value in headers)), answering("200 OK")
    )
    assert asked.decode().split("\r\n")[1:-2] == [
        "Host: a.example",
        "User-Agent: me",
        "X-A: 1",
        "X-A: 2",
        "Connection: close",
    ]


def test_redirects_to_the_same_host_are_followed_and_ten_are_too_many() -> None:
    def once(request: bytes) -> bytes:
        if request.startswith(b"GET /x "):
            return answering("302 Found", "Location: y?z")(request)
        assert b"Referer: http://127.0.0.1" in request
        return answering("200 OK")(request)

    answer, asked = ask(getting(), once)
    assert answer == Answer("success")
    assert asked[1].startswith(b"GET /y?z HTTP/1.1\r\n")
    answer, asked = ask(getting(), answering("302 Found", "Location: /x"))
    assert answer.result == "failure"
    assert answer.message.endswith("stopped after 10 redirects")
    assert len(asked) == 10


@pytest.mark.parametrize("location", ["http://other.example/", "//other.example", "https://192.0.2.1:80/x"])
def test_a_redirect_to_another_host_is_a_warning_and_success(location: str) -> None:
    answer, asked = ask(getting(), answering("302 Found", f"Location: {location}", body="there"))
    assert answer == Answer("warning", "Probe terminated redirects, Response body: there")
    assert len(asked) == 1


def test_a_redirect_without_a_place_or_to_another_protocol() -> None:
    assert ask(getting(), answering("301 Moved"))[0].result == "warning"
    assert ask(getting(), answering("301 Moved", "Location: ftp://127.0.0.1/"))[0].result == "failure"


def test_nobody_there_and_nobody_answering() -> None:
    assert "connect: connection refused" in ask(getting())[0].message
    assert ask(getting(), lambda _: b"", impatient=True)[0].message.endswith(
        "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
    )
    answer, _ = ask(getting(scheme="HTTPS"), lambda _: b"HTTP/1.0 400 Bad Request\r\n\r\n")
    assert answer.message.endswith("http: server gave HTTP response to HTTPS client")


def test_a_body_that_breaks_off_is_an_error_that_counts_for_nothing() -> None:
    assert ask(getting(), lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab")[0].result == "error"


def test_something_else_than_http_is_a_failure() -> None:
    assert "malformed HTTP response" in ask(getting(), lambda _: b"SSH-2.0-OpenSSH\r\n")[0].message


def read(text: bytes, step: int) -> HttpAnswer:
    answer = HttpAnswer()
    for start in range(0, len(text), step):
        answer.feed(text[start : start + step])
        if answer.whole:
            break
    return answer


@pytest.mark.parametrize("step", [1, 2, 7, 1000])
def test_an_answer_may_come_in_any_pieces(step: int) -> None:
    head = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunked = head + b"3;x=y\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    answer = read(chunked, step)
    assert (answer.status, answer.body, answer.whole) == (200, b"abcde", True)
    plain = read(b"HTTP/1.0 404 Not Found\nContent-Length: 3\n\nabcdef", step)
    assert (plain.status, plain.body, plain.whole) == (404, b"abc", True)
    open_end = read(b"HTTP/1.0 200 OK\r\n\r\nabc", step)
    assert not open_end.whole
    assert open_end.end()
    assert open_end.body == b"abc"


def test_only_the_beginning_of_a_body_is_kept() -> None:
    answer = read(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100_000, 4096)
    assert answer.whole
    assert len(answer.body) == MAX_BODY


@pytest.mark.parametrize(
    "text",
    [
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 " + b"x" * (2 << 20),
    ],
)
def test_broken_answers_are_reported_as_such(text: bytes) -> None:
    with pytest.raises(MalformedError):
        read(text, 1 << 16)


# -- TCP


def tcp(loop: asyncio.AbstractEventLoop, port: int, done: Done) -> Attempt:
    return TcpProbe(loop, "127.0.0.1", "127.0.0.1", port, done)


def test_a_port_that_can_be_connected_to_is_well() -> None:
    assert ask(tcp, lambda _: b"")[0] == Answer("success")
    refused, _ = ask(tcp)
    assert refused.result == "failure"
    assert refused.message.endswith(": connect: connection refused")


def test_a_port_that_does_not_answer_in_time_has_failed() -> None:
    async def main() -> None:
        answers: list[Answer] = []
        tcp(asyncio.get_running_loop(), port, answers.append).time_is_up()
        assert answers == [Answer("failure", f"dial tcp 127.0.0.1:{port}: i/o timeout")]

    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):  # all that it lets wait
            asyncio.run(main())


def test_ports_are_numbers_numbers_in_quotes_or_names() -> None:
    container = Container(name="c", ports=(ContainerPort(name="web", container_port=8080),))
    assert [port_number(port, container) for port in (80, "81", "web")] == [80, 81, 8080]
    for wrong in ("other", 0, 70000):
        with pytest.raises(ValueError, match="port"):
            port_number(wrong, container)


# -- exec


@pytest.mark.parametrize(
    ("outcome", "answer"),
    [
        (ExecResult(0, b"fine", b""), Answer("success", "fine")),
        (ExecResult(3, b"a", b"b"), Answer("failure", "ab")),
        (TimeoutError(), Answer("failure", 'command timed out: "test -e /x" timed out after 1s')),
        (ContainerError("no such file"), Answer("error", "no such file")),
    ],
)
def test_a_command_s_end_is_the_answer(outcome: ExecResult | Exception, answer: Answer) -> None:
    def run(command: Sequence[str], timeout_s: float) -> Awaitable[ExecResult]:
        async def end() -> ExecResult:
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        return end()

    def make(loop: asyncio.AbstractEventLoop, port: int, done: Done) -> Attempt:
        return ExecProbe(loop, run, ("test", "-e", "/x"), 1, done)

    assert ask(make)[0] == answer


# -- gRPC: what the server of grpcio sent, byte for byte

HELLO = bytes.fromhex(
    "000018040000000000000400400000000500400000000600004000fe0300000001000004080000000000003f0001000000040100000000"
)
HEADERS = bytes.fromhex(
    "00004e01040000000188400c636f6e74656e742d74797065106170706c69636174696f6e2f677270634014677270632d6163636570742d"
    "656e636f64696e67176964656e746974792c206465666c6174652c20677a6970"
)
PING = bytes.fromhex("0000080600000000001" + "60abd012ff9f161")
SERVING = bytes.fromhex("000007000000000001" + "00000000020801")
TRAILERS = bytes.fromhex(
    "00001e010500000001400b677270632d7374617475730130000c677270632d6d65737361676500" + "00000408000000000000000005"
)


def grpc(loop: asyncio.AbstractEventLoop, port: int, done: Done) -> Attempt:
    return GrpcProbe(loop, "127.0.0.1", port, "svc", 1, done)


def speaking(*frames: bytes) -> Serve:
    def serve(data: bytes) -> bytes:
        return b"".join(frames) if b"/grpc.health.v1.Health/Check" in data else b""

    return serve


def test_a_service_that_serves_is_well() -> None:
    answer, asked = ask(grpc, speaking(PING, HEADERS, SERVING, TRAILERS), first=HELLO)
    assert answer == Answer("success", "service healthy")
    said = b"".join(asked)
    assert said.startswith(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    assert b"kube-probe/1.36" in said
    assert said.endswith(b"\x00\x00\x00\x00\x05\x0a\x03svc")


def test_a_service_that_does_not_serve_and_one_that_is_not_known() -> None:
    down = SERVING[:-1] + b"\x02"
    answer, _ = ask(grpc, speaking(HEADERS, down, TRAILERS), first=HELLO)
    assert answer == Answer("failure", 'service unhealthy (responded with "NOT_SERVING")')
    block = encode((("grpc-status", "5"), ("grpc-message", "no %C3%BC")))
    trailers = len(block).to_bytes(3, "big") + b"\x01\x05\x00\x00\x00\x01" + block
    answer, _ = ask(grpc, speaking(HEADERS, trailers), first=HELLO)
    assert answer.message == "error: health rpc probe failed: rpc error: code = NotFound desc = no ü"


def test_a_server_that_breaks_off_or_says_nothing_has_failed() -> None:
    broken, _ = ask(grpc, speaking(HEADERS, b"\xff\xff\xff\x00\x00\x00\x00\x00\x01"), first=HELLO)
    assert "code = Unavailable" in broken.message
    silent, _ = ask(grpc, lambda _: b"", impatient=True)
    assert silent.message.startswith("timeout: failed to connect service ")


def test_header_compression_as_the_rfc_shows_it() -> None:
    decoder = Decoder()
    blocks = [
        "828684418cf1e3c2e5f23a6ba0ab90f4ff",
        "828684be5886a8eb10649cbf",
        "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
    ]
    first, second, third = (decoder.decode(bytes.fromhex(block)) for block in blocks)
    assert first[b":authority"] == b"www.example.com"
    assert second == {**first, b"cache-control": b"no-cache"}
    assert (third[b":path"], third[b"custom-key"]) == (b"/index.html", b"custom-value")
    long = "x" * 300
    assert Decoder().decode(encode((("a", long),))) == {b"a": long.encode()}


@pytest.mark.parametrize("block", ["80", "ff8080808001", "be", "4085", "3fffff03", "418cf1"])
def test_broken_header_blocks_are_reported_as_such(block: str) -> None:
    with pytest.raises(HpackError):
        Decoder().decode(bytes.fromhex(block))
