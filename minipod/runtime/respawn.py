"""Starts a container's process again where its spawner has died in the middle (layer 3). No policy.

A child reports to its spawner just before it executes the container's program, and exits where none reads that. So what
a dead spawner has left is a child that exits by itself, one that can be killed as nothing of the container has run, or,
between its report and the spawner's answer, the container itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path

from minipod.plan.configs import HostFacts
from minipod.runtime import cgroup
from minipod.runtime.spawner import PROCESS_NAME
from minipod.runtime.spawner.client import Spawned, SpawnerGoneError

_ATTEMPTS = 5
_PAUSE_S = 0.01
_PAUSES = 200  # a killed process is gone within milliseconds


async def spawned(ask: Callable[[], Awaitable[Spawned]], group: str, facts: HostFacts) -> Spawned:
    """What `ask` returns, which has the spawner of the moment make the process in the cgroup `group`.

    Raises SpawnError; SpawnerGoneError where the container's program may have begun, or every spawner dies.
    """
    for _ in range(_ATTEMPTS - 1):
        try:
            return await ask()
        except SpawnerGoneError:
            if not await _cleared(group, facts):
                raise
    return await ask()


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
