"""The control socket's bounds: malformed, endless, greedy and silent peers are answered, others served (unit)."""

from __future__ import annotations

import array
import asyncio
import contextlib
import errno
import json
import os
import resource
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from minipod import __version__
from minipod.control import server, wire
from minipod.control.wire import Connection, Held, Message, WireError
from tests.descriptors import none_left_open
from tests.unit.test_agent_wire import pair, received, send_fds

PATIENCE_S = 10


class Served:
    """A server with two verbs: `echo` answers at once, `wait` when its peer is gone."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "agent.sock")
        self.ended = 0
        self.server = server.Server(server.listen(self.path), self.path, self._verbs(), lambda: None)
        self.server.start()

    def _verbs(self) -> dict[str, server.Verb]:
        async def echo(connection: Connection, request: Message) -> dict[str, Any]:
            return {"fds": len(request.fds)}

        async def wait(connection: Connection, request: Message) -> dict[str, Any]:
            connection.send({"event": "waiting"})
            await connection.gone
            self.ended += 1
            return {}

        return {"echo": echo, "exec": echo, "wait": wait}

    async def connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, self.path)
        return sock

    async def ask(self, line: bytes, fds: tuple[int, ...] = ()) -> dict[str, Any]:
        with await self.connect() as sock:
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
            sent = sock.sendmsg([line], rights)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                await asyncio.get_running_loop().sock_sendall(sock, line[sent:])
            return await last_line(sock)


async def last_line(sock: socket.socket) -> dict[str, Any]:
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := await asyncio.get_running_loop().sock_recv(sock, 1 << 16):
            data += chunk
    answer: dict[str, Any] = json.loads(data.splitlines()[-1])
    return answer


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


def serve(folder: Path, test: Callable[[Served], Awaitable[None]]) -> None:
    async def main() -> None:
        served = Served(folder)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await test(served)
                assert await served.ask(line(verb="echo")) == {"ok": True, "fds": 0}  # the others are served
                await until(lambda: not served.server.connections)
        finally:
            await served.server.stop()

    with none_left_open():
        asyncio.run(main())


def line(**fields: Any) -> bytes:
    return json.dumps({"version": __version__, **fields}).encode() + b"\n"


@pytest.mark.parametrize(
    "sent",
    [
        b'{"verb":"\xff"}\n',
        b'{"verb":"echo","version":"\xff"}\n',
        b"\n",
        b"\0\n",
        b'"\\ud800"\n',
        b"[" * 100_000 + b"\n",
        b'{"x":' * 100_000 + b"\n",
        b"1" * 100_000 + b"\n",
        b"null\n",
        b'{"verb":5}\n',
        b'{"verb":["echo"]}\n',
        b'{"verb":"echo","fds":5}\n',
        b'{"verb":"echo","fds":null}\n',
        b'{"verb":"echo","fds":[5]}\n',
        b'{"verb":"echo","fds":["a","b","c","d"]}\n',
        b'{"verb":"echo","version":7}\n',
        b'{"version":"x"}\n',
        b'{"verb":"echo"}\n',
        line(verb="fly"),
        line(verb="f" * 100_000),
        line(verb="echo", fds=["stdin"]),
        line(verb="echo", fds=["stdin", "stdout"]),
        line(verb="echo", fds=["stdin", "stdout", "stderr"]),
        line(verb="exec"),
    ],
    ids=lambda sent: sent[:30],
)
def test_what_is_no_request_is_answered_and_its_descriptors_are_closed(tmp_path: Path, sent: bytes) -> None:
    async def test(served: Served) -> None:
        answer = await served.ask(sent, (0, 0))
        assert answer["error"]["kind"] in ("Usage", "VersionMismatch")
        assert len(answer["error"]["message"]) < 1000

    serve(tmp_path, test)


def test_of_a_key_that_is_there_twice_the_last_one_counts(tmp_path: Path) -> None:
    async def test(served: Served) -> None:
        assert (await served.ask(b'{"verb":"fly",' + line(verb="echo")[1:]))["ok"]

    serve(tmp_path, test)


def test_an_error_that_repeats_the_request_is_cut(tmp_path: Path) -> None:
    assert len(server.error_body(KeyError("x" * 10**7), "get")["error"]["message"]) < 20_000


def test_a_request_without_end_is_refused_while_it_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_LINE_BYTES", 1 << 20)

    async def test(served: Served) -> None:
        with await served.connect() as sock:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                for _ in range(1000):
                    await asyncio.get_running_loop().sock_sendall(sock, b"x" * (1 << 20))
                pytest.fail("it took 1 GB")
            assert "longer than 1 MiB" in (await last_line(sock))["error"]["message"]

    serve(tmp_path, test)


def test_half_a_request_is_not_waited_for_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_REQUEST_S", 0.05)

    async def test(served: Served) -> None:
        assert "no whole request" in (await served.ask(b'{"verb":', (0,)))["error"]["message"]

    serve(tmp_path, test)


@pytest.mark.parametrize("said", [b"\xff\n", b"x" * (wire.MAX_WORD_BYTES + 1), b"{}\n" * 1000, b'{"fds":["a"]}\n'])
def test_nonsense_while_a_verb_runs_leaves_it_alone_and_its_peer_s_end_is_noticed(tmp_path: Path, said: bytes) -> None:
    async def test(served: Served) -> None:
        with await served.connect() as sock:
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(sock, line(verb="wait"))
            assert await loop.sock_recv(sock, 100) == b'{"event":"waiting"}\n'
            for _ in range(3):
                await loop.sock_sendall(sock, said)
            send_fds(sock, b"more\n", [0, 0])
            assert await served.ask(line(verb="echo")) == {"ok": True, "fds": 0}
            assert not served.ended
        await until(lambda: served.ended == 1)

    serve(tmp_path, test)


def test_more_connections_than_can_be_served_are_refused_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 3)

    async def test(served: Served) -> None:
        with contextlib.ExitStack() as stack:
            for _ in range(3):
                stack.enter_context(await served.connect())
            await until(lambda: served.server.connections == 3)
            answer = await served.ask(b"")
            assert answer["error"]["kind"] == "Host"
            assert "try again" in answer["error"]["message"]
        await until(lambda: not served.server.connections)

    serve(tmp_path, test)


def test_a_process_without_free_descriptors_pauses_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_PAUSE_S", 0.05)
    asked: list[float] = []

    class Full:
        """Its accept(2) fails for a while, as with EMFILE; the socket stays readable."""

        def __init__(self, sock: socket.socket) -> None:
            self._sock = sock

        def accept(self) -> Any:
            asked.append(time.monotonic())
            if asked[-1] - asked[0] < 0.2:
                raise OSError(errno.EMFILE, "Too many open files")
            return self._sock.accept()

        def __getattr__(self, name: str) -> Any:
            return getattr(self._sock, name)

    async def test(served: Served) -> None:
        served.server._sock = Full(served.server._sock)  # type: ignore[assignment]
        assert (await served.ask(line(verb="echo")))["ok"]
        assert len(asked) < 20, "it tried all the time"

    serve(tmp_path, test)


# -- one connection


def test_halves_of_large_requests_are_bounded_over_all_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_HELD_BYTES", 300_000)

    async def main() -> None:
        held, loop = Held(), asyncio.get_running_loop()
        pairs = [socket.socketpair() for _ in range(3)]
        first, second, small = [Connection(ours, loop, held) for ours, _ in pairs]
        await loop.sock_sendall(pairs[0][1], b"x" * 200_000)
        await until(lambda: held.count == 200_000)
        await loop.sock_sendall(pairs[1][1], b"x" * 200_000)
        with pytest.raises(WireError, match="too many large requests"):
            await second.receive()
        await loop.sock_sendall(pairs[2][1], b"{}\n")
        await received(small)
        for connection in (first, second, small):
            connection.close()
        assert held.count == 0
        for _, theirs in pairs:
            theirs.close()

    asyncio.run(main())


def test_events_that_are_not_read_are_bounded_over_all_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_HELD_BYTES", 6_000_000)

    async def main() -> None:
        held, loop = Held(), asyncio.get_running_loop()
        pairs = [socket.socketpair() for _ in range(3)]
        connections = [Connection(ours, loop, held) for ours, _ in pairs]
        for connection in connections:
            for _ in range(40):
                connection.send({"event": "x" * 100_000})
        assert [connection.gone.done() for connection in connections] == [False, True, True]
        for connection in connections:
            connection.close()
        assert held.count == 0
        for _, theirs in pairs:
            theirs.close()

    asyncio.run(main())


def test_a_long_answer_waits_for_a_reader_that_is_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "_MUCH_UNREAD", 100_000)
    monkeypatch.setattr(wire, "MAX_UNREAD_BYTES", 500_000)

    async def main() -> None:
        connection, peer = pair()
        loop = asyncio.get_running_loop()

        async def read() -> int:
            count = 0
            while chunk := await loop.sock_recv(peer, 1 << 16):
                count += len(chunk)
            return count

        reader = asyncio.ensure_future(read())
        for _ in range(100):
            connection.send({"event": "x" * 100_000})
            await connection.relieve()
        await connection.drain()
        connection.close()
        assert await asyncio.wait_for(reader, PATIENCE_S) > 10_000_000
        peer.close()

    asyncio.run(main())


async def hear_all(connection: Connection) -> None:
    while True:
        await received(connection)


@pytest.mark.parametrize("said", [b"{}\n" * (wire.MAX_WAITING_WORDS + 1), b"{}\n" + b"x" * (wire.MAX_WORD_BYTES + 1)])
def test_what_is_said_after_a_request_is_bounded(said: bytes) -> None:
    async def main() -> None:
        connection, peer = pair()
        await asyncio.get_running_loop().sock_sendall(peer, said)
        await received(connection)
        with pytest.raises(WireError, match=r"lines were sent|a line after"):
            await asyncio.wait_for(hear_all(connection), PATIENCE_S)
        connection.close()
        peer.close()

    asyncio.run(main())


def test_more_descriptors_than_a_line_may_have_are_refused_and_closed() -> None:
    async def main() -> None:
        for count in (wire.MAX_WAITING_FDS + 1, 100):
            connection, peer = pair()
            send_fds(peer, b"{}\n", [0] * count)
            with pytest.raises(WireError, match="more than 16 descriptors"):
                await connection.receive()
            connection.close()
            peer.close()

    with none_left_open():
        asyncio.run(main())


def test_descriptors_that_this_process_cannot_open_are_named_as_such() -> None:
    async def main() -> None:
        connection, peer = pair()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        try:
            free = os.dup(0)
            os.close(free)
            resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
            send_fds(peer, b'{"fds":["a","b"]}\n', [0] * 16)
            with pytest.raises(WireError, match="the agent has no descriptor free for those of the command: delete"):
                await connection.receive()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        connection.close()
        peer.close()

    with none_left_open():
        asyncio.run(main())


def test_descriptors_that_no_line_names_are_refused_and_closed() -> None:
    async def main() -> None:
        connection, peer = pair()
        before = len(os.listdir("/proc/self/fd"))
        send_fds(peer, b'{"fds":["stdin"]}\n', [0, 0])
        with pytest.raises(WireError, match="no line names"):
            await connection.receive()
        assert len(os.listdir("/proc/self/fd")) == before
        connection.close()
        peer.close()

    asyncio.run(main())
