"""A running container's standard streams for somebody who comes later (layer 3): attach. Copies nothing itself."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable

from minipod.errors import ContainerError
from minipod.runtime.container import Container
from minipod.runtime.logs import Tap
from minipod.runtime.status import ContainerState


class Attachment:
    """What is written is told to `tap`s beside the log; what is to be read is written into what `take_input` gives."""

    def __init__(self, container: Container, close_stdin: Callable[[str], Awaitable[None]]) -> None:
        """`close_stdin`: whoever else holds the container's writing end lets go. Raises ContainerError: not running."""
        if container.status.state != ContainerState.RUNNING or container.log is None:
            raise ContainerError(f'container "{container.status.config.name}" is not running')
        self._container = container
        self._log = container.log
        self._close_stdin = close_stdin

    @property
    def tty(self) -> bool:
        return self._container.status.config.tty

    async def take_input(self) -> int:
        """The terminal, or its standard input's writing end: the caller's to close. -1: it reads nothing.

        With stdinOnce the writing end is given away, once: the container reads the end when the taker closes it.
        """
        held, config = self._container.held, self._container.status.config
        fd = held.get("terminal", held.get("stdin", -1))
        if fd < 0:
            return -1
        if "terminal" in held or not config.stdin_once:
            return os.dup(fd)
        del held["stdin"]
        await self._close_stdin(self._container.status.id)
        return fd

    def tap(self, stream: str, tap: Tap, whole: bool = False) -> Callable[[], None]:
        """stdout or stderr, from the line on that is being written (`whole`: all of it); an empty chunk is the end."""
        return self._log.tap(stream, tap, whole)

    async def wait(self) -> int:
        """The container's exit code."""
        await self._container.ended.wait()
        return self._container.status.exit_code
