"""Collects the facts about this host (layer 3), once, as a value for the plan. Changes nothing, needs no root."""

from __future__ import annotations

import contextlib
import os
import resource

from minipod.api.quantity import from_value
from minipod.config import Config
from minipod.kernel import cgroup
from minipod.kernel.inherit import OPEN_FILES
from minipod.paths import DEFAULT_STATE
from minipod.plan.configs import HostFacts

RESOLV_CONF = "/etc/resolv.conf"
HUGE_PAGES = "/sys/kernel/mm/hugepages"
#: what systemd-resolved forwards to, for where /etc/resolv.conf only names its own stub
RESOLVED_UPSTREAM = "/run/systemd/resolve/resolv.conf"


def host_facts(config: Config | None = None, state: str = DEFAULT_STATE) -> HostFacts:
    """The facts, the same with and without root. Raises nothing: unknown facts are empty."""
    mounts = cgroup.find_mounts(_read("/proc/self/mountinfo"))
    version = cgroup.version_of(mounts)
    return HostFacts(
        node_name=node_name(config),
        node_ips=node_ips(),
        cpus=os.cpu_count() or 1,  # the node's, not only those that this process may use
        memory_bytes=memory_bytes(_read("/proc/meminfo")),
        cgroup_version=version or 2,
        cgroup_controllers=_controllers(mounts, version),
        cgroup_mounts=mounts,
        storage_bytes=_storage_bytes(state),
        huge_pages=huge_pages(),
        kernel=os.uname().release,
        resolv_conf=resolv_conf(),
        etc_hosts=_read("/etc/hosts"),
        mtu=default_mtu(),
        open_files=min(OPEN_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1] % (1 << 64)),
    )


def node_name(config: Config | None = None) -> str:
    """The configuration's name, else the host's in lower case, as the kubelet takes it (pkg/util/node GetHostname)."""
    configured = config.node_name if config else ""
    return (configured or os.uname().nodename).strip().lower()


def _controllers(mounts: dict[str, str], version: int) -> tuple[str, ...]:
    if version == 1:
        return tuple(sorted(key for key in mounts if key and not key.startswith("name=")))
    try:
        return cgroup.v2_controllers(mounts[cgroup.UNIFIED])
    except (KeyError, OSError):
        return ()


def memory_bytes(meminfo: str) -> int:
    """MemTotal of /proc/meminfo's text in bytes; 0 without it."""
    for line in meminfo.splitlines():
        key, _, value = line.partition(":")
        if key == "MemTotal":
            return int(value.split()[0]) * 1024
    return 0


def huge_pages(folder: str = HUGE_PAGES) -> dict[str, int]:
    """The bytes set aside, by the size of a page as Kubernetes writes it; nothing where the kernel has none."""
    found = {}
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
        size = int(name.removeprefix("hugepages-").removesuffix("kB")) << 10
        found[from_value(size, binary=True)] = size * int(_read(f"{folder}/{name}/nr_hugepages").strip() or 0)
    return found


def _storage_bytes(state: str) -> int:
    """The size of the file system that contains, or will contain, the directory."""
    while not os.path.exists(state):
        state = os.path.dirname(state)
    found = os.statvfs(state)
    return found.f_blocks * found.f_frsize


def resolvers() -> tuple[str, ...]:
    """The host's own resolvers, systemd-resolved's stub too: for a process in the host's network."""
    return _nameservers(_read(RESOLV_CONF))


def _nameservers(text: str) -> tuple[str, ...]:
    lines = (line.split() for line in text.splitlines())
    return tuple(fields[1] for fields in lines if len(fields) > 1 and fields[0] == "nameserver")


def resolv_conf() -> str:
    """The host's resolver configuration, without systemd-resolved's stub, which no pod can reach."""
    text = _read(RESOLV_CONF)
    servers = _nameservers(text)
    if servers and all(server == "127.0.0.53" for server in servers):
        return _read(RESOLVED_UPSTREAM) or text
    return text


def node_ips() -> tuple[str, ...]:
    """The host's address of each family that has a default route, IPv4 first (status.hostIPs); nothing is sent."""
    import socket

    found = []
    for family, target in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            # connecting a datagram socket sends nothing: it looks up the source address in the routing table
            probe.connect((target, 9))
            found.append(probe.getsockname()[0])
    return tuple(found) or ("127.0.0.1",)


def default_mtu() -> int:
    """The MTU of the interface that the IPv4 default route leaves by; 1500 where there is none."""
    for line in _read("/proc/net/route").splitlines()[1:]:
        fields = line.split()
        if len(fields) > 7 and fields[1] == "00000000" and fields[7] == "00000000":
            text = _read(f"/sys/class/net/{fields[0]}/mtu").strip()
            return int(text) if text.isascii() and text.isdigit() else 1500
    return 1500


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""
