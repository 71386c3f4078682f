"""Starts a container's process again where its spawner has died in the middle (layer 3). No policy.

A child reports to its spawner just before it executes the container's program, and exits where none reads that. So what
a dead spawner has left is a child that exits by itself, one that can be killed as nothing of the container has run, or,
between its report and the spawner's answer, the container itself: that is continued with, and held by the next spawner.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from minipod.plan.configs import HostFacts
from minipod.runtime import cgroup
from minipod.runtime.regained import regained
from minipod.runtime.spawner import PROCESS_NAME
from minipod.runtime.spawner.client import Spawned, SpawnerGoneError
from minipod.runtime.spawner.inbox import close_all

_ATTEMPTS = 5
_PAUSE_S = 0.01
_PAUSES = 200  # a killed process is gone within milliseconds


async def spawned(
    ask: Callable[[], Awaitable[Spawned]], group: str, facts: HostFacts, *, has_terminal: bool = False
) -> Spawned:
    """What `ask` returns, which has the spawner of the moment make the process in the cgroup `group`; where the
    container's program has begun and the spawner could not report it, what there is of it. `has_terminal`: the
    container's terminal is gone with its spawner.

    Raises SpawnError; SpawnerGoneError where what has begun cannot be found, or every spawner dies.
    """
    for _ in range(_ATTEMPTS - 1):
        try:
            return await ask()
        except SpawnerGoneError:
            if not has_terminal and (begun := _begun(group, facts)) is not None:
                return begun
            if not await _cleared(group, facts):
                raise
    return await ask()


def _begun(group: str, facts: HostFacts) -> Spawned | None:
    """The container whose program has begun. Its spawner was the parent of its first process, and nothing in the group
    is that process' parent.
    """
    pids = cgroup.pids(group, facts)
    first = [pid for pid in pids if _parent(pid) not in pids]
    if len(first) != 1 or not _has_executed(first[0]):
        return None
    fds: dict[str, int] = {}
    try:
        fds["pidfd"] = os.pidfd_open(first[0])
        fds |= regained(first, {name: _pipe_of(first[0], number) for number, name in ((1, "stdout"), (2, "stderr"))})
        found = _facts_of(first[0])
        if len(fds) == 3 and first[0] in cgroup.pids(group, facts):  # so it is still that process
            return Spawned(first[0], time.time_ns(), found, fds)
    except (OSError, ValueError):  # it has ended, or has closed what it was given
        pass
    close_all(fds.values())
    return None


def _parent(pid: int) -> int:
    with contextlib.suppress(OSError, ValueError), open(f"/proc/{pid}/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[1])
    return 0


def _pipe_of(pid: int, number: int) -> int:
    return os.stat(f"/proc/{pid}/fd/{number}").st_ino


def _facts_of(pid: int) -> dict[str, Any]:
    """What a child reports of itself before it executes the program. Raises OSError, ValueError."""
    status = dict(line.split(b":", 1) for line in Path(f"/proc/{pid}/status").read_bytes().splitlines())
    environment = dict(entry.partition(b"=")[::2] for entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))
    root = os.stat(f"/proc/{pid}/root/")
    return {
        "uid": int(status[b"Uid"].split()[1]),
        "gid": int(status[b"Gid"].split()[1]),
        "groups": [int(word) for word in status[b"Groups"].split()],
        "home": os.fsdecode(environment.get(b"HOME", b"/")),
        "root": [root.st_dev, root.st_ino],
    }


async def _cleared(group: str, facts: HostFacts) -> bool:
    """Whether nothing is in the group any more, and nothing of the container has run in it."""
    if any(_has_executed(pid) for pid in cgroup.pids(group, facts)):
        return False
    cgroup.kill_each(group, facts)
    for _ in range(_PAUSES):
        if not cgroup.populated(group, facts):
            return True
        await asyncio.sleep(_PAUSE_S)
    return False


def _has_executed(pid: int) -> bool:
    """A child of the spawner has its name until it executes something else."""
    with contextlib.suppress(OSError):  # it has ended
        return Path(f"/proc/{pid}/comm").read_text().rstrip("\n") != PROCESS_NAME
    return False
