"""What a stranger in a pod sends and writes, generated: answers to probes, log files, references in variables."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from pathlib import Path
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from minipod.agent.probes.kinds import grpc
from minipod.agent.probes.kinds.connection import Answer
from minipod.agent.probes.kinds.hpack import Decoder, HpackError, encode
from minipod.agent.probes.kinds.http import http_request
from minipod.agent.probes.kinds.http_answer import MAX_BODY, HttpAnswer, MalformedError
from minipod.api.types import HTTPGetAction, HTTPHeader
from minipod.plan import env
from minipod.runtime import log_history
from minipod.streams import crilog

# -- HTTP

pieces = st.one_of(
    st.sampled_from(
        [
            b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 302 Found\n", b"HTTP/1.1 103 Hint\r\n\r\n", b"HTTP/1.1 999 x\r\n",
            b"Transfer-Encoding: chunked\r\n", b"Content-Length: 5\r\n", b"Content-Length: \xb2\r\n", b":",
            b"Location: //[\r\n", b"\r\n", b"\n", b"\r\n\r\n", b"5\r\nabcde\r\n", b"0\r\n", b"-1\r\n",
            b"ffffffffffffffff\r\n", b"5;x=y\r\n",
        ]
    ),
    st.binary(max_size=12),
)  # fmt: skip
answers = st.lists(pieces, max_size=30)


def read(texts: list[bytes]) -> tuple[int, bytes, bool] | None:
    """None: malformed."""
    answer = HttpAnswer()
    try:
        for text in texts:
            answer.feed(text)
            if answer.whole:
                break
        else:
            answer.end()
    except MalformedError:
        return None
    assert len(answer.body) <= MAX_BODY
    return answer.status, answer.body, answer.whole


@given(answers)
def test_whatever_is_answered_is_read_or_malformed_in_whatever_pieces(texts: list[bytes]) -> None:
    whole = b"".join(texts)
    at_once = read([whole])
    byte_by_byte = read([whole[at : at + 1] for at in range(len(whole))])
    if at_once is not None and byte_by_byte is not None:
        assert at_once == byte_by_byte


@given(st.text(max_size=30), st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8)), max_size=3))
def test_whatever_is_asked_for_is_one_request_or_refused(path: str, headers: list[tuple[str, str]]) -> None:
    made = tuple(HTTPHeader(name=name, value=value) for name, value in headers)
    request = http_request(HTTPGetAction(path=path, port=80, http_headers=made), "10.0.0.1", 80)
    if request.fault():
        return
    lines = request.lines()
    assert lines.count(b"\r\n") == lines.count(b"\n") == lines.count(b"\r")
    first, *sent = lines[:-4].split(b"\r\n")
    assert first.startswith(b"GET /")
    assert first.endswith(b" HTTP/1.1")
    assert first.count(b" ") == 2
    own = {b"Host", b"User-Agent", b"Accept", b"Connection"}
    assert len([line for line in sent if line.partition(b":")[0] not in own]) <= len(headers)


# -- gRPC

frames = st.builds(
    lambda kind, flags, stream, payload: (
        len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload
    ),
    st.one_of(st.sampled_from([0, 1, 3, 4, 6, 7, 9]), st.integers(0, 255)),
    st.one_of(st.sampled_from([0, 1, 4, 5, 8, 0x20]), st.integers(0, 255)),
    st.sampled_from([0, 1, 3, 0xFFFFFFFF]),
    st.one_of(
        st.binary(max_size=30),
        st.lists(st.tuples(st.sampled_from(["grpc-status", ":status", "x"]), st.text(max_size=5)), max_size=3).map(
            encode
        ),
    ),
)
HELLO = b"\0\0\0\x04\0\0\0\0\0"


class NoConnection:
    """What is sent goes nowhere."""

    def __init__(self, *_: object) -> None:
        self.is_closed = False

    def start(self) -> None:
        """Nothing is dialled."""

    def close(self) -> None:
        self.is_closed = True


@given(st.lists(st.one_of(frames, st.binary(max_size=20)), max_size=12))
def test_whatever_frames_come_the_call_has_one_answer_at_most(texts: list[bytes]) -> None:
    given_answers: list[Answer] = []
    loop = asyncio.new_event_loop()
    try:
        with mock.patch.object(grpc, "Connection", NoConnection):
            probe = grpc.GrpcProbe(loop, "10.0.0.1", 1, "svc", 1, given_answers.append)
            probe.connected()
            for text in [HELLO, *texts]:
                if isinstance(probe._connection, NoConnection) and not probe._connection.is_closed:
                    assert len(probe.received(text)) < 4096
            assert len(given_answers) <= 1
            probe.give_up()
    finally:
        loop.close()


@given(st.binary(max_size=200))
def test_any_block_of_headers_is_read_or_refused(block: bytes) -> None:
    with contextlib.suppress(HpackError):
        Decoder().decode(block)


# -- logs

rows = st.one_of(
    st.builds(
        lambda stream, tag, text: b"2026-01-02T03:04:05Z %s %s %s" % (stream, tag, text),
        st.sampled_from([b"stdout", b"stderr", b"x"]),
        st.sampled_from([b"F", b"P", b"F:x", b""]),
        st.binary(max_size=20),
    ),
    st.binary(max_size=20),
)


@given(st.lists(rows, max_size=20), st.booleans(), st.integers(1, 25))
def test_any_log_file_is_read_whole_and_from_where_its_last_lines_begin(
    texts: list[bytes], is_ended: bool, count: int
) -> None:
    data = b"\n".join(texts) + (b"\n" if is_ended else b"")
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(crilog, "CHUNK", 16):
        path = Path(folder, "0.log")
        path.write_bytes(data)
        assert b"".join(log_history.chunks(str(path))) == data
        for part in log_history.chunks(str(path)):
            crilog.plain_text(part)
            crilog.parse(part)
        with log_history.at_once(str(path)) as (file,):
            start, found = crilog.tail_offset(file, count)
        assert 0 <= start <= len(data)
        assert found <= count
        os.truncate(path, start)
        follower = crilog.Follower(str(path))
        assert b"".join(follower.read()) + follower.remainder() == data[:start]
        follower.close()


# -- $(VAR)

references = st.lists(st.sampled_from(["$(A)", "$(B)", "$(C)", "$$", "$(", "x", ")"]), max_size=40).map("".join)


@given(references, references, references, st.integers(1, 400))
def test_expansion_is_bounded_whatever_refers_to_what(a: str, b: str, c: str, limit: int) -> None:
    with mock.patch.object(env, "MAX_STRING", limit):
        known: dict[str, str] = {}
        for name, text in (("A", a), ("B", b), ("C", c), ("D", a * 2)):
            known[name] = env.expand(text, known)
            longest = max(map(len, [*known.values(), text]))
            assert len(env.expand(text, known)) <= limit + longest + len(text)
