"""What keeps root from running pods: capabilities taken away, a user namespace, a container around it (layer 5).

Reads /proc only. An agent refuses to start without NEEDED; `minipod check` says what to add.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from minipod.errors import HostError
from minipod.kernel import inherit
from minipod.plan.process.security import CAPABILITIES, DEFAULT_CAPABILITIES

#: minipod's own (namespaces and mounts, the network, other users' directories), and those that containers get
NEEDED = ("SYS_ADMIN", "NET_ADMIN", "DAC_READ_SEARCH", *sorted(DEFAULT_CAPABILITIES))
WHOLE_RANGE = (0, 0, 2**32 - 1)  # the only line of the host's own /proc/self/uid_map
ADD = "root of the host has them all; in a container: --privileged, or at least {options}"
CONFINED = "--security-opt seccomp=unconfined --security-opt apparmor=unconfined -v /sys/fs/cgroup:/sys/fs/cgroup:rw"

_MARKS = (
    ("/.dockerenv", "docker"),
    ("/run/.containerenv", "podman"),
    ("/run/host/container-manager", "systemd-nspawn"),
)
_GROUPS = re.compile(r"/(docker|libpod|kubepods|lxc)[./_-]")


def missing(mask: str, names: Iterable[str] = NEEDED) -> tuple[str, ...]:
    """Those of the capabilities that are not in a hexadecimal mask of /proc/PID/status."""
    bits = int(mask or "0", 16)
    return tuple(name for name in names if not bits >> CAPABILITIES.index(name) & 1)


def own_missing() -> tuple[str, ...]:
    """What this process may not do, or could never give a container."""
    lacking = {name for field in ("CapEff", "CapBnd") for name in missing(inherit.status_field("self", field))}
    return tuple(name for name in NEEDED if name in lacking)


def remedy(names: tuple[str, ...]) -> str:
    options = " ".join(f"--cap-add={name}" for name in names)
    return ADD.format(options=f"{options} {CONFINED}")


def require_capabilities() -> None:
    """Raises HostError where the agent could start no container."""
    if names := own_missing():
        raise HostError(f"the agent lacks the capabilities {', '.join(names)}: {remedy(names)}")


def is_mapped(uid_map: str) -> bool:
    """Whether /proc/self/uid_map is that of a user namespace: its root is another user of the host."""
    lines = [tuple(map(int, line.split())) for line in uid_map.splitlines()]
    return lines != [WHOLE_RANGE] and bool(lines)


def container(mark: str, groups: str) -> str:
    """What kind of container this is; `""` outside. `mark`: the variable `container` of the first process. `groups`:
    the text of /proc/self/cgroup."""
    if mark:
        return mark
    for path, kind in _MARKS:
        if os.path.exists(path):
            return kind
    found = _GROUPS.search(groups)
    return "" if found is None else found[1]
