"""The probes of `minipod check` for what is around it (layer 6): a container, its capabilities, groups and limits."""

from __future__ import annotations

import errno
import os

from minipod.agent import confinement
from minipod.cli.finding import Finding
from minipod.kernel.probe import unshare_error
from minipod.kernel.process import NAMESPACE_FLAGS

CGROUPS = "/sys/fs/cgroup"
NAMESPACES = {
    "mnt": "a file system tree of its own",
    "pid": "process numbers of its own",
    "net": "an address and ports of its own",
    "ipc": "shared memory of its own",
    "uts": "a host name of its own",
    "cgroup": "sees only its own group",
}


def surroundings() -> list[Finding]:
    """For information: what is refused there other findings say."""
    variables = _read("/proc/1/environ").split("\0")
    mark = next((text.partition("=")[2] for text in variables if text.startswith("container=")), "")
    kind = confinement.container(mark, _read("/proc/self/cgroup"))
    detail = (
        f"a container ({kind}): minipod's pods are containers in it"
        if kind
        else "the host itself, as far as can be seen"
    )
    return [Finding("surroundings", True, detail, needed=False)]


def capabilities() -> list[Finding]:
    if os.geteuid() != 0:
        return [Finding("capabilities", None, "needs root to be asked", "", "sudo minipod check")]
    names = confinement.own_missing()
    detail = f"missing: {', '.join(names)}" if names else "all that are needed"
    why = "minipod makes namespaces, mounts and networks, and gives containers Kubernetes' default capabilities"
    return [Finding("capabilities", not names, detail, why, confinement.remedy(names))]


def user_namespace_of_root() -> list[Finding]:
    text = _read("/proc/self/uid_map")
    if not confinement.is_mapped(text):
        return [Finding("root's user namespace", True, "the host's own", needed=False)]
    outside = text.split()[1]
    why = "it may mount no image's layers and make no device: its capabilities hold in that namespace alone"
    how = "start it as the host's root: rootful podman or docker without userns-remap, not unshare -r"
    return [Finding("root's user namespace", False, f"uid 0 here is uid {outside} of the host", why, how)]


def namespaces() -> list[Finding]:
    """Makes each in a child: that /proc shows a namespace does not say that another may be made."""
    found = []
    for name, why in NAMESPACES.items():
        title = f"{name} namespace"
        if not os.path.exists(f"/proc/self/ns/{name}"):
            found.append(Finding(title, False, why, "", "a kernel with CONFIG_NAMESPACES"))
        elif os.geteuid() != 0:
            found.append(Finding(title, True, why))
        else:
            found.append(_made(title, why, unshare_error(NAMESPACE_FLAGS[name])))
    return found


def _made(title: str, why: str, code: int) -> Finding:
    detail = why if not code else f"unshare: {os.strerror(code).lower()}"
    how = f"sysctl user.max_{title.split()[0]}_namespaces: raise it"
    if code == errno.EPERM:
        how = "a seccomp filter or missing capabilities forbid it: --privileged, or --security-opt seccomp=unconfined"
    return Finding(title, not code, detail, why, how)


def cgroup_mounts() -> list[Finding]:
    """Whether groups can be made, and have controllers: a container's are often read-only."""
    places = [CGROUPS] if os.path.exists(f"{CGROUPS}/cgroup.controllers") else _hierarchies()
    if os.geteuid() != 0 or not places:
        return []
    closed = [place for place in places if not os.access(place, os.W_OK)]
    if closed:
        how = f"mount -o remount,rw {closed[0]}, or a container with --privileged or -v {CGROUPS}:{CGROUPS}:rw"
        return [
            Finding("cgroup mounts", False, f"read-only: {' '.join(closed)}", "every pod has groups of its own", how)
        ]
    if stuck := _blocked_controllers():
        how = f"mkdir {CGROUPS}/init; xargs -rn1 < {CGROUPS}/cgroup.procs > {CGROUPS}/init/cgroup.procs"
        why = "only the host's root group may have processes and give its children controllers"
        detail = f"{CGROUPS} has processes, so groups below it get no {', '.join(stuck)}"
        return [Finding("cgroup mounts", False, detail, why, how)]
    return [Finding("cgroup mounts", True, "groups can be made")]


def _hierarchies() -> list[str]:
    names = sorted(os.listdir(CGROUPS)) if os.path.isdir(CGROUPS) else []
    return [f"{CGROUPS}/{name}" for name in names if os.path.exists(f"{CGROUPS}/{name}/tasks")]


def _blocked_controllers() -> list[str]:
    """Of v2: what the mounted group cannot pass on, because it is not the root and has processes (cgroup-v2.rst)."""
    if not os.path.exists(f"{CGROUPS}/cgroup.type") or not _read(f"{CGROUPS}/cgroup.procs"):
        return []
    enabled = _read(f"{CGROUPS}/cgroup.subtree_control").split()
    return [name for name in ("cpu", "memory", "pids") if name not in enabled]


def limits() -> list[Finding]:
    """Of the limits that an agent is sensitive to: soft ones it raises, hard ones only with CAP_SYS_RESOURCE."""
    import resource

    from minipod.agent.inheritance import LEAST
    from minipod.kernel import inherit

    may_raise = not confinement.missing(inherit.status_field("self", "CapEff"), ["SYS_RESOURCE"])
    low, soft = [], []
    for name, (least, _, option) in LEAST.items():
        now, most = resource.getrlimit(inherit.LIMITS[name])
        if most != resource.RLIM_INFINITY and most < least and not may_raise:
            low.append(f"{option}: {most}, an agent needs {least}")
        elif now != most:
            soft.append(f"{name} {now}")
    if low:
        why, how = (
            "a hard limit, and no CAP_SYS_RESOURCE to raise it",
            "a caller with higher limits, --ulimit of docker",
        )
        return [Finding("limits", False, "; ".join(low), why, how)]
    detail = f"soft limits of the caller: {', '.join(soft)}: the agent raises its own" if soft else "nothing is too low"
    return [Finding("limits", True, detail, needed=False)]


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as source:
            return source.read().strip()
    except OSError:
        return ""


ALL = (surroundings, capabilities, user_namespace_of_root, namespaces, cgroup_mounts, limits)
