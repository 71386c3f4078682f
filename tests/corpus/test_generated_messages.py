"""Generated messages: whatever bytes come to agent and spawner are messages or faults, and nothing stays open."""

from __future__ import annotations

import array
import asyncio
import contextlib
import json
import os
import socket
import unicodedata
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from minipod.control.wire import Connection, Held, WireError
from minipod.runtime.spawner.inbox import BadMessage, number_of
from minipod.runtime.spawner.requests import request_of
from minipod.terminal import behind, escaped, one_line

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)

# -- the control socket

lines = st.one_of(
    st.dictionaries(st.sampled_from(["verb", "version", "x"]), st.text(max_size=8), max_size=3).map(json.dumps),
    values.map(json.dumps),
    st.just('{"fds": ["stdin"]}'),
    st.text(max_size=20),
).map(lambda text: text.encode(errors="replace") + b"\n") | st.binary(max_size=20)


@given(st.lists(lines, max_size=8), st.lists(st.integers(1, 60), max_size=8), st.lists(st.integers(0, 3), max_size=8))
def test_lines_are_heard_up_to_the_first_fault_and_nothing_stays_open(
    sent: list[bytes], sizes: list[int], descriptors: list[int]
) -> None:
    """However they are cut, and whatever descriptors come with a piece."""

    async def main() -> None:
        held, loop = Held(), asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        connection = Connection(ours, loop, held)
        data = b"".join(sent)
        for number, size in enumerate([*sizes, len(data)]):
            piece, data = data[:size], data[size:]
            fds = array.array("i", [0] * (descriptors[number] if number < len(descriptors) else 0))
            if piece:
                theirs.sendmsg([piece], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)] if fds else [])
            await asyncio.sleep(0)
        theirs.close()
        heard = []
        try:
            while (message := await connection.receive()) is not None:
                heard.append(message.line)
                assert len(message.fds) == len(message.head.fds)
                message.close_fds()
        except WireError:
            pass
        assert heard == b"".join(sent).split(b"\n")[: len(heard)]
        connection.close()
        assert held.count == 0

    before = len(os.listdir("/proc/self/fd"))
    asyncio.run(main())
    assert len(os.listdir("/proc/self/fd")) == before


# -- the spawner

fields = {
    "id": st.integers(-5, 1 << 60) | values,
    "do": st.sampled_from(["spawn", "launch", "kill", "list", "reattach", "close_stdin", "forget"]) | values,
    "key": st.sampled_from(["k", "a.exec.b", "../k", ""]) | values,
    "clone": st.fixed_dictionaries({"pid_namespace": st.sampled_from(["", "target"])}) | values,
    "ops": st.just([{"op": "Exec", "argv": ["x"], "env": []}]) | values,
    "stdio": st.sampled_from(["pipes", "fds", "terminal"]) | values,
    "fds": st.lists(st.sampled_from(["program", "target", "stdin"]), max_size=3) | values,
}
requests = st.fixed_dictionaries({}, optional=fields)


@given(requests, st.integers(0, 3))
def test_a_request_to_the_spawner_is_one_or_is_refused_by_its_number(request: dict[str, Any], fd_count: int) -> None:
    refused = None
    try:
        decoded, named = request_of(json.dumps(request).encode(), [7] * fd_count)
    except BadMessage as error:
        refused = error
    if refused is not None:
        number = request.get("id")
        assert refused.number == (number if isinstance(number, int) and not isinstance(number, bool) else None)
        assert str(refused)
        return
    assert (decoded.id, decoded.do, len(named)) == (request["id"], request["do"], fd_count)
    assert "/" not in decoded.key
    assert decoded.key not in (".", "..")


@given(st.binary(max_size=60) | requests.map(lambda one: json.dumps(one).encode()[: len(one) * 7]))
def test_no_bytes_are_a_fault_of_another_kind(data: bytes) -> None:
    number_of(data)
    with contextlib.suppress(BadMessage):
        request_of(data, [])


# -- terminals


@given(st.text(max_size=60))
def test_no_text_steers_a_terminal(text: str) -> None:
    shown = escaped(text)
    assert not [char for char in shown if unicodedata.category(char) == "Cc" and char not in "\n\t"]
    assert not set(shown) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
    assert escaped(shown) == shown
    assert len(one_line(text).splitlines()) <= 1


@given(st.binary(max_size=60).filter(lambda text: b"\n" not in text))
def test_no_line_leaves_its_prefix(text: bytes) -> None:
    shown = behind(b"a | ", text).removesuffix(b"\r")
    assert all(part.startswith(b"a | ") for part in shown.split(b"\r")[1:])
    assert not any(code in shown for code in (b"\x08", b"\x1bc", b"\x1b]", b"\x7f", b"\xc2\x9b"))
