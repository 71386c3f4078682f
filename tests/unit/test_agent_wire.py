"""The control socket: lines, descriptors, errors, peers that leave (unit)."""

from __future__ import annotations

import array
import asyncio
import contextlib
import errno
import json
import os
import socket
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from minipod import __version__
from minipod.control import server
from minipod.control.wire import MAX_LINE_BYTES, Connection, Message, WireError
from minipod.errors import (
    ConflictError,
    HostError,
    ImageError,
    ManifestError,
    NotFoundError,
    RuntimeFailure,
    UsageError,
)
from minipod.kernel import descriptors
from tests.descriptors import open_fds


def pair() -> tuple[Connection, socket.socket]:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    return Connection(ours, asyncio.get_running_loop()), theirs


def send_fds(sock: socket.socket, data: bytes, fds: list[int]) -> None:
    sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])


async def received(connection: Connection) -> Message:
    message = await asyncio.wait_for(connection.receive(), 5)
    assert message is not None
    return message


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


def test_lines_arrive_whole_however_they_are_cut() -> None:
    async def main() -> None:
        connection, peer = pair()
        for byte in b'{"verb":"get"}\n{"a":':
            peer.send(bytes([byte]))
            await asyncio.sleep(0)
        assert (await received(connection)).line == b'{"verb":"get"}'
        peer.send(b"1}\n")
        assert (await received(connection)).line == b'{"a":1}'
        peer.close()
        assert await connection.receive() is None
        assert connection.gone.done()
        connection.close()

    run(main())


def test_descriptors_go_to_the_line_that_names_them() -> None:
    async def main() -> None:
        connection, peer = pair()
        read_fd, write_fd = os.pipe()
        peer.send(b'{"n":1}\n')
        send_fds(peer, b'{"n":2,"fds":["stdin","stdout"]}\n{"n":3}\n', [read_fd, write_fd])
        messages = [await received(connection) for _ in range(3)]
        assert [len(message.fds) for message in messages] == [0, 2, 0]
        os.write(messages[1].fds[1], b"x")
        assert os.read(read_fd, 1) == b"x"
        messages[1].close_fds()
        for fd in (read_fd, write_fd):
            os.close(fd)
        peer.close()
        connection.close()

    before = open_fds()
    run(main())
    assert open_fds() == before


def test_descriptors_that_nobody_takes_are_closed() -> None:
    async def main() -> None:
        connection, peer = pair()
        read_fd, write_fd = os.pipe()
        send_fds(peer, b'{"n":1}\n{"fds":["stdin"]', [read_fd, write_fd])
        await received(connection)
        connection.close()
        for fd in (read_fd, write_fd):
            os.close(fd)
        peer.close()

    before = open_fds()
    run(main())
    assert open_fds() == before


def test_a_line_that_names_descriptors_which_did_not_come_is_refused() -> None:
    async def main() -> None:
        connection, peer = pair()
        peer.send(b'{"fds":["stdin"]}\n')
        with pytest.raises(WireError, match="did not come"):
            await connection.receive()
        peer.close()
        connection.close()

    run(main())


@pytest.mark.parametrize("line", [b"no json\n", b"[1]\n", b'"x"\n', b"[" * 10_000 + b"\n", b"\xff\xfe\n"])
def test_what_is_no_object_is_refused(line: bytes) -> None:
    async def main() -> None:
        connection, peer = pair()
        peer.send(line)
        with pytest.raises(WireError, match="no request"):
            await connection.receive()
        peer.close()
        connection.close()

    run(main())


def test_a_line_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        connection, peer = pair()
        peer.send(b"x" * 2000)
        with pytest.raises(WireError, match="longer than"):
            await connection.receive()
        peer.close()
        connection.close()

    monkeypatch.setattr("minipod.control.wire.MAX_LINE_BYTES", 1000)
    assert MAX_LINE_BYTES > 1000
    run(main())


def test_a_large_answer_reaches_a_slow_reader_with_its_descriptor() -> None:
    async def main() -> None:
        connection, peer = pair()
        read_fd, write_fd = os.pipe()
        for _ in range(50):
            connection.send({"event": "x" * 100_000})
        connection.send({"event": "started", "fds": ["tty"]}, [write_fd])
        os.close(write_fd)
        loop = asyncio.get_running_loop()
        data, fds = b"", array.array("i")
        while b"started" not in data or not data.endswith(b"\n"):
            ready = loop.create_future()
            loop.add_reader(peer, ready.set_result, None)
            await asyncio.wait_for(ready, 5)
            loop.remove_reader(peer)
            chunk, rights, _, _ = peer.recvmsg(1 << 16, socket.CMSG_SPACE(4))
            for _, _, payload in rights:
                fds.frombytes(payload)
            data = data[-1000:] + chunk
        await connection.drain()
        os.write(fds[0], b"y")
        assert os.read(read_fd, 1) == b"y"
        for fd in (read_fd, *fds):
            os.close(fd)
        peer.close()
        connection.close()

    before = open_fds()
    run(main())
    assert open_fds() == before


def test_a_peer_that_never_reads_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        connection, peer = pair()
        for _ in range(100):
            connection.send({"event": "x" * 100_000})
        assert connection.gone.done()
        await connection.drain()
        peer.close()
        connection.close()

    monkeypatch.setattr("minipod.control.wire.MAX_UNREAD_BYTES", 1_000_000)
    run(main())


# -- server


async def ask(path: str, request: dict[str, Any]) -> list[dict[str, Any]]:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(json.dumps({"version": __version__, **request}).encode() + b"\n")
    lines = (await reader.read()).splitlines()
    writer.close()
    await writer.wait_closed()
    return [json.loads(line) for line in lines]


def serving(tmp_path: Path, verbs: dict[str, server.Verb]) -> server.Server:
    path = str(tmp_path / "agent.sock")
    made = server.Server(server.listen(path), path, verbs, lambda: None)
    made.start()
    return made


def test_a_verb_answers_with_events_and_a_last_line(tmp_path: Path) -> None:
    async def verb(connection: Connection, request: Message) -> dict[str, Any]:
        connection.send({"event": "one"})
        return {"pods": json.loads(request.line)["pods"]}

    async def main() -> None:
        made = serving(tmp_path, {"x": verb})
        assert (tmp_path / "agent.sock").stat().st_mode & 0o777 == 0o600
        assert await ask(str(tmp_path / "agent.sock"), {"verb": "x", "pods": 3}) == [
            {"event": "one"},
            {"ok": True, "pods": 3},
        ]
        await made.stop()
        assert not (tmp_path / "agent.sock").exists()

    run(main())


@pytest.mark.parametrize(
    ("error", "kind", "status"),
    [
        (NotFoundError("x"), "NotFound", 1),
        (ConflictError("x"), "Conflict", 1),
        (ManifestError("x", ["a: b"]), "Manifest", 2),
        (UsageError("x"), "Usage", 2),
        (HostError("x"), "Host", 3),
        (RuntimeFailure("x"), "Runtime", 3),
        (KeyError("x"), "Internal", 3),
    ],
)
def test_errors_are_reported_by_kind(tmp_path: Path, error: Exception, kind: str, status: int) -> None:
    async def verb(connection: Connection, request: Message) -> dict[str, Any]:
        raise error

    async def main() -> None:
        made = serving(tmp_path, {"x": verb})
        (answer,) = await ask(str(tmp_path / "agent.sock"), {"verb": "x"})
        assert (answer["error"]["kind"], answer["error"]["exit"]) == (kind, status)
        assert answer["error"].get("errors") == (["a: b"] if kind == "Manifest" else None)
        async with asyncio.timeout(5):
            while made.connections:
                await asyncio.sleep(0.01)
        await made.stop()

    run(main())


def test_another_version_is_refused_but_may_shut_down(tmp_path: Path) -> None:
    async def verb(connection: Connection, request: Message) -> dict[str, Any]:
        return {}

    async def main() -> None:
        made = serving(tmp_path, {"get": verb, "shutdown": verb})
        path = str(tmp_path / "agent.sock")
        (answer,) = await ask(path, {"verb": "get", "version": "0.0.1"})
        assert answer["error"]["kind"] == "VersionMismatch"
        assert await ask(path, {"verb": "shutdown", "version": "0.0.1"}) == [{"ok": True}]
        await made.stop()

    run(main())


def test_an_unknown_verb_and_garbage_are_reported(tmp_path: Path) -> None:
    async def main() -> None:
        made = serving(tmp_path, {})
        path = str(tmp_path / "agent.sock")
        (answer,) = await ask(path, {"verb": "fly"})
        assert answer["error"]["kind"] == "Usage"
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"garbage\n")
        assert b"no request" in await reader.read()
        writer.close()
        await writer.wait_closed()
        await made.stop()

    run(main())


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    assert path.exists()
    sock = server.listen(str(path))
    sock.close()


def test_stopping_cuts_off_what_is_under_way(tmp_path: Path) -> None:
    async def verb(connection: Connection, request: Message) -> dict[str, Any]:
        await asyncio.get_running_loop().create_future()
        return {}

    async def main() -> None:
        made = serving(tmp_path, {"x": verb})
        asking = asyncio.ensure_future(ask(str(tmp_path / "agent.sock"), {"verb": "x"}))
        while not made.connections:
            await asyncio.sleep(0)
        await made.stop()
        # The request may not even have been read yet.
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(asking, 5) == []

    run(main())


@pytest.mark.parametrize("kind", [ImageError, HostError, UsageError, ManifestError, RuntimeFailure])
def test_an_error_with_a_path_that_is_no_utf_8_is_reported(tmp_path: Path, kind: type[Exception]) -> None:
    """A container or an image may have chosen the name of a file."""

    bad = f"{os.fsdecode(bytes(tmp_path / 'x') + bytes([0xFF]))}: no such file"

    async def verb(connection: Connection, request: Message) -> dict[str, Any]:
        raise kind(bad)

    async def main() -> None:
        made = serving(tmp_path, {"x": verb})
        (answer,) = await ask(str(tmp_path / "agent.sock"), {"verb": "x"})
        assert "x\\udcff: no such file" in answer["error"]["message"]
        await made.stop()

    run(main())
    json.dumps(server.error_body(ValueError(bad)), ensure_ascii=False).encode()


def test_a_limit_that_a_verb_meets_is_its_error_and_no_internal_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descriptors, "count", lambda: 64)
    monkeypatch.setattr(descriptors, "limit", lambda: 64)
    error = server.error_body(OSError(errno.EMFILE, "Too many open files", "/x"), "gc")["error"]
    assert (error["kind"], error["exit"]) == ("Runtime", 3)
    assert error["message"].startswith("gc: /x: too many open files: no more descriptors in one process: 64 of 64 (")
