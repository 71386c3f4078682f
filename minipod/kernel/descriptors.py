"""How many descriptors this process has open, and may have (layer 1). The spawner imports it: it imports little.

A process that has none left can do nothing any more: accept no command, read no file, delete no pod. So what takes
descriptors for long, a container, is refused while there are still some for everything else.
"""

from __future__ import annotations

import os
import resource

REMEDY = "delete pods, or start the agent with a higher hard limit (ulimit -Hn, LimitNOFILE= of its unit)"

_LEAST, _MOST = 64, 256


def limit() -> int:
    """The soft RLIMIT_NOFILE."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return soft if soft != resource.RLIM_INFINITY else 1 << 30


def hard_limit() -> int:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return hard if hard != resource.RLIM_INFINITY else 1 << 30


def count() -> int:
    """How many are open, the caller's included. Before Linux 6.2 the lowest free number: at most as many."""
    try:
        size = os.stat("/proc/self/fd").st_size
    except OSError:
        size = 0
    if size:
        return size
    try:
        free = os.dup(0)
    except OSError:
        return limit()
    os.close(free)
    return free


def reserve(most: int) -> int:
    """How many of `most` are kept for what takes one for a moment: commands, probes, files, sockets. Pure."""
    return min(_MOST, max(most // 8, min(_LEAST, most // 2)))


def refusal(owner: str, wanted: int, open_now: int, most: int) -> str:
    """Why `owner` takes no `wanted` more for a container; empty where it does. Pure."""
    kept = reserve(most)
    if open_now + wanted <= most - kept:
        return ""
    return (
        f"no descriptor is free for another container: the {owner} has {open_now} of {most} open and keeps {kept} "
        f"for everything else: {REMEDY}"
    )
