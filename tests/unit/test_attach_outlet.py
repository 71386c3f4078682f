"""What an attached client gets: all of it, also what it has not read when the container ends."""

from __future__ import annotations

import asyncio
import socket

import pytest

from minipod.control.verbs import debug
from minipod.control.verbs.debug import _Outlet


def received(sock: socket.socket) -> bytes:
    sock.setblocking(True)
    with sock.makefile("rb") as file:
        return file.read()


def test_a_reader_that_is_behind_makes_the_container_wait_and_gets_all_of_it() -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        outlet, sent = _Outlet(ours), 0
        assert not outlet.is_full()
        while not outlet.is_full():
            outlet(b"x" * 65536)
            sent += 65536
        assert sent < debug._MAX_UNREAD
        outlet(b"")  # the container has ended
        assert not outlet.closed.done()
        reading = asyncio.ensure_future(asyncio.to_thread(received, theirs))
        await asyncio.wait_for(outlet.closed, 30)
        assert len(await reading) == sent
        theirs.close()

    asyncio.run(main())


def test_a_reader_that_reads_nothing_for_long_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        outlet = _Outlet(ours)
        while not outlet.is_full():
            outlet(b"x" * 65536)
        monkeypatch.setattr(debug, "_STUCK_S", -1.0)
        assert not outlet.is_full()
        outlet.close()
        assert outlet.closed.done()
        theirs.close()

    asyncio.run(main())


def test_a_reader_that_has_gone_keeps_no_one_waiting() -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        outlet = _Outlet(ours)
        theirs.close()
        outlet(b"x")
        await asyncio.wait_for(outlet.closed, 30)
        outlet(b"y")
        assert not outlet.is_full()

    asyncio.run(main())
