"""The control socket's framing for the agent (layer 6): JSON lines and descriptors on one connection. No verbs.

A message is one line of JSON; one that carries descriptors lists them under `fds` and they arrive with its first
byte (SCM_RIGHTS). asyncio's streams know nothing of descriptors, hence this on a bare non-blocking socket.
"""

from __future__ import annotations

import array
import asyncio
import os
import socket
from collections import deque
from collections.abc import Sequence
from typing import TypeVar

import msgspec

from minipod.kernel import descriptors
from minipod.kernel.peer import pid_of

T = TypeVar("T")

MAX_LINE_BYTES = 32 << 20  # a request holds whole files, of 16 MiB at most, in documents of 3 MiB at most
MAX_UNREAD_BYTES = 32 << 20  # a peer that does not read its events is dropped
MAX_WORD_BYTES = 64 << 10  # a line after the request: a signal, an interrupt
MAX_WAITING_WORDS = 64
MAX_HELD_BYTES = 128 << 20  # of all peers: incomplete requests and unread events
MAX_WAITING_FDS = 16

_CHUNK = 1 << 18
_MUCH_UNREAD = 1 << 20  # above this `relieve` waits
_RIGHTS = socket.CMSG_SPACE(MAX_WAITING_FDS * array.array("i").itemsize)


class Head(msgspec.Struct, frozen=True):
    """The fields that any message may have; the verb decodes the others."""

    verb: str = ""
    version: str = ""
    fds: tuple[str, ...] = ()


class Message:
    """One line from the peer. The receiver of the message owns `fds` and closes them with `close_fds`."""

    __slots__ = ("fds", "head", "line")

    def __init__(self, line: bytes, head: Head, fds: tuple[int, ...] = ()) -> None:
        self.line = line
        self.head = head
        self.fds = fds

    def close_fds(self) -> None:
        for fd in self.fds:
            os.close(fd)
        self.fds = ()


def decoded(line: bytes, kind: type[T]) -> T:
    """Decodes JSON; of a duplicate key the last value counts. Raises WireError that names the field."""
    try:
        return msgspec.json.decode(line, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:  # ValueError: UTF-8
        raise WireError(str(error)) from None


class WireError(Exception):
    """The peer violates the protocol; the message is one line."""


class Held:
    """The number of bytes that all connections buffer for their peers."""

    def __init__(self) -> None:
        self.count = 0


class Connection:
    """One accepted peer. Always reads, so that a disconnect is noticed while a verb runs."""

    def __init__(self, sock: socket.socket, loop: asyncio.AbstractEventLoop, held: Held | None = None) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._loop = loop
        self._held = held or Held()
        self._in = bytearray()
        self._searched = 0
        self._in_fds: deque[int] = deque()
        self._messages: deque[Message] = deque()
        self._is_asked = False
        self._error: WireError | None = None
        self._reader: asyncio.Future[None] | None = None
        self._out: deque[tuple[memoryview, tuple[int, ...]]] = deque()
        self._out_bytes = 0
        self._drained: asyncio.Future[None] | None = None
        self._open = True
        self.gone: asyncio.Future[None] = loop.create_future()  # done when the peer has closed or was dropped
        loop.add_reader(sock, self._on_readable)

    @property
    def peer_pid(self) -> int:
        """The process at the other end, as it was when it connected."""
        return pid_of(self._sock)

    # -- reading ------------------------------------------------------------------------------------------------

    async def receive(self) -> Message | None:
        """The next message; None when the peer is gone. Raises WireError. One caller at a time."""
        while not self._messages:
            if self._error is not None:
                raise self._error
            if self.gone.done():
                return None
            self._reader = self._loop.create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        return self._messages.popleft()

    async def next_line(self) -> Message | None:
        """As `receive`, while a verb runs: an invalid line ends the reading, not the verb. Takes no descriptors."""
        try:
            message = await self.receive()
        except WireError:
            await self.gone
            return None
        if message is not None:
            message.close_fds()
        return message

    def _on_readable(self) -> None:
        try:
            data, ancillary, flags, _ = self._sock.recvmsg(_CHUNK, _RIGHTS, socket.MSG_CMSG_CLOEXEC)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data, ancillary, flags = b"", [], 0
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds = array.array("i")
                fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
                self._in_fds.extend(fds)
        if not data:
            self._lost()
            return
        if self._error is None:
            self._take(data, bool(flags & socket.MSG_CTRUNC))
        if self._error is not None:  # from now on only the disconnect matters
            self._forget_input()

    def _take(self, data: bytes, lost_fds: bool) -> None:
        self._in += data
        self._held.count += len(data)
        try:
            if lost_fds and len(self._in_fds) < MAX_WAITING_FDS:
                raise WireError(f"the agent has no descriptor free for those of the command: {descriptors.REMEDY}")
            if lost_fds or len(self._in_fds) > MAX_WAITING_FDS:
                raise WireError(f"more than {MAX_WAITING_FDS} descriptors were sent at once")
            self._parse()
        except WireError as error:
            self._error = error
        self._wake_reader()

    def _parse(self) -> None:
        while (end := self._in.find(b"\n", self._searched)) >= 0:
            self._check_length(end)
            if len(self._messages) == MAX_WAITING_WORDS:
                raise WireError(f"more than {MAX_WAITING_WORDS} lines were sent and no answer waited for")
            line = bytes(memoryview(self._in)[:end])
            del self._in[: end + 1]
            self._held.count -= end + 1
            self._searched = 0
            message = self._message(line)
            if self._in_fds and not self._in:
                message.close_fds()
                raise WireError("descriptors came that no line names")
            self._messages.append(message)
            self._is_asked = True
        self._searched = len(self._in)
        self._check_length(self._searched)
        if self._searched > MAX_WORD_BYTES and self._held.count > MAX_HELD_BYTES:
            raise WireError("too many large requests at once: try again")

    def _check_length(self, count: int) -> None:
        if count > MAX_LINE_BYTES:
            raise WireError(f"a request is longer than {MAX_LINE_BYTES >> 20} MiB: split the manifest")
        if self._is_asked and count > MAX_WORD_BYTES:
            raise WireError(f"a line after the request is longer than {MAX_WORD_BYTES >> 10} KiB")

    def _message(self, line: bytes) -> Message:
        try:
            head = decoded(line, Head)
        except WireError as error:
            raise WireError(f"a line is no request: {error}") from None
        if len(head.fds) > len(self._in_fds):
            raise WireError("a line names descriptors that did not come with it")
        return Message(line, head, tuple(self._in_fds.popleft() for _ in head.fds))

    def _forget_input(self) -> None:
        self._held.count -= len(self._in)
        self._in.clear()
        while self._in_fds:
            os.close(self._in_fds.popleft())

    def _wake_reader(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    # -- writing ------------------------------------------------------------------------------------------------

    def send(self, body: object, fds: Sequence[int] = ()) -> None:
        """Queues one line; never blocks. `fds` stay the caller's. Does nothing when the peer has disconnected."""
        if self.gone.done() or not self._open:
            return
        line = memoryview(msgspec.json.encode(body) + b"\n")
        # Duplicates, because the caller may close its own before the socket takes the line.
        self._out.append((line, tuple(os.dup(fd) for fd in fds)))
        self._unread(len(line))
        self._on_writable()
        too_many = self._out_bytes > _MUCH_UNREAD and self._held.count > MAX_HELD_BYTES
        if self._out_bytes > MAX_UNREAD_BYTES or too_many:
            self._lost()

    def _unread(self, count: int) -> None:
        self._out_bytes += count
        self._held.count += count

    async def relieve(self) -> None:
        """For use between the events of a long answer: waits while the peer has much left to read."""
        if self._out_bytes > _MUCH_UNREAD:
            await self.drain()

    @property
    def is_drained(self) -> bool:
        """Whether `drain` would not wait."""
        return not self._out or self.gone.done()

    async def drain(self) -> None:
        """Returns when everything queued was taken by the socket, or the peer is gone."""
        while self._out and not self.gone.done():
            if self._drained is None:
                self._drained = self._loop.create_future()
            await asyncio.shield(self._drained)

    def _on_writable(self) -> None:
        try:
            while self._out:
                line, fds = self._out[0]
                sent = self._send_some(line, fds)
                for fd in fds:
                    os.close(fd)
                self._unread(-sent)
                if sent == len(line):
                    self._out.popleft()
                else:
                    self._out[0] = (line[sent:], ())
        except (BlockingIOError, InterruptedError):
            self._loop.add_writer(self._sock, self._on_writable)
            return
        except OSError:
            self._lost()
            return
        self._loop.remove_writer(self._sock)
        self._wake_drained()

    def _send_some(self, line: memoryview, fds: tuple[int, ...]) -> int:
        if not fds:
            return self._sock.send(line, socket.MSG_NOSIGNAL)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
        return self._sock.sendmsg([line], rights, socket.MSG_NOSIGNAL)

    def _wake_drained(self) -> None:
        if self._drained is not None:
            self._drained.set_result(None)
            self._drained = None

    # -- the end ------------------------------------------------------------------------------------------------

    def _lost(self) -> None:
        if self._open:
            self._loop.remove_reader(self._sock)
            self._loop.remove_writer(self._sock)
        if not self.gone.done():
            self.gone.set_result(None)
        self._forget_output()
        self._wake_reader()
        self._wake_drained()

    def _forget_output(self) -> None:
        for _, fds in self._out:
            for fd in fds:
                os.close(fd)
        self._out.clear()
        self._unread(-self._out_bytes)

    def close(self) -> None:
        """Closes at once: drops what was not sent, closes descriptors that no verb took."""
        if not self._open:
            return
        self._lost()
        self._open = False
        self._sock.close()
        for message in self._messages:
            message.close_fds()
        self._messages.clear()
        self._forget_input()
