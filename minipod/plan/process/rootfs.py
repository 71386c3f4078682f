"""A container's file system as operations (layer 2): overlay, volumes, pivot_root; not the kernel's file systems.

All of it happens in the child's own mount namespace: when the child ends, nothing of it is left. Every place inside
the root is found by openat2 from the root's descriptor, because the image may have prepared it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from minipod.kernel import mount as kmount
from minipod.kernel.path import make_in_root
from minipod.kernel.remove import remove_tree
from minipod.plan.operation import ChildContext, ChildOperation, HostOperation
from minipod.plan.process.kernel_mounts import make_node
from minipod.plan.process.places import kept_mount, volume_place
from minipod.plan.volumes.host_paths import refuse_another_type
from minipod.plan.volumes.sub_path import open_source

_PROPAGATION = {"private": kmount.MS_PRIVATE, "host-to-container": kmount.MS_SLAVE}


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


class MountEmptyRoot(ChildOperation, frozen=True):
    """A root with nothing in it, over a folder that is the process' own: of a pod's first process."""

    directory: str
    phase = "root"

    def describe(self) -> str:
        return f"mount tmpfs {self.directory} nosuid,nodev,noexec"

    def execute(self, ctx: ChildContext) -> None:
        flags = kmount.MS_NOSUID | kmount.MS_NODEV | kmount.MS_NOEXEC
        place = os.open(self.directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        ctx.fds["root"] = kmount.new_mount("tmpfs", (("mode", "755"), ("size", "64k")), flags)
        kmount.move_mount(ctx.fds["root"], place)
        os.close(place)


class MakeDeviceNode(ChildOperation, frozen=True):
    """A node of the host's device at a place of the container's own: a volume of mode Block (volumeDevices).

    Never in a volume: a node there would be for all who share the volume, and on the host it would stay.
    """

    device: str
    target: str
    phase = "mounts"

    def describe(self) -> str:
        return f"mknod {self.target} as {self.device}"

    def execute(self, ctx: ChildContext) -> None:
        found = os.stat(self.device)
        parent, name = os.path.split(self.target)
        fd = make_in_root(ctx.fds["root"], parent, directory=True)
        try:
            own = {os.fstat(kept_mount(ctx, place)).st_dev for place in ("/", "/dev")}
            if os.fstat(fd).st_dev not in own:
                raise PermissionError(errno.EPERM, f"devicePath {self.target}: neither in the image nor in /dev")
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=fd)  # of the image, or of the container before this one
            make_node(fd, name, found.st_mode, found.st_rdev, found.st_uid, found.st_gid)
        finally:
            os.close(fd)


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
    host_path_type: str = ""
    phase = "mounts"

    def describe(self) -> str:
        source = f"{self.source} (below it {self.sub_path})" if self.sub_path else self.source
        options = [("rro" if self.recursive_read_only else "ro") if self.readonly else "rw"]
        if self.propagation != "private":
            options.append(self.propagation)
        return f"bind {source} at {self.target} {','.join(options)}"

    def execute(self, ctx: ChildContext) -> None:
        if self.propagation == "bidirectional":
            self._place_shared(ctx)
            return
        source_fd = open_source(self.source, self.sub_path)
        try:
            if not self.sub_path:
                refuse_another_type(source_fd, self.source, self.host_path_type)
            directory = stat.S_ISDIR(os.fstat(source_fd).st_mode)
            with volume_place(ctx, self.target, directory=directory) as fd:
                kmount.bind(
                    source_fd,
                    fd,
                    flags=kmount.MS_RDONLY if self.readonly else 0,
                    recursive_read_only=self.recursive_read_only,
                    propagation=_PROPAGATION[self.propagation],
                )
        finally:
            os.close(source_fd)

    def _place_shared(self, ctx: ChildContext) -> None:
        tree = ctx.fds.pop(_shared_name(self.source, self.sub_path))
        try:
            if self.recursive_read_only:
                kmount.mount_setattr(tree, attr_set=kmount.MOUNT_ATTR_RDONLY, recursive=True)
            with volume_place(ctx, self.target, directory=stat.S_ISDIR(os.fstat(tree).st_mode)) as fd:
                kmount.move_mount(tree, fd)
            if self.readonly:
                kmount.restrict(tree, kmount.MS_RDONLY)
        finally:
            os.close(tree)


class KeepWritable(ChildOperation, frozen=True):
    """A folder of the image that stays writable below a read-only root: a volume of the image's configuration.

    Mounted onto itself, so what the image has there is there, and what is written goes with the container. A place
    that is not of the root file system (/dev/shm) has its own mount, and is as writable as that.
    """

    target: str
    phase = "mounts"

    def describe(self) -> str:
        return f"bind {self.target} at itself rw: a volume of the image"

    def execute(self, ctx: ChildContext) -> None:
        with volume_place(ctx, self.target, directory=True) as fd:
            if os.fstat(fd).st_dev == os.fstat(ctx.fds["root"]).st_dev:
                kmount.bind(fd, fd, recursive=False)


class MakeFolder(ChildOperation, frozen=True):
    """A folder inside the root, made where it is missing: the working directory."""

    path: str
    phase = "mounts"

    def describe(self) -> str:
        return f"mkdir -p {self.path}"

    def execute(self, ctx: ChildContext) -> None:
        os.close(make_in_root(ctx.fds["root"], self.path, directory=True))
