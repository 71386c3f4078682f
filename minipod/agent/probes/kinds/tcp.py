"""The tcpSocket probe (layer 5), after pkg/probe/tcp: succeeds when the port accepts a connection."""

from __future__ import annotations

import asyncio

from minipod.agent.probes.kinds.connection import Answer, Connection, Done, join_host_port, words


class TcpProbe:
    """One attempt. `address` is numeric; `host` is for messages."""

    def __init__(self, loop: asyncio.AbstractEventLoop, address: str, host: str, port: int, done: Done) -> None:
        self._target = join_host_port(host, port)
        self._done = done
        self._connection = Connection(loop, address, port, self)
        self._connection.start()

    def connected(self) -> bytes:
        self._connection.close()
        self._done(Answer("success"))
        return b""

    def received(self, data: bytes) -> bytes:
        return b""

    def ended(self) -> None:
        """Never: the connection is closed once it is there."""

    def failed(self, stage: str, error: OSError) -> None:
        self._done(Answer("failure", f"dial tcp {self._target}: connect: {words(error)}"))

    def time_is_up(self) -> None:
        self._connection.close()
        self._done(Answer("failure", f"dial tcp {self._target}: i/o timeout"))

    def give_up(self) -> None:
        self._connection.close()
