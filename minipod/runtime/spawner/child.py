"""One forked process as the spawner has it (layer 3): its request, its descriptors, its exit."""

from __future__ import annotations

import os
import socket
from typing import Any


class Child:
    """`key` names it in requests; `keep`: its end is recorded, and its stdio held, until it is forgotten."""

    def __init__(self, key: str, pid: int, request_id: int = 0, keep: bool = True) -> None:
        self.key = key
        self.pid = pid
        self.request_id = request_id  # of the agent that gets the answer
        self.agent: socket.socket | None = None
        self.keep = keep
        self.status: socket.socket | None = None  # open until exec succeeded or failed
        self.held: dict[str, int] = {}  # kept for the next agent: pidfd, stdin, stdout, stderr, terminal
        self.facts: dict[str, Any] = {}
        self.is_born_later = False  # `pid` is the process that prepares it, until it reports itself
        self.reported = False  # it got as far as exec
        self.failure: dict[str, Any] | None = None
        self.started_at_ns = 0
        self.exit: dict[str, Any] | None = None

    def fields(self) -> dict[str, Any]:
        """What `list` shows of it."""
        return {
            "key": self.key,
            "pid": self.pid,
            "started_at_ns": self.started_at_ns,
            "facts": self.facts,
            "exit": self.exit,
        }

    def close_held(self) -> None:
        for fd in self.held.values():
            os.close(fd)
        self.held.clear()
