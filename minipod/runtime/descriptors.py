"""Whether the agent has descriptors for another container (layer 3). They are the process', and so is the count."""

from __future__ import annotations

from minipod.errors import ContainerError
from minipod.kernel import descriptors

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
