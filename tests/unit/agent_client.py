"""An agent on a fake runtime behind its real control socket, and a client that reads it line by line."""

from __future__ import annotations

import array
import asyncio
import json
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from minipod import __version__
from minipod.agent.pods.table import Pods
from minipod.control import server
from minipod.control.verbs.table import Verbs
from tests.unit.agent_fakes import FakeRuntime, make_node, run_virtually

MANIFEST = """
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  restartPolicy: Never
  containers:
  - {name: main, image: busybox, command: [sleep, "1000"]}
"""


class Client:
    """One connection that reads line by line."""

    def __init__(self, path: str) -> None:
        self._sock = socket.socket(socket.AF_UNIX)
        self._sock.setblocking(False)
        self._path = path
        self._data = b""
        self.events: list[dict[str, Any]] = []

    async def send(self, rights: tuple[int, ...] = (), /, **request: Any) -> None:
        loop = asyncio.get_running_loop()
        if not self._data and self._sock.fileno() >= 0 and not self.events:
            try:
                await loop.sock_connect(self._sock, self._path)
            except OSError:
                pass
        line = json.dumps({"version": __version__, **request}).encode() + b"\n"
        sent = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", rights))] if rights else []
        self._sock.sendmsg([line], sent)

    async def line(self) -> dict[str, Any] | None:
        while b"\n" not in self._data:
            data = await asyncio.get_running_loop().sock_recv(self._sock, 1 << 16)
            if not data:
                return None
            self._data += data
        line, _, self._data = self._data.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        self.events.append(message)
        return message

    async def until_event(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        while (message := await self.line()) is not None:
            if wanted(message):
                return message
        raise AssertionError(f"the agent closed after {self.events}")

    async def last(self) -> dict[str, Any]:
        return await self.until_event(lambda message: "ok" in message or "error" in message)

    def close(self) -> None:
        self._sock.close()


class Agent:
    def __init__(self, folder: Path) -> None:
        self.runtime = FakeRuntime()
        self.node = make_node(folder, self.runtime)
        self.pods = Pods(self.node)
        self.runtime.on_exit = self.pods.container_exited
        self.left = False
        verbs = Verbs(self.node, self.pods, self._leave, lambda: self.server.connections)
        path = self.node.paths.agent_socket
        self.server = server.Server(server.listen(path), path, verbs.table(), lambda: None)
        self.server.start()
        self.clients: list[Client] = []

    def _leave(self) -> None:
        self.left = True

    def client(self) -> Client:
        self.clients.append(Client(self.node.paths.agent_socket))
        return self.clients[-1]

    async def ask(self, **request: Any) -> list[dict[str, Any]]:
        client = self.client()
        await client.send(**request)
        await client.last()
        client.close()
        return client.events

    async def run_detached(self, text: str = MANIFEST, until: str = "running") -> list[dict[str, Any]]:
        return await self.ask(verb="run", files=[{"name": "pod.yaml", "text": text}], detach=True, until=until)

    async def run_foreground(self, text: str = MANIFEST) -> Client:
        client = self.client()
        await client.send(verb="run", files=[{"name": "pod.yaml", "text": text}])
        return client

    async def close(self) -> None:
        for client in self.clients:
            client.close()
        await self.server.stop()
        await self.pods.close()
        self.node.store.close()


def with_agent(folder: Path, test: Callable[[Agent], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        agent = Agent(folder)
        try:
            await test(agent)
        finally:
            await agent.close()

    run_virtually(main)
