"""Writing bytes (layer 6): whole chunks straight to a descriptor, in the order they come."""

from __future__ import annotations

import os
import sys


def write(fd: int, data: bytes) -> None:
    """All of `data`, after what Python still holds for the same descriptor. Raises BrokenPipeError."""
    (sys.stdout if fd == 1 else sys.stderr).flush()
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:  # somebody else made this terminal or pipe non-blocking
            import select

            select.select([], [fd], [])


def warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr)
