"""Receiving what agent and spawner say to each other (layer 3): a message and the descriptors beside it."""

from __future__ import annotations

import array
import socket

MESSAGE_LIMIT = 4 << 20  # bytes; an environment may be 2 MiB (execve(2))
DESCRIPTOR_LIMIT = 8
_ANCILLARY_BYTES = socket.CMSG_SPACE(DESCRIPTOR_LIMIT * array.array("i").itemsize)


class Inbox:
    """One buffer for all messages: a new one each time costs more than the message."""

    def __init__(self) -> None:
        self._buffer = bytearray(MESSAGE_LIMIT)
        self._view = memoryview(self._buffer)

    def receive(self, sock: socket.socket, flags: int = 0) -> tuple[memoryview, list[int]]:
        """(the message, until the next one comes; its descriptors). Empty at the end. Raises OSError."""
        size, ancillary, _, _ = sock.recvmsg_into([self._buffer], _ANCILLARY_BYTES, socket.MSG_CMSG_CLOEXEC | flags)
        fds = array.array("i")
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
        return self._view[:size], fds.tolist()
