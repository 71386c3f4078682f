"""What agent and spawner make of messages that are none: an error to the one concerned, nothing left open (unit)."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from minipod.runtime.spawner.client import ChildExit, SpawnerClient, SpawnError
from minipod.runtime.spawner.inbox import DESCRIPTOR_LIMIT, MESSAGE_LIMIT, BadMessage, Inbox, number_of, widen
from minipod.runtime.spawner.messages import report_of
from minipod.runtime.spawner.requests import request_of
from tests.descriptors import none_left_open, open_fds


def encoded(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def refusal(data: bytes, fds: list[int]) -> BadMessage:
    with pytest.raises(BadMessage) as caught:
        request_of(data, fds)
    return caught.value


# -- requests


def test_a_request_is_decoded_with_its_descriptors_by_name() -> None:
    request, named = request_of(encoded(id=3, do="launch", key="k", fds=["program", "target"]), [7, 8])
    assert (request.id, request.do, request.key, named) == (3, "launch", "k", {"program": 7, "target": 8})


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b'{"id":5,"do":"forget","key":"\xff"}', "utf-8"),
        (b'{"id":5,"do":"list"', "not understood"),
        (b'{"id":5,"do":"list","x":' + b"[" * 100_000, "not understood"),
        (b'{"id":5,"do":"fly"}', "do"),
        (b'{"id":5}', "do"),
        (b'{"do":"fly","id":5}', "do"),
        (encoded(id=5, do="forget"), "needs a key"),
        (encoded(id=5, do="forget", key=7), "key"),
        (encoded(id=5, do="forget", key="../../etc/passwd"), "key"),
        (encoded(id=5, do="forget", key=".."), "key"),
        (encoded(id=5, do="forget", key="a\n"), "key"),
        (encoded(id=5, do="forget", key="k" * 300), "key"),
        (encoded(id=5, do="spawn", key="k", stdio="tape"), "stdio"),
        (encoded(id=5, do="spawn", key="k", clone=[]), "clone"),
        (encoded(id=5, do="launch", key="k"), "needs the descriptor program"),
        (encoded(id=5, do="hold", key="k", pid=7), "needs the descriptor pidfd"),
        (encoded(id=5, do="hold", key="k", pid=-1), "pid: must be a process"),
        (encoded(id=5, do="hold", key="k", pid=1, started_at_ns=1 << 63), "started_at_ns: must be a time"),
        (encoded(id=5, do="list", after="../x"), "after"),
        (encoded(id=5, do="list", fds=["a"]), "1 descriptors are named, 0 came"),
        (encoded(id=5, do="list", fds="a"), "fds"),
        (encoded(id=5, do="list", fds=None), "fds"),
    ],
    ids=lambda value: value[:40] if isinstance(value, bytes) else "",
)
def test_what_is_no_request_is_refused_with_its_number(data: bytes, why: str) -> None:
    error = refusal(data, [])
    assert error.number == 5
    assert why in str(error)


@pytest.mark.parametrize("data", [b"\xff", b"[]", b"5", b'{"id":"x","do":"list"}', b'{"id":null}', b"{" * 100_000])
def test_of_what_has_no_number_none_is_invented(data: bytes) -> None:
    assert refusal(data, []).number is None


def test_more_descriptors_than_names_and_equal_names_are_refused() -> None:
    assert "0 descriptors are named, 2 came" in str(refusal(encoded(id=1, do="list"), [3, 4]))
    assert "same name" in str(refusal(encoded(id=1, do="list", fds=["a", "a"]), [3, 4]))


def test_a_number_is_found_in_what_was_cut_off() -> None:
    assert number_of(b'{"id":17,"do":"spawn","ops":[{') == 17
    assert number_of(b'{"id":17') is None


# -- receiving


def pair() -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for sock in (ours, theirs):
        widen(sock)
        sock.setblocking(False)
    return ours, theirs


def test_descriptors_of_a_message_that_was_cut_off_are_closed() -> None:
    ours, theirs = pair()
    before = open_fds()
    inbox = Inbox()
    for data, count in ((encoded(id=9, do="list"), DESCRIPTOR_LIMIT + 4), (b'{"id":9,"x":"' + bytes(MESSAGE_LIMIT), 1)):
        socket.send_fds(theirs, [data], [0] * count)
        with pytest.raises(BadMessage) as caught:
            inbox.receive(ours)
        assert caught.value.number == 9
        assert open_fds() == before
    for sock in (ours, theirs):
        sock.close()


def test_an_empty_message_keeps_no_descriptor() -> None:
    ours, theirs = pair()
    before = open_fds()
    socket.send_fds(theirs, [b""], [0, 0])
    data, fds = Inbox().receive(ours)
    assert (bytes(data), fds) == (b"", [])
    assert open_fds() == before
    for sock in (ours, theirs):
        sock.close()


def anonymous_kib() -> int:
    with open("/proc/self/smaps_rollup", encoding="ascii") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith("Anonymous:"))


def test_an_inbox_takes_memory_for_what_came_and_gives_it_back_before_the_next_message() -> None:
    ours, theirs = pair()
    message = bytes(MESSAGE_LIMIT // 2)
    before = anonymous_kib()
    inbox = Inbox()
    assert anonymous_kib() - before < 512
    theirs.send(message)
    assert inbox.receive(ours)[0] == message
    theirs.send(b"short")
    assert bytes(inbox.receive(ours)[0]) == b"short"
    assert anonymous_kib() - before < 512
    for sock in (ours, theirs):
        sock.close()


# -- a child's report


@pytest.mark.parametrize(
    "report",
    [
        b"[]",
        b'{"facts":[]}',
        b'{"facts":{"home":NaN}}',
        b'{"facts":{"home":1e999}}',
        b'{"facts":{"home":"\\ud800"}}',
        b'{"facts":{"uid":9223372036854775808}}',
        b'{"facts":{"groups":[[1]]}}',
        b'{"facts":{"groups":' + b"[" * 900 + b"]" * 900 + b"}}",
        b'{"facts":{"a":{"b":1}}}',
        b'{"error":5}',
        b'{"error":{"message":5}}',
        b'{"error":{"message":"m","errno":"x"}}',
        b'{"facts":{' + b"[" * 100_000,
    ],
)
def test_a_report_is_what_the_agent_can_read_or_none(report: bytes) -> None:
    """A process of the container that may trace the child writes what it wants."""
    with pytest.raises(BadMessage):
        report_of(report)


def test_of_a_report_only_what_is_known_is_taken() -> None:
    assert report_of(b'{"facts":{"uid":5,"home":"/","groups":[1,2]},"x":1}') == (
        {"uid": 5, "home": "/", "groups": [1, 2]},
        None,
    )
    assert report_of(b'{"error":{"message":"m","errno":2,"more":[]}}') == (
        {},
        {"message": "m", "errno": 2, "reason": "", "op": ""},
    )


# -- the agent's end


class Fake:
    """A spawner that says what the test has it say."""

    def __init__(self, folder: Path) -> None:
        self.ends: list[ChildExit] = []
        self.lost = 0
        path = str(folder / "spawner.sock")
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(path)
        self._listener.listen(1)
        self.client = SpawnerClient(self.ends.append, self._lost)
        self.client.connect(path)
        self.socket, _ = self._listener.accept()
        self.socket.setblocking(False)

    def _lost(self) -> None:
        self.lost += 1

    async def asked(self) -> int:
        """The number of the next request."""
        data = await asyncio.get_running_loop().sock_recv(self.socket, 1 << 16)
        number: int = json.loads(data)["id"]
        return number

    def say(self, data: bytes, fds: tuple[int, ...] = ()) -> None:
        socket.send_fds(self.socket, [data], list(fds))

    def close(self) -> None:
        self.client.close()
        self.socket.close()
        self._listener.close()


def with_fake(folder: Path, test: Callable[[Fake], Awaitable[None]]) -> None:
    async def main() -> None:
        fake = Fake(folder)
        try:
            async with asyncio.timeout(5):
                await test(fake)
        finally:
            fake.close()

    with none_left_open():
        asyncio.run(main())


def launching(fake: Fake) -> asyncio.Future[Any]:
    return asyncio.ensure_future(fake.client.launch("k", {}))


ANSWER = {"pid": 1, "started_at_ns": 1, "facts": {}}


@pytest.mark.parametrize(
    ("answer", "fd_count"),
    [
        (b'{"id":%d,"pid":1,"facts":{"a":"\xff"}}', 0),
        (b'{"id":%d,"pid":', 1),
        (b'{"id":%d}', 0),
        (b'{"id":%d,"fds":["pidfd"],"pid":"x","started_at_ns":1,"facts":{}}', 1),
        (b'{"id":%d,"fds":["pidfd","stdin"],"pid":1,"started_at_ns":1,"facts":{}}', 1),
        (b'{"id":%d,"fds":["pidfd"],"pid":1,"started_at_ns":1,"facts":{}}', 0),
        (b'{"id":%d,"fds":["a","a"],"pid":1,"started_at_ns":1,"facts":{}}', 2),
        (b'{"id":%d,"fds":[],"pid":1,"started_at_ns":1,"facts":{}}', 2),
        (b'{"id":%d,"fds":[],"pid":1,"started_at_ns":1,"facts":{}}', DESCRIPTOR_LIMIT + 1),
        (b'{"id":%d,"error":{"message":5}}', 0),
        (b'{"id":%d,"error":"broken"}', 2),
    ],
)
def test_an_answer_that_is_none_ends_its_request_alone(tmp_path: Path, answer: bytes, fd_count: int) -> None:
    async def test(fake: Fake) -> None:
        first, second = launching(fake), launching(fake)
        numbers = [await fake.asked(), await fake.asked()]
        fake.say(answer % numbers[0], (0,) * fd_count)
        with pytest.raises(SpawnError, match="the spawner's answer is"):
            await first
        fake.say(encoded(id=numbers[1], **ANSWER))
        assert (await second).pid == 1
        assert fake.lost == 0

    with_fake(tmp_path, test)


@pytest.mark.parametrize("said", [b"\xff", b"[]", b"{}", b'{"exit":5}', b'{"exit":{"key":"k"}}', b"[" * 100_000])
def test_what_may_be_anybodys_answer_leaves_nobody_waiting(tmp_path: Path, said: bytes) -> None:
    async def test(fake: Fake) -> None:
        waiting = [launching(fake), launching(fake)]
        for _ in waiting:
            await fake.asked()
        fake.say(said, (0,))
        for one in waiting:
            with pytest.raises(SpawnError, match="the spawner is gone"):
                await one
        assert fake.lost == 1

    with_fake(tmp_path, test)


def test_descriptors_of_an_answer_that_nobody_waits_for_any_more_are_closed(tmp_path: Path) -> None:
    async def test(fake: Fake) -> None:
        early, late = launching(fake), launching(fake)
        numbers = [await fake.asked(), await fake.asked()]
        early.cancel()
        for number in (*numbers, 999):
            fake.say(encoded(id=number, fds=["pidfd"], **ANSWER), (0,))
        fake.client._readable()  # the answer is there, and then, before anybody has it:
        late.cancel()
        for one in (early, late):
            with pytest.raises(asyncio.CancelledError):
                await one

    with_fake(tmp_path, test)
