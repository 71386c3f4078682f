"""A container's file system as operations (layer 2): overlay, kernel file systems, binds, masks, pivot_root.

All of it happens in the child's own mount namespace: when the child ends, nothing of it is left. Every place inside
the root is found by openat2 from the root's descriptor, because the image may have prepared it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator

from minipod.kernel import mount as kmount
from minipod.kernel.path import make_in_root, open_in_root
from minipod.kernel.remove import remove_tree
from minipod.plan.operation import ChildContext, ChildOperation, HostOperation
from minipod.plan.volumes.sub_path import open_source

_PROPAGATION = {"private": kmount.MS_PRIVATE, "host-to-container": kmount.MS_SLAVE}

#: name, type, major, minor (runc's AllowedDevices that become nodes)
DEVICES = (
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
)
LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
)


class MakeContainerFolder(HostOperation, frozen=True):
    """The container's folder on disk: overlay's upper and work folders and the place where the root is mounted."""

    directory: str

    def describe(self) -> str:
        return f"mkdir {self.directory}/{{upper,work,rootfs}}"

    def execute(self) -> None:
        for name in ("upper", "work", "rootfs"):
            os.makedirs(f"{self.directory}/{name}", mode=0o755, exist_ok=True)

    def undo(self) -> None:
        remove_tree(self.directory)


class TouchFile(HostOperation, frozen=True):
    """A file that is there before the container starts, with this mode: the termination log."""

    path: str
    mode: int = 0o666

    def describe(self) -> str:
        return f"touch {self.path} mode {self.mode:04o}"

    def execute(self) -> None:
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        fd = os.open(self.path, os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, self.mode)
        try:
            os.fchmod(fd, self.mode)
        finally:
            os.close(fd)

    def undo(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)


class DetachPropagation(ChildOperation, frozen=True):
    """Mounts made here stay here; the host's go on arriving (runc's rootfsPropagation rslave)."""

    phase = "root"

    def describe(self) -> str:
        return "mount --make-rslave /"

    def execute(self, ctx: ChildContext) -> None:
        kmount.mount(None, "/", None, kmount.MS_SLAVE | kmount.MS_REC)


class MountRoot(ChildOperation, frozen=True, kw_only=True):
    """The root: overlayfs of the image's layers, lowest first, under a folder of the container's own."""

    layers: tuple[str, ...]
    directory: str
    phase = "root"

    def describe(self) -> str:
        return f"mount overlay {self.directory}/rootfs: {len(self.layers)} layer(s) {' '.join(self.layers)}"

    def execute(self, ctx: ChildContext) -> None:
        target = f"{self.directory}/rootfs"
        kmount.overlay(self.layers, f"{self.directory}/upper", f"{self.directory}/work", target)
        ctx.fds["root"] = os.open(target, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


class MountFilesystem(ChildOperation, frozen=True, kw_only=True):
    """A kernel file system (proc, tmpfs, devpts, mqueue, sysfs, cgroup, cgroup2) at a place inside the root."""

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
        # A superblock that others use too can't be mounted with another ro (cgroup), or makes the first one's ro that
        # of all (sysfs, one for each network namespace: a privileged container beside an ordinary one). So the mount
        # itself is made ro.
        readonly_later = flags & kmount.MS_RDONLY and self.fstype in ("cgroup", "cgroup2", "sysfs")
        first = flags & ~kmount.MS_RDONLY if readonly_later else flags
        with _place(ctx, self.target, directory=True) as fd:
            kmount.mount(self.fstype, _path_of(fd), self.fstype, first, self.data or None)
        if readonly_later:
            with _place(ctx, self.target, directory=True) as fd:  # opened again: now it is the mount's root
                kmount.mount(None, _path_of(fd), None, kmount.MS_REMOUNT | kmount.MS_BIND | flags)


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
        with _place(ctx, "/dev", directory=True) as fd:
            for name, major, minor in DEVICES:
                _mknod(fd, name, 0o666 | stat.S_IFCHR, os.makedev(major, minor))
            for name, target in LINKS:
                os.symlink(target, name, dir_fd=fd)
            if self.host:
                _copy_devices("/dev", fd)


def _mknod(dir_fd: int, name: str, mode: int, device: int, uid: int = 0, gid: int = 0) -> None:
    os.mknod(name, mode, device, dir_fd=dir_fd)
    os.chmod(name, stat.S_IMODE(mode), dir_fd=dir_fd)  # mknod obeys the umask
    if uid or gid:
        os.chown(name, uid, gid, dir_fd=dir_fd)


def _copy_devices(source: str, dir_fd: int) -> None:
    """What the host's /dev holds, without what every container has of its own (containerd's HostDevices)."""
    for entry in os.scandir(source):
        found = entry.stat(follow_symlinks=False)
        if entry.is_dir(follow_symlinks=False):
            if entry.name in ("pts", "shm", "mqueue", "fd", ".lxc", ".lxd-mounts", ".udev"):
                continue
            with contextlib.suppress(FileExistsError):
                os.mkdir(entry.name, 0o755, dir_fd=dir_fd)
            below = os.open(entry.name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
            try:
                _copy_devices(entry.path, below)
            finally:
                os.close(below)
        elif stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode):
            if entry.name == "console":
                continue
            with contextlib.suppress(FileExistsError):
                _mknod(dir_fd, entry.name, found.st_mode, found.st_rdev, found.st_uid, found.st_gid)


class MakeDeviceNode(ChildOperation, frozen=True):
    """A node of the host's device at a place of the container's own: a volume of mode Block (volumeDevices)."""

    device: str
    target: str
    phase = "mounts"

    def describe(self) -> str:
        return f"mknod {self.target} as {self.device}"

    def execute(self, ctx: ChildContext) -> None:
        found = os.stat(self.device)
        parent, name = os.path.split(self.target)
        with _place(ctx, parent, directory=True) as fd:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=fd)  # of the image, or of the container before this one
            _mknod(fd, name, found.st_mode, found.st_rdev, found.st_uid, found.st_gid)


class KeepShared(ChildOperation, frozen=True):
    """Take hold of a Bidirectional volume while it still shares mounts with the host; `BindMount` puts it in place."""

    source: str
    sub_path: str = ""
    phase = "root"

    def describe(self) -> str:
        return f"open_tree {self.source}{'/' + self.sub_path if self.sub_path else ''} as it is shared with the host"

    def execute(self, ctx: ChildContext) -> None:
        source_fd = open_source(self.source, self.sub_path)
        try:
            if not kmount.is_shared(source_fd):
                raise OSError(
                    errno.EINVAL, "is not on a shared mount (mount --make-shared), so not Bidirectional", self.source
                )
            flags = kmount.OPEN_TREE_CLONE | kmount.AT_EMPTY_PATH | kmount.AT_RECURSIVE
            ctx.fds[_shared_name(self.source, self.sub_path)] = kmount.open_tree(source_fd, "", flags)
        finally:
            os.close(source_fd)


def _shared_name(source: str, sub_path: str) -> str:
    return f"shared {source} {sub_path}"


class BindMount(ChildOperation, frozen=True, kw_only=True):
    """A file or folder of the host at a place inside the root; what is missing of the place is made."""

    source: str
    target: str
    readonly: bool = False
    recursive_read_only: bool = False
    propagation: str = "private"
    sub_path: str = ""
    flags: tuple[str, ...] = ()
    phase = "mounts"

    def describe(self) -> str:
        source = f"{self.source} (below it {self.sub_path})" if self.sub_path else self.source
        options = [("rro" if self.recursive_read_only else "ro") if self.readonly else "rw", *self.flags]
        if self.propagation != "private":
            options.append(self.propagation)
        return f"bind {source} at {self.target} {','.join(options)}"

    def execute(self, ctx: ChildContext) -> None:
        if self.propagation == "bidirectional":
            self._place_shared(ctx)
            return
        source_fd = open_source(self.source, self.sub_path)
        try:
            directory = stat.S_ISDIR(os.fstat(source_fd).st_mode)
            with _place(ctx, self.target, directory=directory) as fd:
                kmount.bind(
                    source_fd,
                    fd,
                    readonly=self.readonly,
                    recursive_read_only=self.recursive_read_only,
                    propagation=_PROPAGATION[self.propagation],
                )
        finally:
            os.close(source_fd)

    def _place_shared(self, ctx: ChildContext) -> None:
        tree = ctx.fds.pop(_shared_name(self.source, self.sub_path))
        try:
            if self.readonly:
                kmount.mount_setattr(tree, attr_set=kmount.MOUNT_ATTR_RDONLY, recursive=self.recursive_read_only)
            with _place(ctx, self.target, directory=stat.S_ISDIR(os.fstat(tree).st_mode)) as fd:
                kmount.move_mount(tree, fd)
        finally:
            os.close(tree)


class KeepWritable(ChildOperation, frozen=True):
    """A folder of the image that stays writable below a read-only root: a volume of the image's configuration.

    Mounted onto itself, so what the image has there is there, and what is written goes with the container.
    """

    target: str
    phase = "mounts"

    def describe(self) -> str:
        return f"bind {self.target} at itself rw: a volume of the image"

    def execute(self, ctx: ChildContext) -> None:
        with _place(ctx, self.target, directory=True) as fd:
            kmount.bind(fd, fd)


class MakeFolder(ChildOperation, frozen=True):
    """A folder inside the root, made where it is missing: the working directory."""

    path: str
    phase = "mounts"

    def describe(self) -> str:
        return f"mkdir -p {self.path}"

    def execute(self, ctx: ChildContext) -> None:
        os.close(make_in_root(ctx.fds["root"], self.path, directory=True))


class MaskPaths(ChildOperation, frozen=True):
    """Hide what the kernel tells too much in: folders under an empty read-only tmpfs, files under /dev/null."""

    paths: tuple[str, ...]
    phase = "mounts"

    def describe(self) -> str:
        return f"mask {' '.join(self.paths)}"

    def execute(self, ctx: ChildContext) -> None:
        null_fd = os.open("/dev/null", os.O_PATH | os.O_CLOEXEC)
        try:
            for path in self.paths:
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    self._mask(ctx.fds["root"], path, null_fd)
        finally:
            os.close(null_fd)

    @staticmethod
    def _mask(root_fd: int, path: str, null_fd: int) -> None:
        fd = open_in_root(root_fd, path)
        try:
            if stat.S_ISDIR(os.fstat(fd).st_mode):
                kmount.mount("tmpfs", _path_of(fd), "tmpfs", kmount.MS_RDONLY, "size=0,nr_inodes=2")
            else:
                kmount.bind(null_fd, fd, recursive=False)
        finally:
            os.close(fd)


class ReadOnlyPaths(ChildOperation, frozen=True):
    """Make parts of /proc read-only by binding them over themselves."""

    paths: tuple[str, ...]
    phase = "mounts"

    def describe(self) -> str:
        return f"read-only {' '.join(self.paths)}"

    def execute(self, ctx: ChildContext) -> None:
        for path in self.paths:
            try:
                fd = open_in_root(ctx.fds["root"], path)
            except FileNotFoundError:
                continue
            try:
                kmount.bind(fd, fd, readonly=True)
            finally:
                os.close(fd)


class RemountReadOnly(ChildOperation, frozen=True):
    """Make one mount inside the root read-only (`/`: readOnlyRootFilesystem); those below it stay as they are."""

    target: str
    flags: tuple[str, ...] = ()
    phase = "mounts"

    def describe(self) -> str:
        return f"remount {self.target} ro"

    def execute(self, ctx: ChildContext) -> None:
        flags = kmount.MS_REMOUNT | kmount.MS_BIND | kmount.MS_RDONLY
        for name in self.flags:
            flags |= kmount.FLAG_NAMES[name]
        with _place(ctx, self.target, directory=True) as fd:
            kmount.mount(None, _path_of(fd), None, flags)


class PivotRoot(ChildOperation, frozen=True):
    """Make the assembled root the root; the host's is detached. Never chroot: it can be left again."""

    phase = "root"

    def describe(self) -> str:
        return "pivot_root . .; umount2 . MNT_DETACH; chdir /"

    def execute(self, ctx: ChildContext) -> None:
        os.fchdir(ctx.fds["root"])
        kmount.pivot_root(".", ".")  # the old root is now stacked on the new one: pivot_root(2), NOTES
        kmount.umount(".", kmount.MNT_DETACH)
        os.chdir("/")


def _path_of(fd: int) -> str:
    """A way to name an open place to mount(2) that no rename can redirect."""
    return f"/proc/self/fd/{fd}"


@contextlib.contextmanager
def _place(ctx: ChildContext, path: str, *, directory: bool) -> Iterator[int]:
    fd = make_in_root(ctx.fds["root"], path, directory=directory)
    try:
        yield fd
    finally:
        os.close(fd)
