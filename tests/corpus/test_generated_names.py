"""What a stranger in a pod sends to port 53, and what a resolver answers, generated."""

from __future__ import annotations

import tempfile
from pathlib import Path

import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minipod.names import wire
from minipod.names.loop import Loop
from minipod.names.serve import Answerer
from minipod.names.table import FILE, Pod, Table, encode

POD = Pod("default", "web", "web-0", "group", ("10.86.0.2", "fd00:86::2"), True, (("http", "tcp", 80),))
NAMES = (
    "web.default.svc.cluster.local", "web-0.group.default.svc.cluster.local", "10-86-0-2.default.pod.cluster.local",
    "_http._tcp.group.default.svc.cluster.local", "2.0.86.10.in-addr.arpa", "cluster.local", ".", "x" * 63 + ".pod",
)  # fmt: skip

good = st.builds(
    lambda name, kind, edns: dns.message.make_query(name, kind, use_edns=edns).to_wire(),
    st.sampled_from(NAMES),
    st.sampled_from(["A", "AAAA", "SRV", "PTR", "ANY", "TXT", "OPT", "TSIG", "AXFR", "TYPE65535"]),
    st.sampled_from([False, 0, 1]),
)
header = st.binary(min_size=12, max_size=12)
pieces = st.lists(
    st.sampled_from(
        [
            b"\xc0\x0c", b"\xc0\x00", b"\xff\xff", b"\x00", b"\x03web", b"\x3f" + b"x" * 63, b"\x00\x01\x00\x01",
            b"\x00\x00\x29\x10\x00\x00\x00\x00\x00\x00\x04\x00\x08\x00\x00", b"\x40",
        ]
    ),
    max_size=20,
)  # fmt: skip
built = st.builds(lambda first, parts: first + b"".join(parts), header, pieces)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A good question with a few bytes changed, cut off or added."""
    data = bytearray(draw(good))
    for _ in range(draw(st.integers(0, 4))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))]) + draw(st.binary(max_size=8))


messages = st.one_of(good, damaged(), built, st.binary(max_size=80))


@pytest.mark.attack(row=58)
@given(st.lists(messages, max_size=20))
def test_whatever_is_asked_gets_an_answer_of_its_number_or_none(questions: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, FILE).write_bytes(encode(Table("cluster.local", ("10.86.0.0/20",), (), (POD,))))
        answerer = Answerer(Loop(), f"{folder}/{FILE}")
        for question in questions:
            answers: list[bytes] = []
            answerer._answer(
                question, "10.86.0.9", "10.86.0.9 1", answers.append, False
            )  # raises for a fault of its own
            assert len(answers) <= 1
            for answer in answers:
                assert answer[:2] == question[:2]
                assert answer[2] & 0x80
                assert len(answer) <= wire.EDNS_BYTES
                dns.message.from_wire(answer)


@given(good, st.one_of(messages, st.binary(max_size=40)), st.booleans())
def test_whatever_a_resolver_answers_is_passed_on_for_this_question_or_not_at_all(
    asked: bytes, answer: bytes, begins_like_it: bool
) -> None:
    try:
        question = wire.read(asked)
    except wire.Refusal:
        return
    data = bytes([*asked[:2], asked[2] | 0x80, *asked[3 : question.end], *answer]) if begins_like_it else answer
    passed = wire.passed_on(question, data, wire.PLAIN_BYTES)
    if passed is not None:
        assert passed[:2] == asked[:2]
        assert len(passed) <= wire.PLAIN_BYTES
        assert (
            passed[wire.HEADER_BYTES :] == b""
            or passed[4:6] == b"\0\0"
            or passed[12 : question.end] == asked[12 : question.end]
        )
