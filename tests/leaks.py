"""What a test may leave on the host: nothing. Takes a picture of the kernel's objects and compares two of them."""

from __future__ import annotations

import contextlib
import gc
import os
import re
import socket
import struct
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import psutil

from tests.patience import SLOWNESS

SESSION_VARIABLE = "MINIPOD_TEST_SESSION"
SHARED_HOST_VARIABLE = "MINIPOD_TEST_SHARED_HOST"
WORKER_VARIABLE = "PYTEST_XDIST_WORKER"  # set in each of several processes that run tests at the same time
WAIT_S = 10.0 * SLOWNESS  # the kernel takes namespaces and cgroups away in its own time
POLL_S = 0.05
INIT = 1
KTHREADD = 2
NLM_F_REQUEST, NLM_F_DUMP, NLMSG_ERROR, NLMSG_DONE = 1, 0x300, 2, 3
NETLINK_NETFILTER, NFT_MSG_GETTABLE, NFTA_TABLE_NAME = 12, 10 << 8 | 1, 1
CGROUP = Path("/sys/fs/cgroup")
#: below <run-dir> and <data-dir>, these folders are empty once every pod is gone
EMPTY_IN_ROOT = ("sandboxes", "containers", "leases", "exits")
EMPTY_IN_STATE = ("pods", "log/pods")

Picture = dict[str, str]
T = TypeVar("T")


@dataclass
class Session:
    """What belongs to this run of the tests, however its processes were started and whichever process adopted them."""

    id: str
    folders: set[str] = field(default_factory=set)
    instances: set[str] = field(default_factory=set)

    @property
    def shared_host(self) -> bool:
        """Others make namespaces and mounts here as well: look at ours only."""
        return any(os.environ.get(name) for name in (SHARED_HOST_VARIABLE, WORKER_VARIABLE))

    def mentions(self, text: str) -> bool:
        return any(word in text for word in (*self.folders, *self.instances))


def take_picture(session: Session) -> Picture:
    """Every kernel object that could be left: a key that identifies it → how a person would say it."""
    picture: Picture = {}
    for part in (processes(session), descriptors()):
        picture.update(part)
    for part in (mounts(), named_netns(), links(), nft_tables(), cgroups(), routes()):
        picture.update({k: v for k, v in part.items() if not session.shared_host or session.mentions(v)})
    return picture


def processes(session: Session) -> Picture:
    """Those of this session, dead or alive: by descent, environment, cgroup or a folder in the command line.

    Not the dead that init has adopted: some never reap (a container's first process, also pytest itself).
    """
    ours = descendants(os.getpid())
    picture = {}
    for process in psutil.process_iter(["ppid", "create_time", "status"]):
        if process.pid in (os.getpid(), KTHREADD) or process.info["ppid"] == KTHREADD:
            continue
        if process.info["ppid"] == INIT and process.info["status"] == psutil.STATUS_ZOMBIE:
            continue
        if process.pid in ours or belongs(process.pid, session):
            key = f"process {process.pid} {process.info['create_time']}"
            picture[key] = f"process {process.pid} ({command_of(process.pid)})"
    return picture


def is_alive(pid: int) -> bool:
    """Also where its parent does not reap it."""
    return psutil.pid_exists(pid) and bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)


def descendants(pid: int) -> set[int]:
    return {child.pid for child in psutil.Process(pid).children(recursive=True)}


def belongs(pid: int, session: Session) -> bool:
    if f"{SESSION_VARIABLE}={session.id}".encode() in read(f"/proc/{pid}/environ"):
        return True
    return session.mentions(read(f"/proc/{pid}/cgroup").decode() + command_of(pid))


def command_of(pid: int) -> str:
    words = read(f"/proc/{pid}/cmdline").replace(b"\0", b" ") or read(f"/proc/{pid}/comm") or b"gone"
    return words.decode(errors="replace").strip()[:200]


def descriptors() -> Picture:
    """The test process's own: code under test that forgets to close."""
    picture = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:  # the one that listed the folder
            continue
        picture[f"fd {name} {target}"] = f"descriptor {name} of the test process -> {target}"
    return picture


def mounts() -> Picture:
    picture = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        picture[f"mount {fields[0]} {fields[4]}"] = f"mount {fields[4]} ({line.partition(' - ')[2][:150]})"
    return picture


def named_netns() -> Picture:
    return {f"netns {name}": f"/run/netns/{name}" for name in list_folder("/run/netns")}


def links() -> Picture:
    return {f"link {name}": f"network interface {name}" for name in list_folder("/sys/class/net")}


def routes() -> Picture:
    """IPv4's without an interface, which no interface takes with it."""
    fields = [line.split() for line in Path("/proc/net/route").read_text().splitlines()[1:]]
    found = [socket.inet_ntoa(int(words[1], 16).to_bytes(4, "little")) for words in fields if words[0] == "*"]
    return {f"route {address}": f"route unreachable {address}" for address in found}


def nft_tables() -> Picture:
    """A dump of NFT_MSG_GETTABLE by hand (linux/netfilter/nf_tables.h): independent of what is under test."""
    request = struct.pack("=IHHIIBBH", 20, NFT_MSG_GETTABLE, NLM_F_REQUEST | NLM_F_DUMP, 0, 0, socket.AF_UNSPEC, 0, 0)
    picture: Picture = {}
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as netlink:
        netlink.bind((0, 0))
        netlink.settimeout(WAIT_S)
        netlink.send(request)
        while True:
            data = netlink.recv(1 << 16)
            while data:
                length, kind = struct.unpack_from("=IH", data)
                if kind in (NLMSG_DONE, NLMSG_ERROR):  # an error: no nf_tables in this kernel, so no tables
                    return picture
                attribute_length, attribute = struct.unpack_from("=HH", data, 20)
                assert attribute == NFTA_TABLE_NAME
                family, name = data[16], data[24 : 20 + attribute_length - 1].decode()
                picture[f"nft {family} {name}"] = f"nftables table {name} (family {family})"
                data = data[(length + 3) & ~3 :]


def cgroups() -> Picture:
    """Top-level groups of every hierarchy, and all that is below those a test can have made."""
    picture = {}
    hierarchies = [CGROUP] if (CGROUP / "cgroup.controllers").exists() else list(CGROUP.iterdir())
    for hierarchy in hierarchies:
        for name in list_folder(hierarchy):
            top = hierarchy / name
            if top.is_symlink() or not top.is_dir():
                continue
            picture[f"cgroup {top}"] = f"cgroup {top}"
            if re.fullmatch(r"minipod.*|mp[0-9a-f]{6}", name):
                for folder, folders, _ in os.walk(top):
                    picture.update({f"cgroup {folder}/{n}": f"cgroup {folder}/{n}" for n in folders})
    return picture


def leftover_files(root: Path, state: Path) -> list[str]:
    """What an agent without pods should have cleaned up."""
    places = [root / name for name in EMPTY_IN_ROOT] + [state / name for name in EMPTY_IN_STATE]
    return [f"file {place / name}" for place in places for name in list_folder(place)]


def new_since(before: Picture, now: Picture) -> list[str]:
    return sorted(now[key] for key in now.keys() - before.keys())


def end_processes(session: Session, before: Picture) -> None:
    """Kills what a test has left running, so that it is not found again after every later test."""

    def find() -> list[str]:
        found = [key for key in processes(session) if key not in before]
        for key in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                psutil.Process(int(key.split()[1])).kill()
        return found

    wait_until_gone(find, wait_s=2)


def wait_until_gone(find: Callable[[], Iterable[T]], wait_s: float = WAIT_S) -> list[T]:
    """What `find` still finds when the time is up; empty as soon as it finds nothing."""
    deadline = time.monotonic() + wait_s
    while True:
        left = list(find())
        if not left or time.monotonic() > deadline:
            return left
        gc.collect()  # a descriptor may only wait for its object's cycle
        time.sleep(POLL_S)


def list_folder(path: str | Path) -> list[str]:
    try:
        return sorted(os.listdir(path))
    except (FileNotFoundError, NotADirectoryError):
        return []


def read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:  # processes end while one looks at them
        return b""
