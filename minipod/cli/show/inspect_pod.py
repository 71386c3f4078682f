"""`minipod inspect` as text (layer 6): what a pod is on this host, and with which tool to look further. Pure."""

from __future__ import annotations

import os
from collections.abc import Iterable

from minipod.api.timestamps import human_duration
from minipod.cli.show.table import table
from minipod.cli.values import Any, Object
from minipod.terminal import one_line

SHORT_ID = 12
NO_LIMIT = 1 << 60  # v1 has a number of pages that no machine has
#: file of a cgroup -> column; v1 and v2 have other files for the same
COLUMNS = {
    "memory.usage_in_bytes": "MEMORY",
    "memory.current": "MEMORY",
    "memory.limit_in_bytes": "LIMIT",
    "memory.max": "LIMIT",
    "cpuacct.usage": "CPU TIME",
    "cpu.stat": "CPU TIME",
    "cpu.shares": "SHARES",
    "cpu.weight": "WEIGHT",
    "cpu.cfs_quota_us": "QUOTA",
    "cpu.max": "QUOTA",
    "pids.current": "PIDS",
    "pids.max": "MOST",
}
MASKS = ("/proc/", "/sys/")


def text_of(found: Object, now_s: float) -> str:
    """`found`: the answer of the agent's verb `inspect`."""
    if found["sandbox"] is not None:
        found = _shortened(found, f"{found['sandbox']['directory']}/")
    pod, sandbox = found["pod"], found["sandbox"]
    head = f"Pod {pod['namespace']}/{pod['name']} on {pod['node']}: {pod['phase']}, uid {pod['uid']}"
    if sandbox is None:
        text = f"{head}\nIt has no sandbox: no namespace, cgroup or process of it is on this host.\n"
        return text + "".join(f"CONTAINER {entry['name']}  {_end(entry, now_s)}\n" for entry in found["ended"])
    age = human_duration(now_s - sandbox["created_at_ns"] / 1e9)
    state = f"attempt {sandbox['attempt']}, {age} old, {'ready' if sandbox['ready'] else 'stopped'}"
    head += f"\nSandbox {sandbox['id'][:SHORT_ID]}, {state}: {sandbox['directory']}\n"
    parts = [
        _namespaces(sandbox, found["containers"]),
        _network(sandbox),
        _cgroups(sandbox, found["containers"]),
        *(_container(container, now_s) for container in found["containers"]),
    ]
    return "\n".join([head, *parts])


def _shortened(value: Any, directory: str) -> Any:
    """The sandbox's directory is shown once; what is in it as `<sandbox>/…`."""
    if isinstance(value, dict):
        return {key: _shortened(part, directory) for key, part in value.items()}
    if isinstance(value, list):
        return [_shortened(part, directory) for part in value]
    return value.replace(directory, "<sandbox>/") if isinstance(value, str) else value


def _indented(rows: Iterable[Iterable[object]]) -> str:
    lines = table([[one_line(str(cell)) for cell in row] for row in rows], padding=2).splitlines()
    return "".join(f"  {line.rstrip()}\n" for line in lines)


def _namespaces(sandbox: Object, containers: list[Object]) -> str:
    whose = {"host": "the host's", "pod": "the pod's", "container": "its own"}
    rows = [("TYPE", "INODE", "WHOSE", "CONTAINERS IN IT", "KEPT BY")]
    for entry in sandbox["namespaces"]:
        inside = ", ".join(entry["containers"]) or "-"
        rows.append((entry["type"], str(entry["inode"]), whose[entry["whose"]], inside, entry["kept_by"] or "-"))
    text = "NAMESPACES  what its processes see of the kernel; those that are the pod's are what makes it one\n"
    text += _indented(rows)
    if sandbox["pause_pid"]:
        text += f"  process {sandbox['pause_pid']} is PID 1 of the pod's shared PID namespace\n"
    running = next((container for container in containers if container["pid"]), None)
    return text + (f"  look: ls -l /proc/{running['pid']}/ns; lsns -p {running['pid']}\n" if running else "")


def _network(sandbox: Object) -> str:
    network, veth = sandbox["network"], sandbox["network"]["veth"]
    text = "NETWORK  one address for all containers: they reach each other by localhost\n"
    if network["host"]:
        return text + "  the host's own (hostNetwork): no link, no address of its own\n"
    where = f"gateway {', '.join(network['gateways'])}, mtu {network['mtu']}"
    rows = [("eth0 in the pod", ", ".join(network["addresses"]), where)]
    if veth is not None:
        state = f"port {veth['port']} of bridge {veth['bridge']}" if veth["port"] else "is not there"
        moved = f"{veth['received_bytes']} bytes from the pod, {veth['sent_bytes']} to it"
        rows.append((f"{veth['name']} on the host", f"its other end, link {veth['index']}, {state}", moved))
    for port in sandbox["ports"]:
        there = f"{port['container']}:{port['container_port']}/{port['protocol']}"
        rows.append((f"host port {port['host_port']}", f"on {port['host_ip'] or 'all addresses'} goes to {there}", ""))
    text += _indented(rows)
    name = os.path.basename(network["netns"])
    return text + f"  look: ip netns exec {name} ip address; nft list table inet {network['nftables_table']}\n"


def _cgroups(sandbox: Object, containers: list[Object]) -> str:
    group = sandbox["cgroup"]
    groups = [("the pod", group), *((container["name"], container["cgroup"]) for container in containers)]
    groups = [(name, found) for name, found in groups if found["directories"]]
    columns = list(dict.fromkeys(title for _, found in groups for title in values_of(found)))
    rows = [["GROUP OF", *columns, "OOM KILLS"]]
    for name, found in groups:
        values = values_of(found)
        rows.append([name, *(values.get(column, "-") for column in columns), str(found["oom_kills"])])
    text = f"CGROUPS  what it takes now and what it may take: {group['path']}, a group for each container below\n"
    text += _indented(rows)
    count = len(group["directories"])
    text += f"  the same path in {count} hierarchies of cgroup v1\n" if count > 1 else ""
    return text + (f"  look: {_commands(group['files'])}\n" if group["files"] else "")


def _commands(files: dict[str, str]) -> str:
    """One file to begin with, and the names of the others."""
    first, *others = files
    return f"cat {first}; also {', '.join(map(os.path.basename, others))}"


def values_of(group: Object) -> dict[str, str]:
    """Column -> value for people, from the files of either version."""
    files = {os.path.basename(path): text for path, text in group["files"].items()}
    return {title: shown(name, files) for name, title in COLUMNS.items() if files.get(name)}


def shown(name: str, files: dict[str, str]) -> str:
    """The content of one file with its unit; `files`: all of the group."""
    text = files[name]
    if name == "cpu.stat":
        fields = dict(line.split(" ", 1) for line in text.splitlines() if " " in line)
        return f"{int(fields.get('usage_usec', 0)) / 1e6:.2f}s"
    if name == "cpuacct.usage":
        return f"{int(text) / 1e9:.2f}s"
    if name in ("cpu.cfs_quota_us", "cpu.max"):
        quota, _, period = text.partition(" ")
        period = period or files.get("cpu.cfs_period_us", "100000")
        return "none" if quota in ("-1", "max") else f"{int(quota) / int(period):.2f} cpus"
    if text == "max" or (text.isdigit() and int(text) > NO_LIMIT):
        return "none"
    return binary_size(int(text)) if name.startswith("memory.") else text


def binary_size(size_bytes: int) -> str:
    """`64Mi`, `1.3Mi`, `512`: as quantities of memory are written."""
    for unit, factor in (("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.1f}".removesuffix(".0") + unit
    return str(size_bytes)


def _container(container: Object, now_s: float) -> str:
    text = f"CONTAINER {container['name']}  {container['id'][:SHORT_ID]}, attempt {container['attempt']}, "
    text += f"{_state(container, now_s)}\n"
    image = f"{container['image']} ({container['image_id'].removeprefix('sha256:')[:SHORT_ID]})"
    rows = [("image", image)]
    rows += [("layer" if not index else "", layer) for index, layer in enumerate(container["layers"])]
    rows.append(("writes go to", container["writable"]))
    if container["root"]:
        rows.append(("its root", f"{container['root']} (overlay of both, in its mount namespace only)"))
    rows.append(("log", container["log"]))
    return one_line(text.rstrip("\n")) + "\n" + _indented(rows) + _processes(container) + _mounts(container)


def _state(container: Object, now_s: float) -> str:
    if container["state"] == "running":
        user = container["user"] or {"uid": 0, "gid": 0}
        since = human_duration(now_s - container["started_at_ns"] / 1e9)
        return f"runs as {user['uid']}:{user['gid']}, PID {container['pid']}, for {since}"
    if container["state"] != "exited":
        return str(container["state"])
    return _end(container, now_s)


def _end(container: Object, now_s: float) -> str:
    ago = human_duration(now_s - container["finished_at_ns"] / 1e9)
    message = f": {container['message']}" if container["message"] else ""
    return f"exited {ago} ago with {container['exit_code']}, {container['reason']}{message}"


def _processes(container: Object) -> str:
    if not container["processes"]:
        return ""
    rows = [("PID HERE", "PID THERE", "UID", "COMMAND")]
    rows += [(str(p["pid"]), str(p["inner_pid"]), str(p["uid"]), p["command"]) for p in container["processes"]]
    more = container["process_count"] - len(container["processes"])
    return _indented(rows) + (f"  and {more} more\n" if more > 0 else "")


def _mounts(container: Object) -> str:
    if not container["mounts"]:
        return ""
    rows = [("MOUNTED AT", "WHAT", "TYPE", "HOW")]
    hidden: list[str] = []
    cgroups: list[str] = []
    for mount in container["mounts"]:
        if mount["type"] in ("cgroup", "cgroup2"):
            cgroups.append(mount["path"])
            continue
        if mount["path"].startswith(MASKS):
            hidden.append(mount["path"])
            continue
        what = f"volume {mount['volume']}: {mount['source']}" if mount["volume"] else mount["source"]
        rows.append((mount["path"], what, mount["type"], mount["options"].partition(",relatime")[0]))
    text = _indented(rows)
    if cgroups:
        text += f"  its own cgroup: {' '.join(cgroups)}\n"
    if hidden:
        text += f"  covered or read-only: {' '.join(hidden)}\n"
    return text + f"  look: findmnt -N {container['pid']}; nsenter -t {container['pid']} -m ls /\n"
