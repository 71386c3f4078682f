"""Listens and serves TLS connections (layer 6), until it is stopped."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Mapping

from minipod.paths import Paths
from minipod.rest.agent import Agent, AgentUnavailableError, RefusedError
from minipod.rest.app import App
from minipod.rest.certificates import Certificates
from minipod.rest.identity import User
from minipod.streams.http1 import HttpConnection

log = logging.getLogger("minipod.rest")

MAX_CONNECTIONS = 2048
_HANDSHAKE_S = 10.0
_PRESENCE_PAUSE_S = 1.0


def tls_context(certificates: Certificates) -> ssl.SSLContext:
    """TLS 1.2 or later; a client's certificate is verified where it has one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificates.server, certificates.server_key)
    context.load_verify_locations(certificates.ca)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.set_alpn_protocols(["http/1.1"])
    return context


class ApiServer:
    """`listen`: host and port; port 0 takes a free one."""

    def __init__(
        self, paths: Paths, certificates: Certificates, listen: tuple[str, int], tokens: Mapping[str, User]
    ) -> None:
        self._agent = Agent(paths)
        self._app = App(self._agent, paths, tokens)
        self._certificates = certificates
        self._listen = listen
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> int:
        """Listens. Returns the port. Raises OSError."""
        host, port = self._listen
        context = tls_context(self._certificates)
        self._server = await asyncio.start_server(
            self._accepted, host, port, ssl=context, ssl_handshake_timeout=_HANDSHAKE_S, limit=1 << 18, backlog=512
        )
        return int(self._server.sockets[0].getsockname()[1])

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._connections) >= MAX_CONNECTIONS:
            writer.close()
            return
        self._connections.add(task)
        try:
            await HttpConnection(reader, writer, self._app).serve()
        except asyncio.CancelledError:
            pass  # the server stops; asyncio's own callback takes a cancelled task for a failure
        finally:
            self._connections.discard(task)

    async def stay_present(self, start_agent: asyncio.Event) -> None:
        """Holds a connection to the agent, so that it does not exit for want of work. `start_agent` is set when none
        answers.
        """
        while True:
            with contextlib.suppress(AgentUnavailableError, RefusedError):
                async with self._agent.call({"verb": "get", "kind": "nodes", "watch": True, "listing": False}) as call:
                    async for _ in call.lines():
                        pass
            start_agent.set()
            await asyncio.sleep(_PRESENCE_PAUSE_S)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()
        if self._connections:
            await asyncio.wait(self._connections, timeout=5.0)
