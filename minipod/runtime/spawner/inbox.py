"""Receives the messages of agent and spawner (layer 3), with their descriptors."""

from __future__ import annotations

import array
import json
import mmap
import os
import re
import socket
import struct
from collections.abc import Iterable

MESSAGE_LIMIT = 4 << 20  # bytes; an environment may be 2 MiB (execve(2))
DESCRIPTOR_LIMIT = 8
_LONG_BYTES = 256 << 10  # what the buffer may keep of memory between two messages
_CREDENTIALS = struct.Struct("=iII")  # struct ucred
_ANCILLARY_BYTES = socket.CMSG_SPACE(DESCRIPTOR_LIMIT * array.array("i").itemsize)
_SO_SNDBUFFORCE = 32
_FIRST_FIELD = re.compile(rb'\s*\{\s*"id"\s*:\s*(\d{1,15})\s*[,}]')


class BadMessage(Exception):  # noqa: N818 - what it is
    """Not a message of the protocol. `number`: of the request that it belongs to; None where that is unreadable."""

    def __init__(self, why: str, number: int | None) -> None:
        super().__init__(why)
        self.number = number


def number_of(data: bytes | memoryview) -> int | None:
    """The `id` of arbitrary bytes: in JSON at any place, otherwise only as the first field."""
    try:
        value = json.loads(str(data, "utf-8"))
    except (ValueError, RecursionError):
        found = _FIRST_FIELD.match(data)
        return int(found[1]) if found else None
    number = value.get("id") if type(value) is dict else None
    return number if type(number) is int else None


def named(names: tuple[str, ...], fds: list[int], number: int | None) -> dict[str, int]:
    """Descriptors by name. Raises BadMessage unless names and descriptors correspond one to one."""
    if len(set(names)) != len(names):
        raise BadMessage("two descriptors have the same name", number)
    if len(names) != len(fds):
        raise BadMessage(f"{len(names)} descriptors are named, {len(fds)} came", number)
    return dict(zip(names, fds, strict=True))


def close_all(fds: Iterable[int]) -> None:
    for fd in fds:
        os.close(fd)


def widen(sock: socket.socket) -> None:
    """Raise the send buffer to a whole message: root may exceed net.core.wmem_max, often 208 KiB."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, MESSAGE_LIMIT)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MESSAGE_LIMIT)


class Inbox:
    """One buffer for all messages: a new one each time costs more than the message.

    Of a mapping only what was written takes memory (a bytearray is written whole, with zeros), and a long message's
    part is given back before the next. It is private: the spawner's children share nothing with it.
    """

    def __init__(self) -> None:
        self._buffer = mmap.mmap(-1, MESSAGE_LIMIT, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._view = memoryview(self._buffer)
        self._long = False  # the last message was

    def receive(self, sock: socket.socket) -> tuple[memoryview, list[int]]:
        """(the message, valid until the next call; its descriptors). Both are empty at the end of the connection.

        Raises OSError; BadMessage where the message was truncated, after closing its descriptors.
        """
        if self._long:
            self._buffer.madvise(mmap.MADV_DONTNEED)
            self._long = False
        size, ancillary, flags, _ = sock.recvmsg_into([self._buffer], _ANCILLARY_BYTES, socket.MSG_CMSG_CLOEXEC)
        self._long = size > _LONG_BYTES
        fds = array.array("i")
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
        if size == 0 or flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            close_all(fds)
        if flags & socket.MSG_TRUNC:
            raise BadMessage(f"a message is longer than {MESSAGE_LIMIT >> 20} MiB", number_of(self._view[:64]))
        if flags & socket.MSG_CTRUNC:
            raise BadMessage(
                f"more than {DESCRIPTOR_LIMIT} descriptors, or than this process may open, came with a message",
                number_of(self._view[:size]),
            )
        return self._view[:size], fds.tolist() if size else []


def receive_report(sock: socket.socket) -> tuple[bytes, list[int], int]:
    """(message, descriptors, the sender's pid in this PID namespace) from a child; the socket has SO_PASSCRED.

    Raises BlockingIOError. The pid comes from the kernel: a child in another PID namespace does not know it.
    """
    space = socket.CMSG_SPACE(_CREDENTIALS.size) + socket.CMSG_SPACE(array.array("i").itemsize)
    message, ancillary, _, _ = sock.recvmsg(65536, space, socket.MSG_CMSG_CLOEXEC)
    fds, pid = array.array("i"), 0
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
        elif level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
            pid = _CREDENTIALS.unpack(data)[0]
    return message, fds.tolist(), pid
