"""The answerer at work (layer 2): reads questions, has the zone or the host's resolvers answer, writes answers.

Whatever a pod sends costs a bounded amount: of time (`budget`), of questions under way (`forward`), of connections
(`connections`). An error in here is that of one question.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

from minipod.names import wire
from minipod.names.budget import Budget
from minipod.names.connections import Listener
from minipod.names.forward import Forwarder, servers_of
from minipod.names.loop import Loop
from minipod.names.table import FILE, UNPRIVILEGED, Table, decode
from minipod.names.zone import Answer, Service, Zone

_AT_ONCE = 16  # questions of one socket before the others have their turn
_QUESTION_BYTES = 4096
_LIMITS = (
    (resource.RLIMIT_NPROC, 0),
    (resource.RLIMIT_CORE, 0),
    (resource.RLIMIT_FSIZE, 1 << 16),  # its log
    (resource.RLIMIT_NOFILE, 1024),
    (resource.RLIMIT_AS, 256 << 20),
)
_EMPTY = Table("", (), (), ())
DRAIN_S = 5  # for which a predecessor still answers what is under way to it


class Tables:
    """The table, read again when its file is another one: a look at it costs a microsecond, a watch would too."""

    def __init__(self, path: str, on_new: Callable[[Table], None]) -> None:
        self._path = path
        self._on_new = on_new
        self._seen: tuple[int, int, int] | None = None

    def refresh(self) -> None:
        """What was read last stays where there is none, or one that cannot be read."""
        try:
            found = os.stat(self._path)
            seen = (found.st_ino, found.st_mtime_ns, found.st_size)
            if seen == self._seen:
                return
            with open(self._path, "rb") as file:
                table = decode(file.read())
        except (OSError, ValueError, TypeError) as error:
            if not isinstance(error, FileNotFoundError):
                note(f"{self._path}: {error}")
            return
        self._seen = seen
        self._on_new(table)


class Answerer:
    """Everything but the process around it. `table`: a path."""

    def __init__(self, loop: Loop, table: str, *, port: int | None = None) -> None:
        """`port`: of the host's resolvers, for tests."""
        self.loop = loop
        self._port = port
        self._budget = Budget()
        self.forwarder = Forwarder(loop)
        self.zone = Zone(_EMPTY)
        self._tables = Tables(table, self._take)
        self._tables.refresh()

    def _take(self, table: Table) -> None:
        self.zone = Zone(table)
        self.forwarder.servers = servers_of(table.servers, *([] if self._port is None else [self._port]))

    def serve_udp(self, sock: socket.socket) -> None:
        def ready(_: int) -> None:
            for _ in range(_AT_ONCE):
                try:
                    data, place = sock.recvfrom(_QUESTION_BYTES)
                except OSError:  # no more
                    return

                def send(answer: bytes, place: tuple[Any, ...] = place) -> None:
                    with contextlib.suppress(OSError):  # the pod has gone, its buffer is full
                        sock.sendto(answer, place)

                self.handle(data, str(place[0]), f"{place[0]} {place[1]}", send)

        sock.setblocking(False)
        self.loop.watch(sock.fileno(), select.EPOLLIN, ready)

    def serve_tcp(self, sock: socket.socket) -> None:
        def handle(data: bytes, source: str, key: str, reply: Callable[[bytes], None]) -> None:
            self.handle(data, source, key, reply, over_tcp=True)

        sock.setblocking(False)
        Listener(self.loop, sock, self.is_served, handle)

    def is_served(self, source: str) -> bool:
        self._tables.refresh()
        return self.zone.serves(source)

    def handle(
        self, data: bytes, source: str, key: str, reply: Callable[[bytes], None], over_tcp: bool = False
    ) -> None:
        """One message. `source`: an address; `key`: the address with what else distinguishes clients."""
        if not self._budget.take(source, self.loop.now()) or not self.is_served(source):
            return
        try:
            self._answer(data, source, key, reply, over_tcp)
        except Exception as error:
            note(f"{type(error).__name__}: {error} in a question of {source}: {data[:256].hex()}")

    def _answer(self, data: bytes, source: str, key: str, reply: Callable[[bytes], None], over_tcp: bool) -> None:
        try:
            question = wire.read(data)
        except wire.Refusal as refusal:
            if refusal.answer:
                reply(refusal.answer)
            return
        found = self.zone.find(question.labels)
        if found is None:
            self.forwarder.ask(question, source, key, over_tcp, reply)
        else:
            most = question.most_bytes(over_tcp)
            most = most if over_tcp else min(most, wire.EDNS_BYTES)
            reply(wire.answer(question, found, self.zone.apex(question.labels), most))


def note(line: str) -> None:
    """A line of the log, which is short: it ends when it is full."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def run(directory: str, places: dict[str, list[int]]) -> None:
    """Answers until it is killed."""
    loop = Loop()
    rehearse()
    confine(directory)
    answerer = Answerer(loop, f"/{FILE}")
    for name, fds in places.items():
        for fd in fds:
            (answerer.serve_udp if name.startswith("udp") else answerer.serve_tcp)(socket.socket(fileno=fd))
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(DRAIN_S))  # a successor has taken its place
    while True:
        loop.turn()


def confine(directory: str) -> None:
    """A chroot, a user without any right, limits. What is imported later than this is not found."""
    os.chroot(directory)
    os.chdir("/")
    os.setgroups([])
    # with root's uid go all capabilities, and that others of the new uid may trace it (capabilities(7), ptrace(2))
    os.setresgid(UNPRIVILEGED, UNPRIVILEGED, UNPRIVILEGED)
    os.setresuid(UNPRIVILEGED, UNPRIVILEGED, UNPRIVILEGED)
    for number, limit in _LIMITS:
        resource.setrlimit(number, (limit, limit))


def rehearse() -> None:
    """Each kind of answer once, to no client: in the chroot no module is found that is loaded when it is needed."""
    found = Answer(True, ("192.0.2.1", "2001:db8::1"), (Service(80, "a.example", ("192.0.2.1",)),), "a.example")
    for kind in ("A", "AAAA", "SRV", "PTR", "TXT", "ANY"):
        question = wire.read(wire.example(kind))
        for answer in (found, Answer(False)):
            wire.passed_on(question, wire.answer(question, answer, "example", wire.EDNS_BYTES), wire.PLAIN_BYTES)
        wire.answer(question, found, "example", wire.HEADER_BYTES)
        wire.failure(question)
    with contextlib.suppress(wire.Refusal):
        wire.read(bytes(wire.HEADER_BYTES) + b"\xc0")
    servers_of(("192.0.2.1", "2001:db8::1", "no address"))
