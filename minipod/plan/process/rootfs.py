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
from minipod.plan.process.entry import copy_host_mounts
from minipod.plan.process.kernel_mounts import make_node
from minipod.plan.process.places import kept_mount, volume_place
from minipod.plan.volumes.host_paths import refuse_another_type
from minipod.plan.volumes.sub_path import open_source

_PROPAGATION = {"private": kmount.MS_PRIVATE, "host-to-container": kmount.MS_SLAVE}


class MakeContainerFolder(HostOperation, frozen=True):
    """The container's directory on disk: overlay's upper and work directory and the mount point of the root."""

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
    """The root: overlayfs of the image's layers, lowest first, under a directory of the container's own."""

    layers: tuple[str, ...]
    directory: str
    phase = "root"

    def describe(self) -> str:
        return f"mount overlay {self.directory}/rootfs: {len(self.layers)} layer(s) {' '.join(self.layers)}"

    def execute(self, ctx: ChildContext) -> None:
        upper, work = f"{self.directory}/upper", f"{self.directory}/work"
        try:
            ctx.fds["root"] = kmount.detached_overlay(self.layers, upper, work)
        except OSError as error:
            if error.errno != errno.E2BIG:
                raise
            copy_host_mounts(ctx)
            target = f"{self.directory}/rootfs"
            kmount.overlay(self.layers, upper, work, target)
            ctx.fds["root"] = os.open(target, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


class MountEmptyRoot(ChildOperation, frozen=True):
    """A root with nothing in it: of a pod's first process."""

    phase = "root"

    def describe(self) -> str:
        return "mount tmpfs / nosuid,nodev,noexec"

    def execute(self, ctx: ChildContext) -> None:
        flags = kmount.MS_NOSUID | kmount.MS_NODEV | kmount.MS_NOEXEC
        ctx.fds["root"] = kmount.new_mount("tmpfs", (("mode", "755"), ("size", "64k")), flags)


class TakeDevice(ChildOperation, frozen=True):
    """Open a device of the host, for `MakeDeviceNode`."""

    device: str
    phase = "root"

    def describe(self) -> str:
        return f"open {self.device}"

    def execute(self, ctx: ChildContext) -> None:
        ctx.fds[_device_name(self.device)] = os.open(self.device, os.O_PATH | os.O_CLOEXEC)


def _device_name(device: str) -> str:
    return f"device {device}"


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
        device_fd = ctx.fds.pop(_device_name(self.device))
        found = os.fstat(device_fd)
        os.close(device_fd)
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


class TakeSource(ChildOperation, frozen=True, kw_only=True):
    """Take a file or directory of the host, with the mounts in it, as a detached mount; `BindMount` attaches it."""

    source: str
    target: str
    sub_path: str = ""
    host_path_type: str = ""
    shared: bool = False
    phase = "root"

    def describe(self) -> str:
        source = f"{self.source} (below it {self.sub_path})" if self.sub_path else self.source
        return f"open_tree {source}{', which is shared with the host,' if self.shared else ''} for {self.target}"

    def execute(self, ctx: ChildContext) -> None:
        source_fd = open_source(self.source, self.sub_path)
        try:
            if self.shared and not kmount.is_shared(source_fd):
                raise OSError(
                    errno.EINVAL, "is not on a shared mount (mount --make-shared), so not Bidirectional", self.source
                )
            if not self.sub_path:
                refuse_another_type(source_fd, self.source, self.host_path_type)
            ctx.fds[_source_name(self.source, self.sub_path, self.target)] = kmount.clone_tree(source_fd)
        finally:
            os.close(source_fd)


def _source_name(source: str, sub_path: str, target: str) -> str:
    return f"source {source} {sub_path} {target}"


class BindMount(ChildOperation, frozen=True, kw_only=True):
    """What `TakeSource` took at a place inside the root; what is missing of the place is made."""

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

    def take(self) -> TakeSource:
        """What has to be executed before it, where the host's mounts are."""
        return TakeSource(
            source=self.source,
            target=self.target,
            sub_path=self.sub_path,
            host_path_type=self.host_path_type,
            shared=self.propagation == "bidirectional",
        )

    def execute(self, ctx: ChildContext) -> None:
        tree = ctx.fds.pop(_source_name(self.source, self.sub_path, self.target))
        try:
            with volume_place(ctx, self.target, directory=stat.S_ISDIR(os.fstat(tree).st_mode)) as fd:
                if self.propagation == "bidirectional":
                    self._place_shared(tree, fd)
                    return
                kmount.place_tree(
                    tree,
                    fd,
                    flags=kmount.MS_RDONLY if self.readonly else 0,
                    recursive_read_only=self.recursive_read_only,
                    propagation=_PROPAGATION[self.propagation],
                )
        finally:
            os.close(tree)

    def _place_shared(self, tree: int, place_fd: int) -> None:
        if self.recursive_read_only:
            kmount.mount_setattr(tree, attr_set=kmount.MOUNT_ATTR_RDONLY, recursive=True)
        kmount.move_mount(tree, place_fd)
        if self.readonly:
            kmount.restrict(tree, kmount.MS_RDONLY)


class KeepWritable(ChildOperation, frozen=True):
    """A directory of the image that stays writable below a read-only root: a volume of the image's configuration.

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
    """A directory inside the root, made where it is missing: the working directory."""

    path: str
    phase = "mounts"

    def describe(self) -> str:
        return f"mkdir -p {self.path}"

    def execute(self, ctx: ChildContext) -> None:
        os.close(make_in_root(ctx.fds["root"], self.path, directory=True))
