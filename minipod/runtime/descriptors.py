"""Whether the agent has descriptors for another container (layer 3). They are the process', and so is the count."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from typing import TypeVar

from minipod.errors import ContainerError
from minipod.kernel import descriptors

T = TypeVar("T")

_SCARCE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_RETRY_S = 0.5
_PER_CONTAINER = 6  # a pidfd, the ends of its streams, its log's file, one more for a terminal


class Room:
    """Counts the containers that were created and have no descriptors yet."""

    def __init__(self) -> None:
        self._coming: set[str] = set()

    def refusal(self, container_id: str = "") -> str:
        """Why no other container can be started; empty where one can."""
        wanted = (len(self._coming - {container_id}) + 1) * _PER_CONTAINER
        return descriptors.refusal("agent", wanted, descriptors.count(), descriptors.limit())

    def expect(self, container_id: str) -> None:
        """Called before its creation and before its start. Raises ContainerError."""
        if why := self.refusal(container_id):
            raise ContainerError(why)
        self._coming.add(container_id)

    def settle(self, container_id: str) -> None:
        """It has its descriptors, or will not get any."""
        self._coming.discard(container_id)


ROOM = Room()


async def once_possible(work: Callable[[], T]) -> T:
    """What `work` returns, tried until there are descriptors and memory for it: for what must not be left undone."""
    while True:
        try:
            return work()
        except MemoryError:
            pass
        except OSError as error:
            if error.errno not in _SCARCE:
                raise
        await asyncio.sleep(_RETRY_S)
