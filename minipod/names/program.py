"""The answerer's process (layer 2): waits for the first question, gives up every right, then answers.

Until the first question it has loaded next to nothing (3 MB) and has read nothing of a stranger's. Then it imports what
it needs, enters a chroot that holds its table only, becomes a user without rights, and begins to read. It has no child,
writes no file, and lives as long as the network of the instance; the agent may come and go.
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Collection


def main(directory: str, lock_fd: int, places: dict[str, list[int]]) -> None:
    """`places`: {"udp4", "tcp4", "udp6", "tcp6": descriptors}, those there are. Returns never."""
    from minipod.names import PROCESS_NAME

    with open("/proc/self/comm", "w", encoding="ascii") as file:  # what ps and top show
        file.write(PROCESS_NAME)
    os.write(lock_fd, b"%d\n" % os.getpid())
    _wait([fd for fds in places.values() for fd in fds])
    _without_metadata()
    from minipod.names import serve

    serve.run(directory, places)


def _wait(fds: Collection[int]) -> None:
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    poll.poll()


def _without_metadata() -> None:
    """dnspython reads the versions of libraries that are not wanted here; what it reads them with is 3 MB."""
    sys.modules["importlib.metadata"] = type(sys)("importlib.metadata")
