"""Namespaces as operations (layer 2): making and pinning a pod's, joining them, and the clone of a child."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import struct

import msgspec

from minipod.kernel import process, sysctl
from minipod.kernel.mount import (
    AT_EMPTY_PATH,
    MS_BIND,
    MS_REC,
    MS_SHARED,
    OPEN_TREE_CLONE,
    PROC_SUPER_MAGIC,
    file_system_type,
    mount,
    open_tree,
    reunite,
    umount_if_mounted,
)
from minipod.kernel.path import RESOLVE_NO_SYMLINKS, openat2
from minipod.plan.operation import ChildContext, ChildOperation, HostOperation

_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1
_PROC_ROOT = 1  # PROC_ROOT_INO


class CreateNamespaces(HostOperation, frozen=True, kw_only=True):
    """Make a pod's network, IPC and UTS namespaces and keep each alive by a bind mount; no process stays.

    `pins`: kind (net, ipc, uts) -> file. `sysctls` are set inside, dots or slashes in the names.
    """

    pins: dict[str, str]
    hostname: str = ""
    sysctls: dict[str, str] = {}

    def describe(self) -> str:
        flags = "|".join(f"CLONE_NEW{kind.upper()}" for kind in self.pins)
        parts = [f"unshare {flags}"]
        if "uts" in self.pins:
            parts.append(f"sethostname {self.hostname}")
        parts += [f"{name}={value}" for name, value in sorted(self.sysctls.items())]
        if "net" in self.pins:
            parts.append("lo up")
        parts += [f"bind {kind} at {path}" for kind, path in self.pins.items()]
        return "; ".join(parts)

    def execute(self) -> None:
        for path in self.pins.values():
            os.makedirs(os.path.dirname(path), exist_ok=True)
        if "net" in self.pins:
            folder = os.path.dirname(self.pins["net"])
            with _turn(folder):  # once a file is in it, no process unmounts it
                _share(folder)
                _touch(self.pins["net"])
        for kind, path in self.pins.items():
            if kind != "net":
                _touch(path)
        from minipod.kernel.threads import OwnThread  # as above

        # unshare(2) and setns(2) hold for one thread only
        OwnThread(self._in_new_namespaces).wait()

    def _in_new_namespaces(self) -> None:
        flags = 0
        for kind in self.pins:
            flags |= process.NAMESPACE_FLAGS[kind]
        process.unshare(flags)
        if "uts" in self.pins:
            process.sethostname(self.hostname)
        if "net" in self.pins:
            _loopback_up()
        sysctl.write({_with_slashes(name): value for name, value in self.sysctls.items()})
        for kind, path in self.pins.items():
            mount(f"/proc/thread-self/ns/{kind}", path, None, MS_BIND)

    def undo(self) -> None:
        for path in self.pins.values():
            umount_if_mounted(path)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        if "net" in self.pins:
            folder = os.path.dirname(self.pins["net"])
            with contextlib.suppress(FileNotFoundError), _turn(folder):
                reunite(folder)  # with the last that has a name; `ip netns add` makes it again where it is missing


def _turn(folder: str) -> contextlib.AbstractContextManager[None]:
    """One pod at a time, of all instances: what one has shared another must not unmount before a file is in it.

    The lock is a file next to the directory, as a descriptor inside would keep it mounted.
    """
    from minipod.kernel.host_lock import root_lock  # not in the spawner, which imports this module: for its memory

    return root_lock(f"{os.path.dirname(folder)}/minipod-{os.path.basename(folder)}.lock")


def _touch(path: str) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDONLY | os.O_CLOEXEC, 0o444))


def _share(folder: str) -> None:
    """As `ip netns add` leaves its directory: a mount point of its own, shared. Otherwise the first one to call that
    would cover what is pinned here, and it could not be removed any more (ip-netns(8), iproute2's netns_add)."""
    try:
        mount(None, folder, None, MS_SHARED)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        mount(folder, folder, None, MS_BIND | MS_REC)
        mount(None, folder, None, MS_SHARED)


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        request = struct.pack("16sH14x", b"lo", 0)
        flags = struct.unpack("16sH14x", fcntl.ioctl(sock, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | _IFF_UP))


def _with_slashes(name: str) -> str:
    return name if "/" in name else name.replace(".", "/")


class Clone(msgspec.Struct, frozen=True, kw_only=True):
    """How the spawner makes the child: clone3 with these namespaces, in this cgroup."""

    namespaces: tuple[str, ...] = ("pid",)
    cgroup2: str = ""  # an absolute directory: CLONE_INTO_CGROUP

    def describe(self) -> str:
        flags = (
            "|".join(f"CLONE_NEW{'NS' if kind == 'mnt' else kind.upper()}" for kind in self.namespaces)
            or "no new namespace"
        )
        into = f" CLONE_INTO_CGROUP {self.cgroup2}" if self.cgroup2 else ""
        return f"clone3 {flags}{into}"


class CloseDescriptors(ChildOperation, frozen=True):
    """Of all that the spawner holds only the streams, the status socket and what the request brought stay open."""

    phase = "descriptors"

    def describe(self) -> str:
        return "close_range: all but 0, 1, 2, the status socket and the pidfd of a process to join"

    def execute(self, ctx: ChildContext) -> None:
        process.close_all_but((0, 1, 2, *ctx.fds.values()))


class JoinNamespaces(ChildOperation, frozen=True):
    """Enter pinned namespaces: kind -> file."""

    pins: dict[str, str]
    phase = "namespaces"

    def describe(self) -> str:
        return "setns " + ", ".join(f"{kind} {path}" for kind, path in self.pins.items())

    def execute(self, ctx: ChildContext) -> None:
        for kind, path in self.pins.items():
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                process.setns(fd, process.NAMESPACE_FLAGS[kind])
            finally:
                os.close(fd)


class JoinContainer(ChildOperation, frozen=True):
    """Enter the namespaces of a running process, through the pidfd that the request carried.

    Of the PID namespace only children become members (setns(2)): `EnterPidNamespace`.
    """

    namespaces: tuple[str, ...] = ("mnt", "cgroup", "uts", "ipc", "net", "pid")
    phase = "namespaces"

    def describe(self) -> str:
        return "setns pidfd " + "|".join(self.namespaces)

    def execute(self, ctx: ChildContext) -> None:
        flags = 0
        for kind in self.namespaces:
            flags |= process.NAMESPACE_FLAGS[kind]
        try:
            process.setns(ctx.fds["target"], flags)
        except OSError as error:
            if error.errno == errno.ESRCH:
                raise ProcessLookupError(errno.ESRCH, "the container is not running") from None
            raise
        os.close(ctx.fds.pop("target"))


class TakeProcfs(ChildOperation, frozen=True):
    """A detached mount of the procfs of a PID namespace that others are in already: their process' own /proc.

    Mounting a new one takes a process in that namespace with all capabilities, which others in it could seize.
    """

    phase = "namespaces"

    def describe(self) -> str:
        return "open_tree /proc of the process whose PID namespace is joined"

    def execute(self, ctx: ChildContext) -> None:
        own_fd = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        root_fd = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        process.setns(ctx.fds["target"], process.CLONE_NEWNS)
        place = openat2(root_fd, "/proc", os.O_PATH, 0, RESOLVE_NO_SYMLINKS)
        ctx.fds["procfs"] = open_tree(place, "", OPEN_TREE_CLONE | AT_EMPTY_PATH)
        process.setns(own_fd, process.CLONE_NEWNS)
        process.change_root(root_fd)
        for fd in (own_fd, root_fd, place):
            os.close(fd)
        if file_system_type(ctx.fds["procfs"]) != PROC_SUPER_MAGIC or os.fstat(ctx.fds["procfs"]).st_ino != _PROC_ROOT:
            raise OSError(errno.EINVAL, "/proc of the process whose PID namespace is joined is not procfs")


class UnshareCgroupNamespace(ChildOperation, frozen=True):
    """A cgroup namespace whose root is the cgroup joined before."""

    phase = "cgroup"

    def describe(self) -> str:
        return "unshare CLONE_NEWCGROUP"

    def execute(self, ctx: ChildContext) -> None:
        process.unshare(process.CLONE_NEWCGROUP)


class EnterPidNamespace(ChildOperation, frozen=True):
    """A clone is born in the PID namespace joined before and does the rest; its parent, which is outside, ends.

    What the clone has, any process in there with SYS_PTRACE can have: so it holds nothing but the container's.
    It is the spawner's child (CLONE_PARENT). `cookie`: see `plan.process.passage`.
    """

    cookie: int = 0
    phase = "pid"

    def describe(self) -> str:
        return "clone CLONE_PARENT: into the PID namespace"

    def execute(self, ctx: ChildContext) -> None:
        if process.clone(process.CLONE_PARENT, self.cookie):
            os._exit(0)
