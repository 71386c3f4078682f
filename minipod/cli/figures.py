"""What processes take (layer 6): memory, processor time, threads, descriptors; the only module that imports psutil.

The command line reads them and not the agent: half a megabyte that stays, and a thousand processes to look at, belong
to the one who asks. Needs root, as the agent's socket does. A process that ends while it is read counts for nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress

import psutil

from minipod.cli.values import Object

_SPAWNER = "minipod-spawner"  # its name (comm)
_POD = re.compile(r"/pod([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?:/|$)", re.MULTILINE)
_NONE: Object = {"processes": 0, "memory_bytes": 0, "cpu_s": 0.0, "threads": 0, "descriptors": 0}


def figures_of(pids: Iterable[int]) -> Object:
    """Sums over the processes. `memory_bytes` is the proportional set size: pages that several share are divided."""
    total = dict(_NONE)
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            for name, value in _of_process(psutil.Process(pid)).items():
                total[name] += value
    total["cpu_s"] = round(total["cpu_s"], 2)
    return total


def _of_process(process: psutil.Process) -> Object:
    with process.oneshot():
        times = process.cpu_times()
        return {
            "processes": 1,
            "memory_bytes": process.memory_full_info().pss,
            "cpu_s": times.user + times.system,
            "threads": process.num_threads(),
            "descriptors": process.num_fds(),
        }


def figures_of_host(interval_s: float) -> Object:
    """Of the whole host over this time: `cpu_share` of all processors, 0 to 1; memory that is not available."""
    memory = psutil.virtual_memory()
    return {
        "cpus": psutil.cpu_count() or 1,
        "cpu_share": psutil.cpu_percent(interval_s) / 100,
        "memory_bytes": memory.total - memory.available,
        "memory_total_bytes": memory.total,
    }


def spawners(exits: str) -> list[int]:
    """The spawners of an instance: they are known by the directory that they write the ends of processes to."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess):
            if process.name() == _SPAWNER and repr(exits) in "".join(process.cmdline()[-1:]):
                found.append(process.pid)
    return sorted(found)


def pods(spawner_pids: Iterable[int]) -> dict[str, list[int]]:
    """Uid of the pod -> its processes: what descends from the spawners, by the name of its control group."""
    found: dict[str, list[int]] = {}
    for pid in spawner_pids:
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(pid).children(recursive=True):
                for uid in _pod_of(child.pid):
                    found.setdefault(uid, []).append(child.pid)
    return found


def _pod_of(pid: int) -> Iterator[str]:
    """None for one that is on its way into a pod."""
    with suppress(OSError), open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="replace") as file:
        if (match := _POD.search(file.read())) is not None:
            yield match[1]
