"""The error for a container that has ended (layer 3), also in the moment between its end and its status."""

from __future__ import annotations

import asyncio
import contextlib
import select
from collections.abc import AsyncIterator

from minipod.errors import NEGATIVE, ContainerError
from minipod.runtime.container import Container
from minipod.runtime.status import ContainerState

_STATUS_S = 5.0  # from the end of the process to its status: until the output is in the log


class ContainerEndedError(ContainerError):
    """Something needs a running container, and this one has ended. `.exit_code` is None where it is not known yet."""

    exit_status = NEGATIVE

    def __init__(self, name: str, exit_code: int | None) -> None:
        known = "" if exit_code is None else f" (exit code {exit_code})"
        super().__init__(f'container "{name}" has ended{known}')
        self.exit_code = exit_code


def end_of(container: Container) -> ContainerEndedError | None:
    """The error for a container whose status is that it has ended; None for any other."""
    if container.status.state != ContainerState.EXITED:
        return None
    return ContainerEndedError(container.status.config.name, container.status.exit_code)


async def settle(container: Container) -> None:
    """Waits for the status of a container whose process has ended and whose last output is being written."""
    if container.status.state == ContainerState.RUNNING and container.log is None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STATUS_S):
                await container.ended.wait()


@contextlib.asynccontextmanager
async def unless_ended(container: Container) -> AsyncIterator[None]:
    """Raises ContainerEndedError in place of a ContainerError that has its cause in the end of the container.

    A process that joins namespaces of one that has just ended fails with ESRCH, and one that was on its way is killed
    with them, before the status is known: then this waits for the status.
    """
    try:
        yield
    except ContainerError as error:
        if _has_no_process(container):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_STATUS_S):
                    await container.ended.wait()
            ended = end_of(container) or ContainerEndedError(container.status.config.name, None)
            raise ended from error
        raise


def _has_no_process(container: Container) -> bool:
    """A pidfd is readable once its process has ended, also before it is reaped (pidfd_open(2))."""
    if container.status.state != ContainerState.RUNNING or container.pidfd < 0:
        return container.status.state == ContainerState.EXITED
    poll = select.poll()
    poll.register(container.pidfd, select.POLLIN)
    return any(events & select.POLLIN for _, events in poll.poll(0))
