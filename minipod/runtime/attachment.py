"""Attaches to a running container's standard streams (layer 3). Copies nothing itself."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

from minipod.errors import ContainerError
from minipod.runtime.container import Container
from minipod.runtime.ended import end_of
from minipod.runtime.logs import Tap, replay
from minipod.runtime.status import ContainerState


class Attachment:
    """`tap` gets what the container writes, in addition to the log; `take_input` returns where its input is written."""

    def __init__(self, container: Container, close_stdin: Callable[[str], Awaitable[None]], whole: bool) -> None:
        """`close_stdin`: closes the spawner's copy of the writing end. `whole`: begins with what is in the log, also if
        the container has ended. Raises ContainerError: it has not started, or has ended.
        """
        ended = end_of(container)
        if ended is not None and not whole:
            raise ended
        if ended is None and (container.status.state != ContainerState.RUNNING or container.log is None):
            raise ContainerError(f'container "{container.status.config.name}" is not running')
        self._container = container
        self._log = container.log
        self._close_stdin = close_stdin
        self._whole = whole

    @property
    def tty(self) -> bool:
        return self._container.status.config.tty

    async def take_input(self) -> int:
        """The terminal, or the writing end of its standard input, for the caller to close; -1 where it has neither.

        With stdinOnce the writing end is returned once: the container reads end of file when the caller closes it.
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

    def tap(self, stream: str, tap: Tap, is_full: Callable[[], bool] = lambda: False) -> Callable[[], None]:
        """Passes stdout or stderr to `tap`, beginning with the current line (or with the log); ends with b"".

        `is_full`: whether the listener is behind; then the container waits.
        """
        if self._log is not None:
            return self._log.tap(stream, tap, self._whole, is_full)
        task = asyncio.ensure_future(replay(self._container.status.log_path, stream, tap, is_full))

        def stop() -> None:
            task.cancel()

        return stop

    async def wait(self) -> int:
        """The container's exit code."""
        await self._container.ended.wait()
        return self._container.status.exit_code
