"""Reads and writes of non-blocking descriptors on an event loop (layer 5): pipes, sockets, terminals."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any

_CHUNK = 64 << 10


async def read_some(fd: int) -> bytes:
    """Empty at the end."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            return os.read(fd, _CHUNK)
        except BlockingIOError:
            await _ready(loop.add_reader, loop.remove_reader, fd)
        except OSError:  # EIO: no process has the terminal open any more
            return b""


async def write_all(fd: int, data: bytes) -> bool:
    """False where nothing reads it."""
    loop = asyncio.get_running_loop()
    while data:
        try:
            data = data[os.write(fd, data) :]
        except BlockingIOError:
            await _ready(loop.add_writer, loop.remove_writer, fd)
        except OSError:
            return False
    return True


async def _ready(add: Callable[..., Any], remove: Callable[[int], bool], fd: int) -> None:
    ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    add(fd, _set, ready)
    try:
        await ready
    finally:
        remove(fd)


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
