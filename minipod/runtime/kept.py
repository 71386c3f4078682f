"""The output of containers in the service manager's store of descriptors (layer 3): it outlives agent and spawner.

Only for an agent that is a service with a store (`FileDescriptorStoreMax=`). Where both processes die at once and a
container ends before the next agent is there, this is what still has the end of its output.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Container as Collection
from collections.abc import Mapping

from minipod.kernel.sd_notify import ServiceManager

STREAMS = ("stdout", "stderr", "terminal")


class Kept:
    """What an earlier agent has stored, and what this one stores. Without a service manager it does nothing."""

    def __init__(self, manager: ServiceManager) -> None:
        self._manager = manager
        self._found: dict[str, list[int]] = {}  # container id -> descriptors, ours
        for stored in manager.stored:
            self._found.setdefault(stored.name, []).append(stored.fd)
        self._stored = set(self._found)

    def store(self, container_id: str, fds: Mapping[str, int]) -> None:
        """Keeps the streams of a container that has started."""
        streams = [fds[name] for name in STREAMS if name in fds]
        if streams and self._manager.store(container_id, streams):
            self._stored.add(container_id)

    def has(self, container_id: str) -> bool:
        return container_id in self._stored

    def take(self, container_id: str, pipes: Mapping[str, int]) -> dict[str, int]:
        """An earlier agent's descriptors by stream, the caller's own from now on. `pipes`: inode of each pipe."""
        names = {number: name for name, number in pipes.items()}
        taken: dict[str, int] = {}
        for fd in self._found.pop(container_id, []):
            found = os.fstat(fd)
            name = "terminal" if stat.S_ISCHR(found.st_mode) else names.get(found.st_ino, "")
            if name and name not in taken:
                taken[name] = fd
            else:
                os.close(fd)
        return taken

    def forget(self, container_id: str) -> None:
        """Its output is in its log."""
        if container_id in self._stored:
            self._stored.discard(container_id)
            self._manager.remove(container_id)

    def close_others(self, running: Collection[str]) -> None:
        """All containers are taken over: closes what was not needed, and forgets what is of no running container."""
        for fds in self._found.values():
            for fd in fds:
                with contextlib.suppress(OSError):
                    os.close(fd)
        self._found.clear()
        for container_id in sorted(self._stored):
            if container_id not in running:
                self.forget(container_id)
