"""The spawner's own control group (layer 3): what is done to the unit of the agent is not done to the spawner, nor to
the answerer, which is in it too.

An agent that is a service of systemd would have its spawner in the unit's group: `systemctl kill`, the unit's limits
and its OOM killer would meet both, and each start would warn of a process that was left over.
"""

from __future__ import annotations

import contextlib
import os

from minipod.kernel import cgroup

_NAME = "/spawner"


def is_service(lines: str) -> bool:
    """Whether a process is part of a service of systemd. `lines`: the text of its /proc/PID/cgroup."""
    return any(part.endswith(".service") for line in lines.splitlines() for part in line.partition("/")[2].split("/"))


def separate(exits: str, cgroup_root: str, hierarchies: tuple[cgroup.Hierarchy, ...]) -> None:
    """Moves spawners and answerer of an instance into a group of their own, if this process is a service. Idempotent.

    `exits`: the directory that they write ends to. `cgroup_root`: the instance's group. Raises OSError.
    """
    with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        if not is_service(file.read()):
            return
    for pid in _processes(exits):
        for hierarchy in hierarchies:
            cgroup.make(hierarchy, cgroup_root + _NAME)
            with contextlib.suppress(ProcessLookupError):
                cgroup.write(hierarchy.mount + cgroup_root + _NAME, "cgroup.procs", str(pid))


def _processes(exits: str) -> list[int]:
    """Their pids: each names its directory in its command line (`spawner.start`, `names.start`)."""
    known = (
        (b"minipod.runtime.spawner", repr(exits).encode()),
        (b"minipod.names.program", repr(f"{os.path.dirname(exits)}/names").encode()),
    )
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{name}/cmdline", "rb") as file:
            line = file.read()
            if any(module in line and directory in line for module, directory in known):
                found.append(int(name))
    return found


def leave() -> None:
    """Called by a spawner that ends: removes its group, and the instance's where nothing else is in it."""
    with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        places = [line.split(":", 2)[1:] for line in file.read().splitlines()]
    mounts = cgroup.find_mounts() if any(path.endswith(_NAME) for _, path in places) else {}
    for controllers, path in places:
        mount = mounts.get(controllers.split(",")[0])
        if mount is not None and path.endswith(_NAME):
            with contextlib.suppress(OSError):
                cgroup.write(mount, "cgroup.procs", "0")
                os.rmdir(mount + path)
                os.rmdir(mount + path.removesuffix(_NAME))
