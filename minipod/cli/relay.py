"""Copies between descriptors while a command runs (layer 6): pipes, or this terminal and a container's pty.

One poll loop over everything, the agent's connection too; no threads. Buffers are bounded: a side that
cannot write does not read.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import signal
import struct
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from minipod.cli.client import Request
from minipod.cli.values import Any, Object

CHUNK = 1 << 16
END_OF_INPUT = b"\x04"  # what a terminal sends for the end of input (VEOF, ^D)
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class Copy:
    """One direction: what is read from `source` is written to `sink`; either may be slower."""

    def __init__(self, source: int, sink: int, owns_source: bool, owns_sink: bool, final: bytes = b"") -> None:
        self.source = source
        self.sink = sink
        self._owns = (owns_source, owns_sink)
        self._final = final
        self.pending = b""
        self.at_end = False
        self.done = False

    def wanted(self) -> tuple[int, int]:
        """(descriptor, poll events) to wait for."""
        return (self.sink, select.POLLOUT) if self.pending else (self.source, select.POLLIN)

    def step(self) -> None:
        """Move some data; call it when `wanted` is ready."""
        try:
            if not self.pending and not self.at_end:
                self._read()
            if self.pending:
                self.pending = self.pending[os.write(self.sink, self.pending) :]
        except BlockingIOError:
            pass
        except OSError as error:
            # the command closed its input, or the last of its terminal's users has gone
            if error.errno not in (errno.EPIPE, errno.EIO, errno.ECONNRESET):
                raise
            if error.errno == errno.EPIPE and self.sink in (1, 2):
                raise BrokenPipeError(error.errno, error.strerror) from None
            self.pending = b""
            self.at_end = True
        if self.at_end and not self.pending:
            self.close()

    def _read(self) -> None:
        data = os.read(self.source, CHUNK)
        self.pending = data
        if not data:
            self.pending = self._final
            self.at_end = True

    def drain(self) -> None:
        """What is already there, without waiting for more: the command has ended."""
        poll = select.poll()
        poll.register(self.source, select.POLLIN)
        while not self.done and (self.pending or poll.poll(0)):
            self._wait_writable()
            self.step()
        self.close()

    def _wait_writable(self) -> None:
        if self.pending:
            poll = select.poll()
            poll.register(self.sink, select.POLLOUT)
            poll.poll()

    def close(self) -> None:
        if self.done:
            return
        self.done = True
        for fd, owned in zip((self.source, self.sink), self._owns, strict=True):
            if owned:
                os.close(fd)


def pump(request: Request, copies: list[Copy]) -> None:
    """Copy until the agent reports the end of the command. Raises the agent's error."""
    while not has_end(request):
        poll = select.poll()
        events: dict[int, int] = {request.fileno(): select.POLLIN}
        for copy in copies:
            if not copy.done:
                fd, event = copy.wanted()
                events[fd] = events.get(fd, 0) | event
        for fd, event in events.items():
            poll.register(fd, event)
        ready = {fd for fd, _ in poll.poll()}
        for copy in copies:
            if not copy.done and copy.wanted()[0] in ready:
                copy.step()
        if request.fileno() in ready:
            request.fill()


def has_end(request: Request) -> bool:
    """Whether the last answer is among what has been received, also together with an earlier one."""
    while request.poll() is not None:
        pass
    return request.result is not None


def exit_code(result: Object | None) -> int:
    """The exit status of what ran, in the last line of an answer."""
    return int((result or {}).get("exit_code", 0)) & 0xFF


class Relay:
    """Copies for a command without a terminal."""

    def __init__(self) -> None:
        self._inputs: list[Copy] = []
        self._outputs: list[Copy] = []
        self.request: Request | None = None

    def add(self, source: int, sink: int) -> None:
        """From our `source` 0 into a pipe, or out of a pipe to our `sink` 1 or 2; the pipe's end becomes ours."""
        if source == 0:
            os.set_blocking(sink, False)
            self._inputs.append(Copy(source, sink, owns_source=False, owns_sink=True))
        else:
            self._outputs.append(Copy(source, sink, owns_source=True, owns_sink=False))

    def run(self, request: Request) -> None:
        pump(request, self._inputs + self._outputs)
        for copy in self._outputs:
            if not copy.done:
                copy.drain()

    @contextmanager
    def signals_forwarded(self) -> Iterator[None]:
        """Signals go to the command from before it is requested: none may end this process and leave it running."""

        def forward(number: int, _frame: FrameType | None) -> None:
            if self.request is None:
                raise SystemExit(128 + number)
            self.request.send({"verb": "signal", "signal": number})

        before = {number: signal.signal(number, forward) for number in FORWARDED}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class TerminalRelay:
    """This terminal and a container's pty; restores the terminal on every way out."""

    def __init__(self, master_fd: int, stdin: bool, output_fd: int | None = None) -> None:
        """`output_fd`: where the output comes from, if another process reads the pty."""
        self._master_fd = master_fd
        self._output_fd = master_fd if output_fd is None else output_fd
        self._stdin = stdin
        self._saved: list[Any] | None = None
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> TerminalRelay:
        os.set_blocking(self._master_fd, False)
        if self._stdin and os.isatty(0):
            for number in (signal.SIGTERM, signal.SIGHUP):
                self._handlers[number] = signal.signal(number, self._leave)
            self._saved = termios.tcgetattr(0)
            make_raw(0, self._saved)
        self._handlers[signal.SIGWINCH] = signal.signal(signal.SIGWINCH, self._resize)
        self._resize(0, None)
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._saved is not None:
            termios.tcsetattr(0, termios.TCSAFLUSH, self._saved)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        for fd in {self._master_fd, self._output_fd}:
            os.close(fd)

    def run(self, request: Request) -> None:
        outputs = [Copy(self._output_fd, 1, owns_source=False, owns_sink=False)]
        inputs: list[Copy] = []
        if self._stdin:
            # twice: the first ends a line that has no newline, the second the input
            final = b"" if self._saved is not None else END_OF_INPUT * 2
            inputs.append(Copy(0, self._master_fd, owns_source=False, owns_sink=False, final=final))
        pump(request, inputs + outputs)
        outputs[0].drain()

    def _resize(self, _number: int, _frame: FrameType | None) -> None:
        size = window_size(0) or window_size(1)
        if size is not None:
            fcntl.ioctl(self._master_fd, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))

    def _leave(self, number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)


def make_raw(fd: int, attributes: list[Any]) -> None:
    """cfmakeraw(3), but output stays as it is set: the container's pty has made its own carriage returns."""
    iflag, oflag, cflag, lflag, ispeed, ospeed, chars = attributes
    iflag &= ~(
        termios.IGNBRK
        | termios.BRKINT
        | termios.PARMRK
        | termios.ISTRIP
        | termios.INLCR
        | termios.IGNCR
        | termios.ICRNL
        | termios.IXON
    )
    oflag &= ~termios.OPOST
    lflag &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
    cflag = (cflag & ~(termios.CSIZE | termios.PARENB)) | termios.CS8
    chars = list(chars)
    chars[termios.VMIN], chars[termios.VTIME] = 1, 0
    termios.tcsetattr(fd, termios.TCSADRAIN, [iflag, oflag, cflag, lflag, ispeed, ospeed, chars])


def window_size(fd: int) -> tuple[int, int] | None:
    """(rows, columns) of a terminal; None where `fd` is none."""
    try:
        rows, columns, _, _ = struct.unpack("HHHH", fcntl.ioctl(fd, termios.TIOCGWINSZ, bytes(8)))
    except OSError:
        return None
    return (rows, columns) if rows and columns else None
