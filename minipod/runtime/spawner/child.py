"""One process of the spawner's (layer 3): its request, its descriptors, its end. A value that the loop changes."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Any

from minipod.runtime.spawner.messages import encode

_LIST_BYTES = 64 << 10  # of a part of a list: the usual net.core.wmem_max is 208 KiB


class Child:
    """A process that was forked here, or one of another spawner that an agent asked to hold (`adopted`)."""

    def __init__(self, key: str, pid: int, request_id: int = -1, keep: bool = True) -> None:
        self.key = key
        self.pid = pid
        self.request_id = request_id  # of the agent that gets the answer
        self.agent: socket.socket | None = None
        self.is_own = True
        self.keep = keep
        self.status: socket.socket | None = None  # open until exec succeeded or failed
        self.held: dict[str, int] = {}  # kept for the next agent: stdin, stdout, stderr, terminal
        self.pidfd = (
            -1
        )  # of our own until exec, then it is opened when asked for: a descriptor less; of others' for good
        self.facts: dict[str, Any] = {}
        self.is_born_later = False  # `pid` is the process that prepares it, until it reports itself
        self.reported = False  # it got as far as exec
        self.failure: dict[str, Any] | None = None
        self.started_at_ns = 0
        self.exit: dict[str, Any] | None = None

    @classmethod
    def of_another(cls, key: str, pid: int, started_at_ns: int, fds: Mapping[str, int]) -> Child:
        """One of another spawner, with copies of descriptors. Raises OSError: none is free."""
        child = cls(key, pid)
        child.is_own, child.started_at_ns = False, started_at_ns
        try:
            for name, fd in fds.items():
                child.held[name] = os.dup(fd)
        except OSError:
            child.close_held()
            raise
        child.pidfd = child.held.pop("pidfd")
        return child

    def end(self, code: int, number: int, now_ns: int, known: bool = True) -> None:
        """`known` False: how it ended could not be found out."""
        self.exit = {
            "key": self.key,
            "pid": self.pid,
            "code": code,
            "signal": number,
            "started_at_ns": self.started_at_ns,
            "finished_at_ns": now_ns,
        }
        if not known:
            self.exit["known"] = False

    def fields(self) -> dict[str, Any]:
        """As an agent sees it."""
        return {
            "key": self.key,
            "pid": self.pid,
            "started_at_ns": self.started_at_ns,
            "facts": self.facts,
            "exit": self.exit,
        }

    def descriptors(self) -> dict[str, int]:
        """What an agent gets, by name, its pidfd while it has not ended. The caller closes that of one of our own."""
        if self.exit is None and self.pidfd < 0:
            self.pidfd = os.pidfd_open(self.pid)
        return {**self.held, "pidfd": self.pidfd} if self.pidfd >= 0 else self.held

    def close_pidfd(self) -> None:
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1

    def close_held(self) -> None:
        self.close_pidfd()
        for fd in self.held.values():
            os.close(fd)
        self.held.clear()


def part_of_list(children: Mapping[str, Child], after: str) -> dict[str, Any]:
    """The answer to `list`: those whose keys sort after `after` as far as they fit into a message, at least one."""
    found: list[dict[str, Any]] = []
    size = 0
    keys = sorted(key for key in children if key > after)
    for key in keys:
        fields = children[key].fields()
        size += len(encode(fields))
        if found and size > _LIST_BYTES:
            break
        found.append(fields)
    return {"children": found, "more": len(found) < len(keys)}
