"""Which limit an error of the kernel means (layer 1): what there is no more of, how many there may be, and the remedy.

Pure: `limit_values` reads the present values. An errno alone rarely says it: ENOSPC is a full disk, and also
one mount, one watch or one network namespace too many. So the operation that failed is looked at too.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import NamedTuple

FULL = 0.98  # of a limit: from here on it is what an error means, as others use it up at the same time

#: names of operations (`plan`), of requests to the spawner, of system calls in a message
_NAMESPACES = ("EnterPidNamespace", "UnshareCgroupNamespace", "spawn", "unshare")
_FORKS = ("spawn", "launch", "EnterPidNamespace", "thread", "clone3")
_MOUNTS = (
    "CreateNamespaces", "MountRoot", "MountEmptyRoot", "MountFilesystem", "BindMount", "BindFolder", "MountTmpfs",
    "MountMemory", "MountImage", "MountNfs", "MountHugePages", "MaskPaths", "ReadOnlyPaths", "TakeDevices",
    "MakeDevices", "KeepWritable", "MakeSubPath", "PivotRoot", "move_mount", "mount_setattr", "open_tree",
)  # fmt: skip
_NEIGHBOURS = ("CreateVeth", "ConfigureInterface", "EnsureBridge")


class Limit(NamedTuple):
    """There is no more `what`; `where` it is set; `a_pod`: how many a pod of one container takes, 0 for none."""

    what: str
    where: str
    a_pod: float = 0
    remedy: str = "raise it, or delete pods"
    unit: str = ""


class Value(NamedTuple):
    """Present values: `used` None where it cannot be known, `most` None where there is no such limit here."""

    used: int | None = None
    most: int | None = None

    def is_reached(self, more: float = 0) -> bool:
        return self.used is not None and self.most is not None and self.used + more >= FULL * self.most


LIMITS = {
    "descriptors": Limit("descriptors in one process", "ulimit -n", 4),
    "file size": Limit("bytes in one file", "ulimit -f", remedy="raise it"),
    "address space": Limit("address space in this process", "ulimit -v", remedy="raise it", unit=" KiB"),
    "addresses": Limit("addresses for pods", "ipv4_subnet in the configuration", 1, remedy="set a larger one"),
    "files": Limit("open files on this host", "fs.file-max", 8),
    "threads": Limit("processes and threads on this host", "kernel.threads-max", 1),
    "pids": Limit("process numbers", "kernel.pid_max", 1),
    "group pids": Limit("processes in the agent's own cgroup", "pids.max", remedy="raise TasksMax= of its unit"),
    "net namespaces": Limit("network namespaces", "user.max_net_namespaces", 1),
    "ipc namespaces": Limit("IPC namespaces", "user.max_ipc_namespaces", 1),
    "uts namespaces": Limit("UTS namespaces", "user.max_uts_namespaces", 1),
    "pid namespaces": Limit("PID namespaces", "user.max_pid_namespaces", 1),
    "mnt namespaces": Limit("mount namespaces", "user.max_mnt_namespaces", 1),
    "cgroup namespaces": Limit("cgroup namespaces", "user.max_cgroup_namespaces", 1),
    "user namespaces": Limit("user namespaces", "user.max_user_namespaces"),
    "mounts": Limit("mounts in one mount namespace", "fs.mount-max", 4),
    "keys": Limit("keyrings of root", "kernel.keys.root_maxkeys", 1),
    "key bytes": Limit("room for keyrings of root", "kernel.keys.root_maxbytes", 8, unit=" bytes"),
    "groups": Limit("cgroups", "with a memory controller, or cgroup.max.descendants", remedy="delete pods"),
    "inotify instances": Limit("inotify instances", "fs.inotify.max_user_instances", remedy="raise it"),
    "inotify watches": Limit("inotify watches", "fs.inotify.max_user_watches", remedy="raise it"),
    "neighbours": Limit("entries for neighbours", "net.ipv4.neigh.default.gc_thresh3", remedy="raise it"),
    "connections": Limit("tracked connections", "net.netfilter.nf_conntrack_max", remedy="raise it"),
    "memory": Limit("memory", "", remedy="free some, or delete pods", unit=" KiB"),
    "blocks": Limit("space on the file system of {path}", "", remedy="free some", unit=" KiB"),
    "inodes": Limit("inodes on the file system of {path}", "", remedy="remove files"),
}

#: (errnos, operations, limits that it may mean); the first row that fits counts. No operations: any.
_MEANINGS: tuple[tuple[tuple[int, ...], tuple[str, ...], tuple[str, ...]], ...] = (
    ((errno.EMFILE,), ("inotify_init1",), ("inotify instances", "descriptors")),
    ((errno.EMFILE,), (), ("descriptors",)),
    ((errno.ENFILE,), (), ("files",)),
    ((errno.EAGAIN,), _FORKS, ("threads", "pids", "group pids", "address space")),
    ((errno.EAGAIN,), ("CreateCgroup",), ("groups",)),
    ((errno.ENOSPC,), ("inotify_add_watch",), ("inotify watches",)),
    ((errno.ENOSPC,), ("CreateNamespaces",), ("net namespaces", "ipc namespaces", "uts namespaces", "mounts")),
    ((errno.ENOSPC,), _NAMESPACES, ("pid namespaces", "mnt namespaces", "cgroup namespaces", "user namespaces")),
    ((errno.ENOSPC,), ("CreateCgroup",), ("groups",)),
    ((errno.ENOSPC,), _MOUNTS, ("mounts", "blocks", "inodes")),
    ((errno.ENOSPC, errno.EDQUOT), ("NewKeyring", "keyctl"), ("keys", "key bytes")),
    ((errno.EDQUOT,), ("launch",), ("keys", "key bytes")),
    ((errno.ENOSPC, errno.EDQUOT), (), ("blocks", "inodes")),
    ((errno.EFBIG,), (), ("file size",)),
    ((errno.ENOBUFS,), _NEIGHBOURS, ("neighbours",)),
    ((errno.ENOMEM,), ("CreateCgroup", "Exec"), ()),  # they have words of their own: a limit of the pod
    ((errno.ENOMEM,), (), ("memory", "address space")),
)


def meant(code: int, operation: str) -> tuple[str, ...]:
    """The names of the limits that `code` may mean for this operation. Pure."""
    for codes, operations, names in _MEANINGS:
        if code in codes and (not operations or operation in operations):
            return names
    return ()


def explanation(code: int, operation: str, values: Callable[[str], Value], path: str = "") -> str:
    """What limit was reached, how many there are of how many, and the remedy; empty for an error that means none.

    Of several that it may mean, those that are reached by their present values, otherwise those whose use is unknown.
    """
    found = [(name, values(name)) for name in meant(code, operation) if path or "{path}" not in LIMITS[name].what]
    reached = [(name, value) for name, value in found if value.is_reached()]
    unknown = [(name, value) for name, value in found if value.used is None and value.most is not None]
    return "; or ".join(_sentence(name, value, path) for name, value in reached or unknown)


def _sentence(name: str, value: Value, path: str) -> str:
    limit = LIMITS[name]
    figures = "" if value.most is None else f"at most {value.most}{limit.unit}"
    if value.used is not None and value.most is not None:
        figures = f"{value.used} of {value.most}{limit.unit}"
    where = f"({limit.where})" if limit.where else ""
    return f"no more {limit.what.format(path=path)}: {' '.join(filter(None, (figures, where)))}: {limit.remedy}"


class Room(NamedTuple):
    """For how many more pods of one container a limit has room."""

    pods: int
    name: str
    value: Value

    def describe(self) -> str:
        """`room for 250 pods: at most 1024 descriptors in one process (ulimit -n)`."""
        limit = LIMITS[self.name]
        return f"room for {self.pods} more pods: at most {self.value.most} {limit.what} ({limit.where})"


def rooms(values: Callable[[str], Value]) -> list[Room]:
    """Of each limit that pods use up, the lowest first. Pure."""
    found = []
    for name, limit in LIMITS.items():
        value = values(name)
        if limit.a_pod and value.most is not None:
            found.append(Room(max(0, int((value.most - (value.used or 0)) / limit.a_pod)), name, value))
    return sorted(found)
