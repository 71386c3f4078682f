"""The probes of `minipod check` (layer 6): each asks the kernel or the host one thing and leaves nothing behind."""

from __future__ import annotations

import errno
import os

from minipod.cli import check_confinement
from minipod.cli.check_kernel import known_holes
from minipod.cli.finding import Finding
from minipod.kernel.probe import can_load, has_system_call, in_chroot

CONTROLLERS = ("cpu", "memory", "pids")
#: system call -> (number, why, the kernel it came with); numbers from 424 on are the same on all architectures
CALLS = {
    "open_tree": (428, "mounts by descriptor", "5.2"),
    "clone3": (435, "starts a process directly in its cgroup", "5.3"),
    "pidfd_open": (434, "signals and waits without mistaking a reused number", "5.3"),
    "openat2": (437, "paths that cannot leave a volume or a root", "5.6"),
    "close_range": (436, "no descriptor is left open by mistake", "5.9"),
    "mount_setattr": (442, "read-only and id-mapped mounts", "5.12"),
}

NEEDED_CALLS = ("open_tree", "clone3", "pidfd_open", "openat2")


def kernel() -> list[Finding]:
    release = os.uname().release
    numbers = [int(part) for part in release.split("-")[0].split(".")[:2] if part.isdigit()]
    remedy = "upgrade the kernel: Debian 11 and later have one that is new enough"
    return [Finding("kernel", tuple(numbers) >= (5, 10), f"Linux {release}", "5.10 is the oldest supported", remedy)]


def privileges() -> list[Finding]:
    uid = os.geteuid()
    why = "namespaces, mounts and cgroups need it"
    return [Finding("root", True if uid == 0 else None, f"uid {uid}", why, "sudo minipod …")]


def inheritance() -> list[Finding]:
    """What an agent that is started from here would inherit and could not undo."""
    from minipod.agent.inheritance import stays
    from minipod.runtime.cgroup import of_the_caller
    from minipod.runtime.facts import host_facts

    found = stays() + of_the_caller(host_facts())
    detail = "; ".join(found) or "an agent started from here has nothing that it could not undo"
    return [Finding("caller", not found, detail, detail, "start the agent elsewhere, with systemd for one", False)]


def root_directory() -> list[Finding]:
    """For information: pods run in a chroot as elsewhere."""
    found = in_chroot()
    if found is None:
        return [Finding("root directory", None, "needs root to be asked", "", "sudo minipod check", False)]
    if not found:
        return [Finding("root directory", True, "the mount namespace's own", needed=False)]
    detail = "a chroot; every command in a pod is verified to be in the pod's root before it runs"
    return [Finding("root directory", True, detail, needed=False)]


def user_namespaces() -> list[Finding]:
    limit = _read("/proc/sys/user/max_user_namespaces")
    ok = os.path.exists("/proc/self/ns/user") and limit != "0"
    why = "hostUsers: false needs it; other pods do not"
    return [
        Finding("user namespace", ok, f"at most {limit or '?'}", why, "sysctl user.max_user_namespaces=10000", False)
    ]


def cgroups() -> list[Finding]:
    try:
        v2 = _file_system("/sys/fs/cgroup") == "cgroup2"
    except OSError as error:
        return [Finding("cgroups", None, str(error).lower())]
    if v2:
        available = set(_read("/sys/fs/cgroup/cgroup.controllers").split())
        found = [Finding("cgroups", True, "version 2")]
    else:
        available = {name for name in os.listdir("/sys/fs/cgroup") if os.path.exists(f"/sys/fs/cgroup/{name}/tasks")}
        available |= {part for name in available for part in name.split(",")}
        detail = "version 1" + (" (hybrid)" if os.path.isdir("/sys/fs/cgroup/unified") else "")
        found = [
            Finding(
                "cgroups", bool(available), detail, "limits and clean ends need them", "mount cgroup2 at /sys/fs/cgroup"
            )
        ]
    why = {"cpu": "cpu requests and limits", "memory": "memory limits and OOMKilled", "pids": "limits on processes"}
    remedy = "boot with cgroup_enable=memory, or enable it in cgroup.subtree_control"
    return found + [
        Finding(f"cgroup {name}", name in available, why[name], f"needed for {why[name]}", remedy)
        for name in CONTROLLERS
    ]


def file_systems() -> list[Finding]:
    known = {line.split()[-1] for line in _read("/proc/filesystems").splitlines() if line}
    found = []
    for name, why in (("overlay", "containers' roots over read-only layers"), ("tmpfs", "memory volumes, /dev")):
        ok = name in known or _module_exists(name)
        found.append(Finding(f"{name} file system", ok, why, f"needed for {why}", f"modprobe {name}"))
    mqueue = "mqueue" in known
    found.append(
        Finding("mqueue file system", mqueue, "/dev/mqueue", "POSIX message queues", "CONFIG_POSIX_MQUEUE", False)
    )
    return found


def system_calls() -> list[Finding]:
    found = []
    for name, (number, why, since) in CALLS.items():
        needed = name in NEEDED_CALLS
        found.append(
            Finding(f"{name}()", has_system_call(number), why, f"for {why}", f"Linux {since} or later", needed)
        )
    return found


def idmapped_mounts() -> list[Finding]:
    numbers = [int(part) for part in os.uname().release.split("-")[0].split(".")[:2] if part.isdigit()]
    ok = tuple(numbers) >= (5, 19)
    detail = "volumes in pods with their own users (overlay from 5.19)"
    return [Finding("idmapped mounts", ok, detail, "hostUsers: false with volumes", "Linux 5.19 or later", False)]


def seccomp() -> list[Finding]:
    actions = _read("/proc/sys/kernel/seccomp/actions_avail").split()
    found = [
        Finding(
            "seccomp filter", "errno" in actions, "filters of system calls", "RuntimeDefault", "CONFIG_SECCOMP_FILTER"
        )
    ]
    library = "libseccomp.so.2"
    found.append(Finding("libseccomp", can_load(library), library, "compiles the filters", "apt install libseccomp2"))
    return found


def nftables() -> list[Finding]:
    from minipod.kernel.nft import generation

    why = "masquerading and host ports"
    if os.geteuid() != 0:
        return [Finding("nf_tables", None, "needs root to be asked", why, "sudo minipod check")]
    try:
        number = generation()
    except OSError as error:
        forbidden = error.errno == errno.EPERM
        how = "the capability NET_ADMIN: see capabilities" if forbidden else "modprobe nf_tables"
        return [Finding("nf_tables", False, str(error), why, how)]
    return [Finding("nf_tables", True, f"generation {number} of the rules", why)]


def forwarding() -> list[Finding]:
    ok = _read("/proc/sys/net/ipv4/ip_forward") == "1"
    why = "pods reach the outside through the host; minipod switches it on with the first pod"
    detail = "on" if ok else "off: minipod switches it on with the first pod"
    return [Finding("ip forwarding", True, detail, why, needed=False)]


def links() -> list[Finding]:
    found = []
    for name, why in (("bridge", "the pods' common network"), ("veth", "a pod's cable to the bridge")):
        ok = os.path.isdir(f"/sys/module/{name}") or _module_exists(name) or _config_has(name)
        found.append(Finding(f"{name} driver", ok or None, why, why, f"modprobe {name}"))
    return found


def room() -> list[Finding]:
    """Whether a thousand pods would meet a limit of this host: by its present value and what each pod takes."""
    from minipod.config import load_config
    from minipod.errors import MinipodError
    from minipod.runtime.room import PODS, host_rooms, shortfalls

    try:
        config = load_config(None)
    except MinipodError as error:
        return [Finding(f"room for {PODS} pods", None, str(error), needed=False)]
    found = shortfalls(config)
    first = host_rooms(config)[0]
    if not found:
        return [Finding(f"room for {PODS} pods", True, first.describe(), needed=False)]
    name = f"room for {PODS} pods"
    return [
        Finding(name, False, line.partition(": for ")[0], f"{PODS} pods meet it", line.rpartition(": ")[2], False)
        for line in found
    ]


def inotify() -> list[Finding]:
    """inotify instances, which `run` and `logs -f` use one of each."""
    limit = _read("/proc/sys/fs/inotify/max_user_instances")
    ok = not limit.isdigit() or int(limit) >= 16
    return [
        Finding(
            "inotify",
            ok,
            f"{limit} instances a user",
            "following logs",
            "sysctl fs.inotify.max_user_instances=512",
            False,
        )
    ]


def names() -> list[Finding]:
    """Whether pods find each other by name; where they do not, they have the host's resolvers."""
    from importlib.util import find_spec

    from minipod.config import load_config
    from minipod.errors import MinipodError
    from minipod.plan.files import missing_cluster_dns

    try:
        config = load_config(None)
    except MinipodError as error:
        return [Finding("names of pods", None, str(error), needed=False)]
    why = "pods find each other by name (dnsPolicy ClusterFirst)"
    if missing := missing_cluster_dns(config):
        return [Finding("names of pods", False, missing, why, "remove names = false from the configuration", False)]
    if config.cluster_dns:
        return [Finding("names of pods", True, f"asked of {', '.join(config.cluster_dns)} (cluster_dns)", needed=False)]
    if find_spec("dns") is None:
        remedy = "pip install dnspython (Debian: apt install python3-dnspython), or names = false in the configuration"
        return [Finding("names of pods", False, "dnspython is not installed: no name is answered", why, remedy)]
    return [Finding("names of pods", True, f"below {config.cluster_domain}", why, needed=False)]


def default_image() -> list[Finding]:
    path = next((path for path in ("/bin/busybox", "/usr/bin/busybox") if os.path.exists(path)), None)
    why = "the default image busybox is built from it"
    return [Finding("busybox", path is not None, path or "", why, "apt install busybox-static", False)]


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as source:
            return source.read().strip()
    except OSError:
        return ""


def _file_system(mount_point: str) -> str:
    """The type of the file system mounted last at a place; empty where nothing is."""
    found = ""
    for line in _read("/proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        if before.split()[4] == mount_point:
            found = after.split()[0]
    return found


def _module_exists(name: str) -> bool:
    """Loaded, built in, or on the disk for this kernel."""
    folder = f"/lib/modules/{os.uname().release}"
    if os.path.isdir(f"/sys/module/{name}"):
        return True
    wanted = f"/{name}.ko"
    texts = (_read(f"{folder}/modules.builtin"), _read(f"{folder}/modules.dep"))
    return any(wanted in line.split(":")[0] for text in texts for line in text.splitlines())


def _config_has(name: str) -> bool:
    """A kernel without loadable modules says what it holds in its configuration."""
    import gzip

    try:
        with gzip.open("/proc/config.gz", "rt") as source:
            text = source.read()
    except OSError:
        text = _read(f"/boot/config-{os.uname().release}")
    return f"CONFIG_{name.upper()}=y" in text


ALL = (
    kernel,
    privileges,
    *check_confinement.ALL,
    inheritance,
    root_directory,
    user_namespaces,
    cgroups,
    file_systems,
    system_calls,
    idmapped_mounts,
    seccomp,
    known_holes,
    nftables,
    links,
    forwarding,
    room,
    inotify,
    names,
    default_image,
)
