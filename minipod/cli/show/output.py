"""Where everything is written (layer 6): our own text, which cannot steer a terminal, and whole chunks of others'."""

from __future__ import annotations

import os
import sys

from minipod.cli.values import TYPE_CHECKING
from minipod.terminal import escaped

if TYPE_CHECKING:
    from typing import Any, TextIO


class Escaping:
    """A standard stream for what we print: names, messages and values that others chose are in it everywhere."""

    def __init__(self, stream: TextIO) -> None:
        self.unescaped = stream

    def write(self, text: str) -> int:
        try:
            return self.unescaped.write(escaped(text))
        except OSError as error:
            raise _named(error, self.unescaped.fileno()) from None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.unescaped, name)


class escaping_streams:  # noqa: N801 - a context manager; contextlib costs more than all of it
    """Whatever is printed inside is escaped."""

    def __enter__(self) -> None:
        self._before = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = Escaping(sys.stdout), Escaping(sys.stderr)

    def __exit__(self, *_exc: object) -> None:
        sys.stdout, sys.stderr = self._before


def write_painted(text: str, fd: int = 1) -> None:
    """With colours and movements of our own; what others chose in it, its maker has escaped."""
    stream = sys.stdout if fd == 1 else sys.stderr
    getattr(stream, "unescaped", stream).write(text)


def write_exact(text: str) -> None:
    """What a program asked for character by character (jsonpath). A terminal is no program."""
    if sys.stdout.isatty():
        sys.stdout.write(text)
        return
    try:
        text.encode()
    except UnicodeEncodeError:  # bytes of a secret, which need not be UTF-8
        write(1, text.encode(errors="surrogateescape"))
        return
    write_painted(text)


def write(fd: int, data: bytes) -> None:
    """All of `data`, after what Python still holds for the same descriptor.

    Raises BrokenPipeError; another OSError (a full disk) names the stream.
    """
    flush(fd)
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:  # another process made this terminal or pipe non-blocking
            import select

            select.select([], [fd], [])
        except OSError as error:
            raise _named(error, fd) from None


def flush(fd: int) -> None:
    """Writes what Python still holds for the descriptor. Raises as `write`."""
    try:
        (sys.stdout if fd == 1 else sys.stderr).flush()
    except OSError as error:
        raise _named(error, fd) from None


def _named(error: OSError, fd: int) -> OSError:
    return OSError(error.errno, error.strerror, "standard output" if fd == 1 else "standard error")


class Warnings:
    """How many this command line has printed."""

    def __init__(self) -> None:
        self.count = 0


warnings = Warnings()


def warn(message: str) -> None:
    warnings.count += 1
    print(f"warning: {message}", file=sys.stderr)
