"""A running container's standard streams for somebody who comes later (layer 3): attach. Copies nothing itself."""

from __future__ import annotations

import os
from collections.abc import Callable

from minipod.errors import ContainerError
from minipod.runtime.container import RUNNING, Container
from minipod.runtime.logs import Tap


class Attachment:
    """What is written is told to `tap`s beside the log; what is to be read is written into `input_fd`."""

    def __init__(self, container: Container) -> None:
        """Raises ContainerError where it is not running."""
        if container.status.state != RUNNING or container.log is None:
            raise ContainerError(f'container "{container.status.config.name}" is not running')
        self._container = container
        self._log = container.log

    @property
    def tty(self) -> bool:
        return self._container.status.config.tty

    def input_fd(self) -> int:
        """The terminal, or its standard input's writing end: the caller's to close. -1: it reads nothing."""
        held = self._container.held
        fd = held.get("terminal", held.get("stdin", -1))
        return os.dup(fd) if fd >= 0 else -1

    def tap(self, stream: str, tap: Tap, whole: bool = False) -> Callable[[], None]:
        """stdout or stderr, from the line on that is being written (`whole`: all of it); an empty chunk is the end."""
        return self._log.tap(stream, tap, whole)

    async def wait(self) -> int:
        """The container's exit code."""
        await self._container.ended.wait()
        return self._container.status.exit_code
