"""cgroup file systems (layer 1): where they are, making, filling, killing and removing groups. No policy.

A group is named by its absolute directory, `<mount point><path>`. Kernel documents: admin-guide/cgroup-v1,
admin-guide/cgroup-v2.rst, cgroups(7).
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

#: the key of the cgroup2 mount in a dictionary of mount points by controller
UNIFIED = ""

_KILL_ROUNDS = 100


class Hierarchy(msgspec.Struct, frozen=True):
    """One mounted hierarchy: on v1 with the controllers it carries, on v2 with those to be enabled in it."""

    mount: str
    version: int
    controllers: tuple[str, ...] = ()


def find_mounts(mountinfo: str | None = None, is_there: Callable[[str, int], bool] | None = None) -> dict[str, str]:
    """Controller -> mount point of its v1 hierarchy, and `""` -> that of cgroup2; `name=x` for v1 without controllers.

    Of several mounts one of the hierarchy's root is preferred, then a writable one, then the shortest path. A mount
    that another one covers is none: `is_there(path, device)`, by default a look at the path, says so.
    `mountinfo` is the text of /proc/self/mountinfo, read when None.
    """
    if mountinfo is None:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            mountinfo = file.read()
    found: dict[str, tuple[bool, bool, int, str]] = {}
    for line in mountinfo.splitlines():
        before, separator, after = line.partition(" - ")
        left, right = before.split(" "), after.split(" ")
        if not separator or len(left) < 6 or len(right) < 3 or right[0] not in ("cgroup", "cgroup2"):
            continue
        mount = _unescape(left[4])
        major, _, minor = left[2].partition(":")
        if not (is_there or _is_there)(mount, os.makedev(int(major), int(minor))):
            continue
        rank = (left[3] != "/", "ro" in left[5].split(","), len(mount), mount)
        for key in [UNIFIED] if right[0] == "cgroup2" else _v1_controllers(right[2]):
            found[key] = min(found.get(key, rank), rank)
    return {key: rank[-1] for key, rank in found.items()}


def _is_there(mount: str, device: int) -> bool:
    try:
        return os.stat(mount).st_dev == device
    except OSError:
        return False


def _v1_controllers(super_options: str) -> list[str]:
    flags = {"rw", "ro", "xattr", "noprefix", "clone_children", "cpuset_v2_mode", "favordynmods", "nofavordynmods"}
    return [o for o in super_options.split(",") if o not in flags and not o.startswith("release_agent=")]


def _unescape(path: str) -> str:
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        path = path.replace(code, char)
    return path


def version_of(mounts: dict[str, str]) -> int:
    """2 where cgroup2 is all there is, 1 where any controller has a v1 hierarchy (also hybrid), 0 without cgroups."""
    if any(key and not key.startswith("name=") for key in mounts):
        return 1
    return 2 if UNIFIED in mounts else 0


def v2_controllers(directory: str) -> tuple[str, ...]:
    """What `cgroup.controllers` of a v2 group offers."""
    return tuple(read(directory, "cgroup.controllers").split())


def read(directory: str, name: str) -> str:
    """The text of one file of a group, without the last newline. Raises OSError naming the file."""
    fd = os.open(f"{directory}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        chunks = []
        while chunk := os.read(fd, 65536):
            chunks.append(chunk)
    finally:
        os.close(fd)
    return b"".join(chunks).decode().removesuffix("\n")


def read_keyed(directory: str, name: str) -> dict[str, int]:
    """A flat-keyed file (`cgroup.events`, `memory.stat`, `cpu.stat`, v1 `memory.oom_control`)."""
    pairs = (line.split() for line in read(directory, name).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2}


def write(directory: str, name: str, *values: str) -> None:
    """Write each value by a write of its own, as the cgroup files want it. Raises OSError naming file and value."""
    path = f"{directory}/{name}"
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        for value in values:
            try:
                os.write(fd, value.encode())
            except OSError as error:
                raise OSError(error.errno, f"write {value!r}: {error.strerror}", path) from None
    finally:
        os.close(fd)


def make(hierarchy: Hierarchy, path: str, *, delegate: bool = False) -> bool:
    """Make the group `path` and what is missing above it; True if it was not there.

    `delegate`: it will have child groups, so on v2 its controllers are enabled for them. Raises OSError.
    """
    parent = os.path.dirname(path)
    if parent == "/":
        _prepare_root(hierarchy)
    directory = hierarchy.mount + path
    made = True
    try:
        os.mkdir(directory, 0o755)
    except FileExistsError:
        made = False
    except FileNotFoundError:
        if parent == "/":
            raise
        make(hierarchy, parent, delegate=True)
        with contextlib.suppress(FileExistsError):
            os.mkdir(directory, 0o755)
    if hierarchy.version == 1 and parent == "/" and made:
        _prepare_top(directory)
    if hierarchy.version == 1 and "cpuset" in hierarchy.controllers:
        _copy_cpuset(directory)
    if hierarchy.version == 2 and delegate:
        enable(directory, hierarchy.controllers)
    return made


def _prepare_root(hierarchy: Hierarchy) -> None:
    if hierarchy.version == 2:
        enable(hierarchy.mount, hierarchy.controllers)
    elif "memory" in hierarchy.controllers:
        # before Linux 5.11 a v1 memory group does not count its children unless this is set in the root
        with contextlib.suppress(OSError):
            if read(hierarchy.mount, "memory.use_hierarchy") == "0":
                write(hierarchy.mount, "memory.use_hierarchy", "1")


def _prepare_top(directory: str) -> None:
    """What groups below it are made with: a cpuset its parent's values, and no call of the host's release agent."""
    for name, value in (("cgroup.clone_children", "1"), ("notify_on_release", "0")):
        with contextlib.suppress(OSError):
            write(directory, name, value)


def enable(directory: str, controllers: Sequence[str]) -> None:
    """Enable controllers for the child groups of a v2 group; those that already are stay. Raises OSError."""
    if not controllers:
        return
    enabled = read(directory, "cgroup.subtree_control").split()
    missing = [f"+{controller}" for controller in controllers if controller not in enabled]
    if not missing:
        return
    try:
        write(directory, "cgroup.subtree_control", " ".join(missing))
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        # cgroup-v2.rst "No Internal Process Constraint"; only the real root is free of it, a container's is not
        remedy = "move the processes that are in it into a group below it, then its groups can have controllers"
        raise OSError(errno.EBUSY, remedy, directory) from None


def _copy_cpuset(directory: str) -> None:
    """A v1 cpuset has no cpus and no memory nodes unless its parent clones its own, and nothing can join it until it
    has; a parent does not clone next to an exclusive sibling (kernel/cgroup/cpuset.c)."""
    if read(directory, "cpuset.cpus"):
        return
    for name in ("cpuset.mems", "cpuset.cpus"):
        if read(directory, name):
            continue
        there = read(os.path.dirname(directory), name)
        try:
            write(directory, name, there)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            write(directory, name, _without_exclusive(directory, name, there))


def _without_exclusive(directory: str, name: str, there: str) -> str:
    """A sibling may have its cpus or nodes for itself (cpuset.cpu_exclusive): those are left to it (cpuset(7))."""
    left = listed(there)
    flag = "cpuset.cpu_exclusive" if name == "cpuset.cpus" else "cpuset.mem_exclusive"
    with os.scandir(os.path.dirname(directory)) as entries:
        siblings = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False) and entry.path != directory]
    for sibling in siblings:
        with contextlib.suppress(OSError):  # it goes as we look
            if read(sibling, flag) == "1":
                left -= listed(read(sibling, name))
    return ",".join(map(str, sorted(left)))


def listed(text: str) -> set[int]:
    """The numbers of the kernel's list format: `0-3,5`."""
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found


def groups(directory: str) -> Iterator[str]:
    """All groups below a group and the group itself, children before parents; nothing where it is not."""
    try:
        entries = list(os.scandir(directory))
    except FileNotFoundError:
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from groups(entry.path)
    yield directory


def pids(directory: str, *, recursive: bool = True) -> list[int]:
    """Process ids in a group as this PID namespace sees them (0: out of sight); empty where the group is not."""
    found: list[int] = []
    for group in groups(directory) if recursive else (directory,):
        try:
            found += [int(line) for line in read(group, "cgroup.procs").split()]
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENODEV):  # ENODEV: removed while it was open
                raise
    return found


def populated(directory: str) -> bool:
    """Whether a living process is in the group or below it; False where it is not."""
    try:
        return bool(read_keyed(directory, "cgroup.events")["populated"])
    except (FileNotFoundError, KeyError):
        return bool(pids(directory))
    except OSError as error:
        if error.errno == errno.ENODEV:
            return False
        raise


def kill_all(directory: str) -> None:
    """SIGKILL to every process in the group and below it; returns before they are gone. Idempotent.

    `cgroup.kill` (v2, Linux 5.14) also kills processes that are forked at that time. Elsewhere the group is frozen
    while its processes are killed, or, without a freezer, the caller repeats until the group is empty.
    """
    try:
        write(directory, "cgroup.kill", "1")
        return
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno == errno.ENODEV:
            return
        raise
    if os.path.isdir(directory):
        kill_each(directory)


def kill_each(directory: str) -> None:
    """The same without `cgroup.kill`, for a group that is used again.

    Since Linux 6.14 clone3(2) with CLONE_INTO_CGROUP compares how often `cgroup.kill` was written to the group of the
    parent and to that of the child, and kills the child where they differ (cgroup_css_set_fork).
    """
    _freeze(directory, True)
    killed: set[int] = set()
    try:
        # freezing takes a while: processes that are forked until then are found in the next round
        for _ in range(_KILL_ROUNDS):
            found = set(pids(directory)) - killed - {0}
            if not found:
                break
            for pid in found:
                _kill_member(directory, pid)
            killed |= found
    finally:
        # v1: a frozen process dies only when it thaws
        _freeze(directory, False)


def thaw(directories: Iterable[str]) -> None:
    """Thaw a group and all below it where its directory in the v1 freezer is among these: a container that may write
    there can have frozen itself, and SIGKILL would wait for ever. (v2 kills what is frozen.)"""
    for directory in directories:
        if os.path.exists(f"{directory}/freezer.state"):
            for group in groups(directory):
                with contextlib.suppress(OSError):
                    write(group, "freezer.state", "THAWED")


def _freeze(directory: str, frozen: bool) -> None:
    for name, value in (("cgroup.freeze", "1" if frozen else "0"), ("freezer.state", "FROZEN" if frozen else "THAWED")):
        with contextlib.suppress(OSError):
            write(directory, name, value)
            return


def _kill_member(directory: str, pid: int) -> None:
    """Kill by a pidfd, whose process is checked after it was opened: the pid may have been reused."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if pid in pids(directory):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    finally:
        os.close(pidfd)


def wait_empty(directory: str, timeout_s: float) -> bool:
    """Wait until no living process is in the group or below it; False when `timeout_s` was not enough."""
    deadline = time.monotonic() + timeout_s
    try:
        events_fd = os.open(f"{directory}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return _poll_empty(directory, deadline)
    try:
        poll = select.poll()
        poll.register(events_fd, select.POLLPRI)
        while True:
            try:
                if b"populated 0" in os.pread(events_fd, 4096, 0):
                    return True
            except OSError as error:
                if error.errno == errno.ENODEV:
                    return True
                raise
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return False
            poll.poll(left_s * 1000)
    finally:
        os.close(events_fd)


def _poll_empty(directory: str, deadline: float) -> bool:
    pause_s = 0.001
    while populated(directory):
        if time.monotonic() + pause_s > deadline:
            return False
        time.sleep(pause_s)
        pause_s = min(pause_s * 2, 0.05)
    return True


def remove(directory: str) -> None:
    """Remove an empty group with all groups below it. Idempotent. Raises OSError (EBUSY: a process is in it)."""
    for group in list(groups(directory)):
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(group)
