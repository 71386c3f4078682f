"""Reads the present values of `limits` (layer 1). Changes nothing, raises nothing: what is unknown is None."""

from __future__ import annotations

import os
import resource

from minipod.kernel import descriptors
from minipod.kernel.limits import LIMITS, Value


def read(name: str, path: str = "/") -> Value:
    """The present value of a limit. `path`: on the file system that is meant."""
    match name:
        case "descriptors":
            return Value(descriptors.count(), descriptors.limit())
        case "address space":
            most = resource.getrlimit(resource.RLIMIT_AS)[0]
            pages = _number(_text("/proc/self/statm").partition(" ")[0])
            used = None if pages is None else pages * resource.getpagesize() // 1024
            return Value(used, None if most == resource.RLIM_INFINITY else most // 1024)
        case "file size":
            most = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
            return Value(None, None if most == resource.RLIM_INFINITY else most)
        case "groups":
            return Value(None, 65535)  # MEM_CGROUP_ID_MAX
        case "files":
            fields = _text("/proc/sys/fs/file-nr").split() or ["", "", ""]
            return Value(_number(fields[0]), _number(fields[-1]))
        case "threads" | "pids":
            setting = "threads-max" if name == "threads" else "pid_max"
            total = _text("/proc/loadavg").partition("/")[2].split(" ")[0]
            return Value(_number(total), _number(_text(f"/proc/sys/kernel/{setting}")))
        case "group pids":
            group = _own_group("pids")
            return Value(_number(_text(f"{group}/pids.current")), _number(_text(f"{group}/pids.max")))
        case "mounts":
            return Value(_text("/proc/self/mountinfo").count("\n") or None, _number(_text("/proc/sys/fs/mount-max")))
        case "keys" | "key bytes":
            return _keys(2 if name == "keys" else 3)
        case "neighbours":
            return Value(max(0, _text("/proc/net/arp").count("\n") - 1), _setting(LIMITS[name].where))
        case "connections":
            folder = "/proc/sys/net/netfilter"
            return Value(_number(_text(f"{folder}/nf_conntrack_count")), _number(_text(f"{folder}/nf_conntrack_max")))
        case "memory":
            return _memory()
        case "blocks" | "inodes":
            return _of_file_system(name, path)
    return Value(None, _setting(LIMITS[name].where) if LIMITS[name].where else None)


def _setting(name: str) -> int | None:
    return _number(_text(f"/proc/sys/{name.replace('.', '/')}"))


def _memory() -> Value:
    found = {}
    for line in _text("/proc/meminfo").splitlines():
        key, _, rest = line.partition(":")
        found[key] = _number(rest.removesuffix("kB"))
    most, free = found.get("MemTotal"), found.get("MemAvailable")
    return Value(None if most is None or free is None else most - free, most)


def _keys(field: int) -> Value:
    """The line of the root user: `0: 28 27/27 17/1000000 393/25000000` (proc_key_users(5))."""
    for line in _text("/proc/key-users").splitlines():
        fields = line.replace(":", " ").split()
        if fields[0] == "0" and len(fields) > field + 1:
            used, _, most = fields[field + 1].partition("/")
            return Value(_number(used), _number(most))
    return Value()


def _own_group(controller: str) -> str:
    """The directory of this process' cgroup, v1 or v2, where it is commonly mounted."""
    for line in _text("/proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return f"/sys/fs/cgroup/{controller}{path}"
        if not controllers and os.path.exists(f"/sys/fs/cgroup{path}/{controller}.max"):
            return f"/sys/fs/cgroup{path}"
    return "/nowhere"


def _of_file_system(name: str, path: str) -> Value:
    while not os.path.exists(path):
        path = os.path.dirname(path) or "/"
    try:
        found = os.statvfs(path)
    except OSError:
        return Value()
    if name == "inodes":
        return Value(found.f_files - found.f_favail, found.f_files) if found.f_files else Value()
    kib = found.f_frsize / 1024
    return Value(int((found.f_blocks - found.f_bavail) * kib), int(found.f_blocks * kib))


def _number(text: str) -> int | None:
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() else None  # `max` in a cgroup's file


def _text(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
