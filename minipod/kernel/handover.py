"""Which descriptors may be handed to a container (layer 1): those that lead nowhere else. No policy of its own."""

from __future__ import annotations

import os
import socket


def leads_nowhere_else(fd: int) -> bool:
    """Whether it is a pipe without a name, or one end of a connected unix stream.

    Whatever has a name could be reopened through /proc/self/fd with more rights, or be given another mode or owner. A
    socket that listens accepts others; one of TCP, or of datagrams, can be connected anew, and reaches whatever the
    network namespace that it was made in reaches: the host's.
    """
    name = os.readlink(f"/proc/self/fd/{fd}")
    if name.startswith("pipe:["):
        return True
    if not name.startswith("socket:["):
        return False
    with socket.socket(fileno=os.dup(fd)) as end:
        if (end.family, end.type) != (socket.AF_UNIX, socket.SOCK_STREAM):
            return False
        try:
            end.getpeername()
        except OSError:  # not connected
            return False
        return True
