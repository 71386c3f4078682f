"""Whether the agent has descriptors for another container (layer 3). They are the process', and so is the count."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from minipod.errors import ContainerError
from minipod.kernel import descriptors

_PER_CONTAINER = 6  # a pidfd, the ends of its streams, its log's file, one more for a terminal


class Room:
    """Counts the containers that are being started: they have no descriptors yet."""

    def __init__(self) -> None:
        self._starting = 0

    def refusal(self) -> str:
        """Why no other container can be started; empty where one can."""
        wanted = (self._starting + 1) * _PER_CONTAINER
        return descriptors.refusal("agent", wanted, descriptors.count(), descriptors.limit())

    @contextlib.contextmanager
    def of_a_container(self) -> Iterator[None]:
        """While it starts. Raises ContainerError."""
        if why := self.refusal():
            raise ContainerError(why)
        self._starting += 1
        try:
            yield
        finally:
            self._starting -= 1


ROOM = Room()
