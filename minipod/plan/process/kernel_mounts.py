"""The runtime's own file systems in a container (layer 2): /proc, /dev, /sys, cgroups; their devices and masks.

Each is made detached, placed on an open directory, and kept by its descriptor (`plan/process/places.py`): devices,
masks and read-only parts go to the mount that was made, before any volume is mounted.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable, Iterator

from minipod.kernel import mount as kmount
from minipod.plan.operation import ChildContext, ChildOperation
from minipod.plan.process.places import keep_mount, kept_mount, open_own, own_place

#: name, type, major, minor (runc's AllowedDevices that become nodes)
DEVICES = (
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
)
_HOST_DEVICES = "host's /dev"
LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
)


class MountFilesystem(ChildOperation, frozen=True, kw_only=True):
    """A kernel file system (proc, tmpfs, devpts, mqueue, sysfs, cgroup, cgroup2) at an ordinary directory of the image.

    `flags` are of the mount, not of the superblock, which others may use too: one sysfs serves a whole network
    namespace, so a superblock made read-only for one container would be so for a privileged one next to it.
    A `procfs` that the context holds already (of a PID namespace that is not this process' own) is used for `proc`.
    """

    fstype: str
    target: str
    flags: tuple[str, ...] = ()
    data: str = ""
    phase = "mounts"

    def describe(self) -> str:
        options = ",".join([*self.flags, *filter(None, [self.data])])
        return f"mount {self.fstype} {self.target}" + (f" {options}" if options else "")

    def execute(self, ctx: ChildContext) -> None:
        flags = 0
        for name in self.flags:
            flags |= kmount.FLAG_NAMES[name]
        procfs_fd = ctx.fds.pop("procfs", None) if self.fstype == "proc" else None
        mount_fd = kmount.new_mount(self.fstype, self._options(), flags) if procfs_fd is None else procfs_fd
        with own_place(ctx, self.target) as place:
            kmount.move_mount(mount_fd, place)
        if procfs_fd is not None:
            kmount.restrict(mount_fd, flags)
        keep_mount(ctx, self.target, mount_fd)

    def _options(self) -> list[tuple[str, str | None]]:
        options: list[tuple[str, str | None]] = [("source", self.fstype)]
        for word in filter(None, self.data.split(",")):
            key, equals, value = word.partition("=")
            options.append((key, value if equals else None))
        return options


class TakeCgroup(ChildOperation, frozen=True, kw_only=True):
    """Take the container's own group in a v1 hierarchy as a detached mount, for `PlaceCgroup`.

    To mount the hierarchy anew (mount(2), fsopen(2)) takes time for every group that the host's cgroup2 has.
    """

    directory: str
    target: str
    phase = "root"

    def describe(self) -> str:
        return f"open_tree {self.directory} for {self.target}"

    def execute(self, ctx: ChildContext) -> None:
        fd = os.open(self.directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        ctx.fds[_group_name(self.target)] = kmount.clone_tree(fd, recursive=False)
        os.close(fd)


class PlaceCgroup(ChildOperation, frozen=True, kw_only=True):
    """What `TakeCgroup` took at an ordinary directory of the image: as a v1 hierarchy of the cgroup namespace."""

    target: str
    flags: tuple[str, ...] = ()
    phase = "mounts"

    def describe(self) -> str:
        return f"bind the container's group at {self.target} {','.join(self.flags)}"

    def execute(self, ctx: ChildContext) -> None:
        flags = 0
        for name in self.flags:
            flags |= kmount.FLAG_NAMES[name]
        tree = ctx.fds.pop(_group_name(self.target))
        with own_place(ctx, self.target) as place:
            kmount.place_tree(tree, place, flags=flags, recursive=False)
        keep_mount(ctx, self.target, tree)


def _group_name(target: str) -> str:
    return f"group {target}"


class RemountReadOnly(ChildOperation, frozen=True):
    """Make one of the runtime's own mounts read-only (`/`: readOnlyRootFilesystem); those below it stay as they are."""

    target: str
    phase = "mounts"

    def describe(self) -> str:
        return f"remount {self.target} ro"

    def execute(self, ctx: ChildContext) -> None:
        kmount.restrict(kept_mount(ctx, self.target), kmount.MS_RDONLY)


class TakeDevices(ChildOperation, frozen=True):
    """Open the host's /dev, for `MakeDevices` of a privileged container."""

    phase = "root"

    def describe(self) -> str:
        return "open /dev"

    def execute(self, ctx: ChildContext) -> None:
        ctx.fds[_HOST_DEVICES] = os.open("/dev", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


class MakeDevices(ChildOperation, frozen=True):
    """The device nodes and links of /dev; `host` adds every device of the host (privileged)."""

    host: bool = False
    phase = "mounts"

    def describe(self) -> str:
        nodes = " ".join(name for name, _, _ in DEVICES)
        return f"mknod /dev: {nodes}{' and all of the host' if self.host else ''}; symlink " + " ".join(
            n for n, _ in LINKS
        )

    def execute(self, ctx: ChildContext) -> None:
        fd = kept_mount(ctx, "/dev")
        for name, major, minor in DEVICES:
            make_node(fd, name, 0o666 | stat.S_IFCHR, os.makedev(major, minor))
        for name, target in LINKS:
            os.symlink(target, name, dir_fd=fd)
        if self.host:
            source_fd = ctx.fds.pop(_HOST_DEVICES)
            _copy_devices(source_fd, fd)
            os.close(source_fd)


def make_node(dir_fd: int, name: str, mode: int, device: int, uid: int = 0, gid: int = 0) -> None:
    """mknod(2) with just this mode and owner."""
    os.mknod(name, mode, device, dir_fd=dir_fd)
    os.chmod(name, stat.S_IMODE(mode), dir_fd=dir_fd)  # mknod obeys the umask
    if uid or gid:
        os.chown(name, uid, gid, dir_fd=dir_fd)


def _copy_devices(source_fd: int, dir_fd: int) -> None:
    """What the host's /dev holds, without what every container has of its own (containerd's HostDevices)."""
    for entry in os.scandir(source_fd):
        found = entry.stat(follow_symlinks=False)
        if entry.is_dir(follow_symlinks=False):
            if entry.name in ("pts", "shm", "mqueue", "fd", ".lxc", ".lxd-mounts", ".udev"):
                continue
            with contextlib.suppress(FileExistsError):
                os.mkdir(entry.name, 0o755, dir_fd=dir_fd)
            flags = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            below_fd = os.open(entry.name, flags | os.O_PATH, dir_fd=dir_fd)
            inner_fd = os.open(entry.name, flags | os.O_RDONLY, dir_fd=source_fd)
            try:
                _copy_devices(inner_fd, below_fd)
            finally:
                os.close(below_fd)
                os.close(inner_fd)
        elif stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode):
            if entry.name == "console":
                continue
            with contextlib.suppress(FileExistsError):
                make_node(dir_fd, entry.name, found.st_mode, found.st_rdev, found.st_uid, found.st_gid)


class MaskPaths(ChildOperation, frozen=True):
    """Hide what the kernel exposes: directories under an empty tmpfs, files under the container's own /dev/null.

    Read-only, so that neither a mode nor an owner can be changed through a mask. Only what this kernel lacks is
    skipped.
    """

    paths: tuple[str, ...]
    phase = "mounts"

    def describe(self) -> str:
        return f"mask {' '.join(self.paths)}"

    def execute(self, ctx: ChildContext) -> None:
        null_fd = _null_device(ctx)
        try:
            for fd in _opened(ctx, self.paths):
                _mask(fd, null_fd)
        finally:
            os.close(null_fd)


def _opened(ctx: ChildContext, paths: Iterable[str]) -> Iterator[int]:
    """The open masked paths in turn, each closed before the next; without those this kernel lacks. Raises OSError."""
    for path in paths:
        try:
            fd = open_own(ctx, path)
        except FileNotFoundError:
            continue
        try:
            yield fd
        finally:
            os.close(fd)


def _null_device(ctx: ChildContext) -> int:
    """The node that was made in the container's own /dev, never the host's: it has an inode of its own."""
    fd = open_own(ctx, "/dev/null")
    found = os.fstat(fd)
    if not stat.S_ISCHR(found.st_mode) or found.st_rdev != os.makedev(1, 3):
        os.close(fd)
        raise OSError(errno.ENODEV, "/dev/null is not the null device")
    return fd


def _mask(fd: int, null_fd: int) -> None:
    if stat.S_ISDIR(os.fstat(fd).st_mode):
        flags = kmount.MS_RDONLY | kmount.MS_NOSUID | kmount.MS_NODEV | kmount.MS_NOEXEC
        kmount.mount("tmpfs", f"/proc/self/fd/{fd}", "tmpfs", flags, "size=0,nr_inodes=2")
    else:
        flags = kmount.MS_RDONLY | kmount.MS_NOSUID | kmount.MS_NOEXEC
        kmount.bind(null_fd, fd, recursive=False, flags=flags)


class ReadOnlyPaths(ChildOperation, frozen=True):
    """Make parts of /proc read-only by binding them over themselves."""

    paths: tuple[str, ...]
    phase = "mounts"

    def describe(self) -> str:
        return f"read-only {' '.join(self.paths)}"

    def execute(self, ctx: ChildContext) -> None:
        for fd in _opened(ctx, self.paths):
            kmount.bind(fd, fd, recursive=False, flags=kmount.MS_RDONLY)
