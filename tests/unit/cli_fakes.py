"""A fake agent: a thread that speaks the control socket's protocol, and objects for it to tell."""

from __future__ import annotations

import array
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import minipod
from minipod.cli.main import guarded
from minipod.paths import Paths

Object = dict[str, Any]
Handler = Callable[["Peer", Object], None]


class Peer:
    """The agent's end of one connection."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = b""
        self.fds: list[int] = []

    def receive(self) -> Object | None:
        while b"\n" not in self._buffer:
            try:
                data, ancillary, _, _ = self._sock.recvmsg(1 << 16, socket.CMSG_SPACE(64))
            except OSError:
                return None
            for _, _, payload in ancillary:
                self.fds += array.array("i", payload)
            if not data:
                return None
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        message: Object = json.loads(line)
        return message

    def send(self, message: Object, fds: tuple[int, ...] = ()) -> None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self._sock.sendmsg([json.dumps(message).encode() + b"\n"], rights)

    def ok(self, **fields: object) -> None:
        self.send({"ok": True, **fields})

    def fail(self, kind: str, message: str, exit_status: int = 1, **fields: object) -> None:
        self.send({"error": {"kind": kind, "message": message, "exit": exit_status, **fields}})

    def close_fds(self) -> None:
        for fd in self.fds:
            os.close(fd)
        self.fds = []


class FakeAgent:
    """Answers by `handlers[verb]`, `get` of events by `handlers["events"]`; `requests` is what was asked."""

    def __init__(self, paths: Paths) -> None:
        os.makedirs(paths.root, exist_ok=True)
        self.paths = paths
        self.requests: list[Object] = []
        self.handlers: dict[str, Handler] = {"events": lambda peer, _: peer.ok()}
        self.version = minipod.__version__
        self.serve_pods(pod())
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(paths.agent_socket)
        self._listener.listen()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(sock,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        with sock:
            peer = Peer(sock)
            request = peer.receive()
            if request is None:
                return
            self.requests.append(request)
            if request["version"] != self.version and request["verb"] != "shutdown":
                peer.fail("VersionMismatch", "another version", 3)
                return
            try:
                is_events = request["verb"] == "get" and request["kind"] == "events"
                self.handlers["events" if is_events else request["verb"]](peer, request)
            except BrokenPipeError:
                pass
            finally:
                peer.close_fds()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        os.unlink(self.paths.agent_socket)
        for thread in self._threads:
            thread.join(10)

    def serve_pods(self, *pods: Object, ends_watches: bool = False) -> None:
        """`get` as the real agent answers it, without changes. `ends_watches`: none waits for some."""

        def get(peer: Peer, request: Object) -> None:
            wanted = [pod for pod in pods if request.get("name") in (None, pod["metadata"]["name"])]
            if request.get("selector"):
                terms = [term.split("=") for term in request["selector"].split(",")]
                wanted = [pod for pod in wanted if all(pod["metadata"]["labels"].get(k) == v for k, v in terms)]
            if request.get("name") and not wanted:
                peer.fail("NotFound", f'pods "{request["name"]}" not found')
                return
            if request["output"] == "object":
                for pod in wanted:
                    peer.send({"event": "object", "type": "ADDED", "object": pod})
            else:
                columns = ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
                rows: list[list[object]] = [[pod["metadata"]["name"], "1/1", "Running", 0, "5s"] for pod in wanted]
                if request["namespace"] is None:
                    columns, rows = ["NAMESPACE", *columns], [["default", *row] for row in rows]
                peer.send(
                    table_event(columns, rows, [(pod["metadata"]["name"], pod["metadata"]["uid"]) for pod in wanted])
                )
            if request.get("watch"):
                peer.send({"event": "bookmark", "resource_version": "1"})
                if not ends_watches:
                    peer.receive()
            peer.ok()

        self.handlers["get"] = get


@contextmanager
def fake_agent(folder: Path) -> Iterator[FakeAgent]:
    agent = FakeAgent(Paths(f"{folder}/root", f"{folder}/state"))
    try:
        yield agent
    finally:
        agent.close()


def minipod_command(paths: Paths, *words: str) -> int:
    """One command line in this process; its exit status."""
    return guarded([words[0], "--run-dir", paths.root, "--data-dir", paths.state, *words[1:]])


def table_event(
    columns: list[str],
    rows: list[list[object]],
    objects: list[tuple[str, str]],
    change: str = "ADDED",
    version: int = 1,
) -> Object:
    """Rows as the agent sends them. `objects`: the name and the uid of each row's."""
    places = [("default", name, uid, str(version)) for name, uid in objects]
    return {"event": "table", "type": change, "columns": columns, "rows": rows, "objects": places}


def pod(name: str = "web", containers: tuple[str, ...] = ("app",), **status: Any) -> Object:
    """A running pod as the agent shows it."""
    statuses = [
        {
            "name": container,
            "restartCount": 0,
            "ready": True,
            "state": {"running": {"startedAt": "2026-01-02T03:04:05Z"}},
        }
        for container in containers
    ]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "uid": f"uid-{name}", "labels": {"app": name}},
        "spec": {"containers": [{"name": container, "image": "busybox"} for container in containers]},
        "status": {"phase": "Running", "containerStatuses": statuses, **status},
    }


def event(**fields: object) -> Object:
    """A v1 Event of the pod."""
    return {
        "metadata": {"name": "e1", "namespace": "default"},
        "involvedObject": {"kind": "Pod", "name": "web", "uid": "uid-web", "fieldPath": "spec.containers{app}"},
        "type": "Normal",
        "reason": "Started",
        "message": "Container\x1b[31m started\n",
        "source": {"component": "kubelet"},
        "firstTimestamp": "2026-01-02T03:04:05Z",
        "lastTimestamp": "2026-01-02T03:05:05Z",
        "count": 1,
    } | fields
