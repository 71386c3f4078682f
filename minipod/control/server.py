"""The control socket's listener (layer 6): accepts root only, reads one request, calls its verb, answers errors.

Which verbs there are is `verbs`' business; framing and descriptors are `wire`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from minipod import __version__
from minipod.control.wire import Connection, Held, Message, WireError
from minipod.errors import (
    AlreadyExistsError,
    ConflictError,
    ExpiredError,
    HostError,
    InvalidError,
    ManifestError,
    MinipodError,
    NotFoundError,
    PatchError,
    RuntimeFailure,
    UsageError,
    utf8,
)
from minipod.kernel import descriptors
from minipod.kernel.error_text import limit_of, text_of
from minipod.kernel.peer import is_own_user

log = logging.getLogger("minipod.agent")

Verb = Callable[[Connection, Message], Awaitable[dict[str, Any]]]
"""Answers one request: sends its events and returns the fields of the last line, or raises a MinipodError."""

_KINDS: tuple[tuple[type[MinipodError], str], ...] = (
    (NotFoundError, "NotFound"),
    (AlreadyExistsError, "AlreadyExists"),
    (ConflictError, "Conflict"),
    (ExpiredError, "Expired"),
    (ManifestError, "Manifest"),
    (UsageError, "Usage"),
    (HostError, "Host"),
    (RuntimeFailure, "Runtime"),
)

MAX_CONNECTIONS = 4096  # and never more than half of the descriptors that this process may have
TAKES_DESCRIPTORS = ("exec",)

_BACKLOG = 512
_PER_COMMAND = 24  # descriptors that are free when a command begins: its own, and those of files and sockets
_REQUEST_S = 30.0  # a connection must have sent its whole request by then
_ENDING_S = 5.0
_PAUSE_S = 1.0  # before accepting again when no descriptor was free
_MAX_MESSAGE = 16 << 10  # characters of one error, which may quote the request


def error_body(error: BaseException, verb: str = "") -> dict[str, Any]:
    """The last line of a request that failed."""
    if limit_of(error):
        return {"error": {"kind": "Runtime", "message": _cut(f"{verb}: {text_of(error)}"), "exit": 3}}
    if not isinstance(error, MinipodError):
        message = _cut(f"{verb}: internal error: {type(error).__name__}: {error}") + " (see agent.log)"
        return {"error": {"kind": "Internal", "message": message, "exit": 3}}
    kind = next((name for of, name in _KINDS if isinstance(error, of)), "Internal")
    body: dict[str, Any] = {"kind": kind, "message": _cut(str(error)), "exit": error.exit_status}
    if isinstance(error, ManifestError):
        body["errors"] = [_cut(str(finding)) for finding in error.errors]
    if isinstance(error, InvalidError):
        body["causes"] = [[_cut(text) for text in cause] for cause in error.causes]
    if isinstance(error, PatchError):
        body["code"] = error.code
    return {"error": body}


def _cut(text: str) -> str:
    text = utf8(text)
    return text if len(text) <= _MAX_MESSAGE else f"{text[:_MAX_MESSAGE]} …"


def version_mismatch(theirs: str) -> dict[str, Any]:
    message = _cut(f"the agent is minipod {__version__}, the command is {theirs}: use minipod {__version__}")
    return {"error": {"kind": "VersionMismatch", "message": message, "exit": 3, "version": __version__}}


def listen(path: str) -> socket.socket:
    """The listening socket, mode 0600. The caller holds agent.lock, so an existing socket is stale."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    before = os.umask(0o177)
    try:
        sock.bind(path)
    except OSError as error:
        sock.close()
        raise HostError(f"control socket {path}: bind: {error.strerror or error}") from error
    finally:
        os.umask(before)
    sock.listen(_BACKLOG)
    return sock


def taken_over(fd: int, path: str) -> socket.socket:
    """The socket at which a service manager listens (socket activation). Raises UsageError for one elsewhere."""
    sock = socket.socket(fileno=fd)
    name = sock.getsockname()
    if name != path or sock.type != socket.SOCK_STREAM:
        sock.close()
        raise UsageError(f"socket activation: ListenStream={name} is not the control socket {path}")
    sock.setblocking(False)
    sock.listen(_BACKLOG)  # again: from now on SO_PEERCRED of those who connect names this process
    return sock


class Server:
    """Serves `verbs` on a listening socket until `stop`, which removes the file at `path` if it is still this socket's;
    `path` empty: it is another's to remove. `on_change` is called when a connection begins or ends."""

    def __init__(
        self,
        sock: socket.socket,
        path: str,
        verbs: Mapping[str, Verb],
        on_change: Callable[[], None],
    ) -> None:
        self._sock = sock
        self._path = path
        self._inode = os.stat(path).st_ino if path else 0
        self._verbs = verbs
        self._on_change = on_change
        self._tasks: set[asyncio.Task[None]] = set()
        self._held = Held()
        self._limit = min(MAX_CONNECTIONS, descriptors.limit() // 2)
        self._stopping = False

    @property
    def connections(self) -> int:
        return len(self._tasks)

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._sock, self._accept)

    async def stop(self) -> None:
        """Removes the socket file, accepts no more; requests under way are cancelled after a moment."""
        self._stopping = True
        with contextlib.suppress(FileNotFoundError):
            if self._path and os.stat(self._path).st_ino == self._inode:
                os.unlink(self._path)
        self._loop.remove_reader(self._sock)
        self._sock.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_ENDING_S)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                # The socket stays readable: without a pause the agent would do nothing but retry.
                log.error("control socket: accept: %s", error.strerror)
                self._loop.remove_reader(self._sock)
                self._loop.call_later(_PAUSE_S, self._resume)
                return
            if not is_own_user(sock):
                sock.close()
                continue
            connection = Connection(sock, self._loop, self._held)
            if busy := self._busy():
                connection.send(error_body(HostError(busy)))
                connection.close()
                continue
            task = self._loop.create_task(self._serve(connection))
            self._tasks.add(task)
            task.add_done_callback(functools.partial(self._ended, connection))
            self._on_change()

    def _busy(self) -> str:
        """Why no other command can be served; empty where one can."""
        if len(self._tasks) >= self._limit:
            return f"the agent serves {len(self._tasks)} commands, as many as it can: try again"
        used, most = descriptors.count(), descriptors.limit()
        if used <= most - _PER_COMMAND:
            return ""
        return f"the agent has {used} of {most} descriptors open, too few are left for a command: {descriptors.REMEDY}"

    def _resume(self) -> None:
        if not self._stopping:
            self._loop.add_reader(self._sock, self._accept)

    def _ended(self, connection: Connection, task: asyncio.Task[None]) -> None:
        connection.close()  # here, because a task that is cancelled before its first step runs none of its code
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a request broke", exc_info=error)
        if not self._stopping:
            self._on_change()

    async def _serve(self, connection: Connection) -> None:
        try:
            async with asyncio.timeout(_REQUEST_S):
                request = await connection.receive()
            if request is not None:
                await self._answer(connection, request)
        except TimeoutError:
            connection.send(error_body(UsageError(f"control socket: no whole request came within {_REQUEST_S:.0f} s")))
        except WireError as error:
            connection.send(error_body(UsageError(f"control socket: {error}")))
        try:
            await asyncio.wait_for(connection.drain(), _ENDING_S)
        except TimeoutError:
            log.warning("control socket: a peer did not read its answer")

    async def _answer(self, connection: Connection, request: Message) -> None:
        verb = request.head.verb
        try:
            connection.send(await self._result(connection, request))
        except asyncio.CancelledError:
            raise
        except MinipodError as error:
            connection.send(error_body(error))
        except Exception as error:
            log.exception("verb %.100r", verb)
            connection.send(error_body(error, verb))
        finally:
            request.close_fds()

    async def _result(self, connection: Connection, request: Message) -> dict[str, Any]:
        name = request.head.verb
        # `shutdown` and `status` have to work across versions: that is how an old agent is replaced.
        if request.head.version != __version__ and name not in ("shutdown", "status"):
            return version_mismatch(request.head.version)
        verb = self._verbs.get(name)
        if verb is None:
            raise UsageError(f"verb {name[:100]!r}: unknown; known: {', '.join(sorted(self._verbs))}")
        if request.fds and name not in TAKES_DESCRIPTORS:
            raise UsageError(f"{name}: takes no descriptors")
        return {"ok": True, **await verb(connection, request)}
