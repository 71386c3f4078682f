"""Why the spawner could not start a process, as one line (layer 3): with the limit that was met, and its remedy."""

from __future__ import annotations

import errno
import os

from minipod.kernel.error_text import limit_of, text_of
from minipod.plan.configs import HostFacts
from minipod.runtime import cgroup
from minipod.runtime.spawner.client import SpawnError


def described(error: BaseException, group: str, facts: HostFacts) -> str:
    """`group`: the cgroup in which the process was to be."""
    why = ""
    if isinstance(error, SpawnError):
        full = _full(group, facts) if error.errno == errno.EAGAIN else ""
        why = full or limit_of(OSError(error.errno, ""), error.operation)
    return f"{text_of(error)}: {why}" if why else text_of(error)


def _full(group: str, facts: HostFacts) -> str:
    """Of the group and those above it, the one that has all the processes that it may have."""
    while group.strip("/"):
        used, most = cgroup.processes(group, facts)
        if 0 < most <= used:
            return (
                f"no more processes in cgroup {group}: {used} of {most} (pids.max): end some, or raise pod_pids_limit "
                "in the configuration"
            )
        group = os.path.dirname(group)
    return ""
