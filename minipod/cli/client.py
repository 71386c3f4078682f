"""The thin client of the agent's control socket (layer 6): JSON lines with descriptors, and starting an agent.

Uses the C module `_socket`: `socket` alone costs as much as everything else that is imported here.
"""

from __future__ import annotations

import _socket
import array
import json
import os
import sys
from collections.abc import Callable, Sequence

from minipod import __version__
from minipod.cli.patience import patience, peer_pid, wait_of
from minipod.cli.trouble import problem
from minipod.cli.values import TYPE_CHECKING, Object
from minipod.errors import (
    AgentError,
    ConflictError,
    ExpiredError,
    HostError,
    ManifestError,
    MinipodError,
    NotFoundError,
    UsageError,
)
from minipod.kernel.dying import is_being_killed

if TYPE_CHECKING:
    import argparse

    from minipod.paths import Paths

MSG_CMSG_CLOEXEC = 0x40000000
_ERRORS: dict[str, type[MinipodError]] = {
    "NotFound": NotFoundError,
    "AlreadyExists": ConflictError,
    "Conflict": ConflictError,
    "Expired": ExpiredError,
    "Usage": UsageError,
    "Host": HostError,
}


class RemoteError(MinipodError):
    """What the agent answered: its message and its exit status."""

    def __init__(self, message: str, exit_status: int) -> None:
        super().__init__(message)
        self.exit_status = exit_status


class AgentLostError(AgentError):
    """The connection ended before the answer did: the agent was killed or replaced."""


def error_of(error: Object) -> MinipodError:
    """The exception that stands for an agent's `error` object."""
    kind, message = str(error.get("kind", "Internal")), str(error.get("message", "the agent gave no reason"))
    if kind == "Manifest":
        return ManifestError(message, list(error.get("errors") or []))
    if kind in _ERRORS:
        return _ERRORS[kind](message)
    return RemoteError(message, int(error.get("exit", 3)) or 3)


class Channel:
    """One connection: lines out, lines in. `fds` collects the descriptors that came with what was received."""

    def __init__(self, sock: _socket.socket, trace: bool = False) -> None:
        self.sock = sock
        self.fds: list[int] = []
        self.was_reset = False
        self._buffer = b""
        self._trace = trace

    def fileno(self) -> int:
        return self.sock.fileno()

    def send(self, message: Object, fds: Sequence[int] = ()) -> None:
        """One line; `fds` travel with its first byte. Raises AgentError when no agent listens any more."""
        if self._trace:
            print(f"> {json.dumps(message)[:2000]}", file=sys.stderr)
        data = json.dumps(message, separators=(",", ":")).encode() + b"\n"
        rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            sent = self.sock.sendmsg([data], rights)
            while sent < len(data):
                sent += self.sock.send(data[sent:])
        except (BrokenPipeError, ConnectionResetError):
            # it answered before it closed: the answer is still to be read, and says why
            pass

    def pending(self) -> Object | None:
        """A message that has already been received whole, without reading."""
        line, newline, rest = self._buffer.partition(b"\n")
        if not newline:
            return None
        self._buffer = rest
        if self._trace:
            print(f"< {line[:2000].decode(errors='replace')}", file=sys.stderr)
        message: Object = json.loads(line)
        return message

    def fill(self) -> bool:
        """Receive what there is (waits if nothing). False at the end of the connection."""
        try:
            data, ancillary, _flags, _address = self.sock.recvmsg(1 << 16, _socket.CMSG_SPACE(16 * 4), MSG_CMSG_CLOEXEC)
        except ConnectionResetError:
            self.was_reset = True
            return False
        for level, kind, payload in ancillary:
            if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
                fds = array.array("i")
                fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
                self.fds += fds
        self._buffer += data
        return bool(data)

    def leave(self) -> None:
        """Close our side; return when the agent has cleaned up after this request."""
        try:
            self.sock.shutdown(_socket.SHUT_WR)
        except OSError:
            return
        while self.fill():
            self._buffer = b""

    def close(self) -> None:
        self.sock.close()
        for fd in self.fds:
            os.close(fd)
        self.fds = []


class Request:
    """One request and its answers; an agent of another version is replaced before the first answer, if `replaces`."""

    def __init__(
        self, client: Client, message: Object, fds: Sequence[int], channel: Channel, replaces: bool = True
    ) -> None:
        self._client = client
        self._message = {**message, "version": __version__}
        self._fds = fds
        self._started = False
        self._replaces = replaces
        self._retries = 3
        self.result: Object | None = None
        self.channel = channel
        self._wait = patience.begin(wait_of(message, channel.sock))
        channel.send(self._message, fds)

    def fileno(self) -> int:
        return self.channel.fileno()

    def __enter__(self) -> Request:
        return self

    def __exit__(self, *_exc: object) -> None:
        patience.end(self._wait)
        self.channel.close()

    def send(self, message: Object) -> None:
        self.channel.send(message)

    def take_fd(self) -> int:
        """The next descriptor that the agent has sent. Raises AgentError where there is none."""
        if not self.channel.fds:
            raise AgentError("the agent announced a descriptor and sent none; see agent.log")
        return self.channel.fds.pop(0)

    def next(self) -> Object | None:
        """The next event, waiting for it; None after the last one, with `result` set. Raises what the agent says."""
        while (event := self.poll()) is None and self.result is None:
            self.fill()
        return event

    def fill(self) -> None:
        """Receive once. Raises AgentError when the connection ends before the answer does."""
        if self.channel.fill():
            return
        if self.channel.was_reset and not self._started and self._retries:
            # an agent that exits resets unread requests: nothing was done, the next agent is asked
            self._retries -= 1
            self._ask_again(self._client.connect)
        else:
            patience.end(self._wait)
            raise AgentLostError(
                f"the agent went away in the middle of an answer; see {self._client.paths.root}/agent.log"
            )

    def poll(self) -> Object | None:
        """The next event that is already here; None where there is none (or `result` has come)."""
        message = self.channel.pending() if self.result is None else None
        if message is None:
            return None
        self._wait.heard()
        if "error" in message:
            if message["error"].get("kind") == "VersionMismatch" and not self._started and self._replaces:
                self._replace_agent(str(message["error"].get("version", "of another version")))
                return None
            patience.end(self._wait)
            raise error_of(message["error"])
        self._started = True
        if "event" in message:
            return message
        self.result = message
        patience.end(self._wait)
        return None

    def _replace_agent(self, theirs: str) -> None:
        self._started = True  # once is enough: a second mismatch is an error
        self._ask_again(lambda: self._client.replace(theirs))

    def _ask_again(self, connect: Callable[[], Channel]) -> None:
        self.channel.close()
        self.channel = connect()
        patience.end(self._wait)
        self._wait = patience.begin(wait_of(self._message, self.channel.sock))
        self.channel.send(self._message, self._fds)


class Client:
    """Reaches the agent of one `--run-dir`, starting one where none answers."""

    def __init__(self, paths: Paths, config: str | None = None, trace: bool = False, verb: str = "") -> None:
        self.paths = paths
        self.config = config
        self._trace = trace
        self._verb = verb

    @classmethod
    def of(cls, args: argparse.Namespace, verb: str) -> Client:
        from minipod.cli.options import paths_of

        return cls(paths_of(args), args.config, bool(args.verbose), verb)

    def request(self, message: Object, fds: Sequence[int] = (), *, replaces: bool = True) -> Request:
        """Send one request; an agent is started where none answers. Raises AgentError, HostError.

        `replaces`: an agent of another version is replaced by one of this version.
        """
        return Request(self, message, fds, self.connect(), replaces)

    def request_if_pods(self, message: Object) -> Request | None:
        """As `request`, but None where no agent runs and none has ever kept a pod here."""
        channel = self.try_connect()
        if channel is None and not os.path.exists(f"{self.paths.state}/minipod.db"):
            return None
        return Request(self, message, (), channel or self.connect())

    def call(self, message: Object) -> tuple[list[Object], Object]:
        """All events of a request, and its last line."""
        with self.request(message) as request:
            events = []
            while (event := request.next()) is not None:
                events.append(event)
            return events, request.result or {}

    def try_connect(self) -> Channel | None:
        """A connection to the running agent; None where none listens. Raises HostError, UsageError."""
        self.paths.check_length()
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        try:
            with patience.during("it accepts no more connections"):
                sock.connect(self.paths.agent_socket)
        except (FileNotFoundError, ConnectionRefusedError):
            sock.close()
            return None
        except PermissionError:
            sock.close()
            raise self._no_root() from None
        except OSError as error:
            sock.close()
            raise AgentError(problem(error, self.paths.agent_socket)) from None
        if is_being_killed(peer_pid(sock)):  # its socket is there as long as a thread of it hangs in the kernel
            sock.close()
            return None
        return Channel(sock, self._trace)

    def connect(self) -> Channel:
        """A connection to the agent, which is started where none answers."""
        channel = self.try_connect()
        if channel is not None:
            return channel
        if os.geteuid() != 0:
            raise self._no_root()
        from minipod.cli.start import last_logged, start_agent

        with patience.during("it starts", why=lambda: last_logged(self.paths)):
            start_agent(self.paths, self.config)
        channel = self.try_connect()
        if channel is None:
            raise AgentError(f"the agent started and went away again; see {self.paths.root}/agent.log")
        return channel

    def agent_status(self) -> Object | None:
        """What the running agent answers to `status`, of whatever version it is; None where none runs. Raises
        AgentError, HostError."""
        channel = self.try_connect()
        if channel is None:
            return None
        with Request(self, {"verb": "status"}, (), channel, replaces=False) as request:
            while request.next() is not None:
                pass
            return request.result or {}

    def end(self) -> Object:
        """Ask the agent to exit: its answer, when it has closed; empty where none runs. Its pods keep running. Raises
        what it says: it does not exit then."""
        from minipod.agent.registry.schema import SCHEMA_VERSION

        channel = self.try_connect()
        if channel is None:
            return {}
        channel.send({"verb": "shutdown", "version": __version__, "schema": SCHEMA_VERSION})
        with patience.during("it exits", channel.sock):
            while channel.fill():
                pass
        answer = channel.pending() or {}
        channel.close()
        if "error" in answer:
            raise error_of(answer["error"])
        return answer

    def replace(self, theirs: str) -> Channel:
        """Have an agent of version `theirs` replaced by one of this version: by systemd, by another service manager, or
        by one that is started here. Raises AgentError where that is not possible: the agent keeps running then.
        """
        from minipod.cli import units
        from minipod.cli.start import check_start, wait_restarted

        try:
            check_start(self.paths, self.config)
        except MinipodError as error:
            raise AgentError(
                f"the agent is minipod {theirs} and keeps running; minipod {__version__} cannot take over: {error}"
            ) from None
        try:
            unit = units.unit_of(self.agent_status() or {})
        except MinipodError:
            unit = ""  # a version that does not say, or one that is exiting
        if unit:
            units.systemctl("restart", unit)
        elif (answer := self.end()).get("restarts"):
            wait_restarted(self.paths, answer["pid"])
        return self.connect()

    def _no_root(self) -> HostError:
        command = f"minipod {self._verb}".strip()
        return HostError(f"{command} needs root: sudo {command} …")
