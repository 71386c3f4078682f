"""How a process gets below a container's root and into its working directory (layer 2): verified, also in a chroot.

After `EnterMounts` the mount namespace is the container's own; after `PivotRoot`, or `EnterRoot` in a container
that runs, `/` is the container's root file system, known by its device and inode, and `ctx.fds["root"]` is open on it.
"""

from __future__ import annotations

import errno
import os

from minipod.kernel import mount as kmount
from minipod.kernel import process
from minipod.kernel.path import AT_FDCWD, RESOLVE_NO_MAGICLINKS, open_in_root, openat2
from minipod.plan.operation import ChildContext, ChildOperation

_KEPT = ("status", "terminal")


class EnterMounts(ChildOperation, frozen=True):
    """Enter a mount namespace of the container's own, with nothing in it but a procfs, and attach its root there.

    It is a copy of the spawner's empty one. A copy of the host's takes time for every mount of every pod (25 ms for
    2,000). What the container gets of the host was taken before, as detached mounts.
    """

    phase = "root"

    def describe(self) -> str:
        return "setns an empty mnt; unshare CLONE_NEWNS; move_mount the root to /root"

    def execute(self, ctx: ChildContext) -> None:
        empty_fd = ctx.fds.pop("mounts", None)
        if empty_fd is None:
            return  # `copy_host_mounts`
        process.setns(empty_fd, process.CLONE_NEWNS)
        os.close(empty_fd)
        process.unshare(process.CLONE_NEWNS)
        place = os.open("/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        kmount.move_mount(ctx.fds["root"], place)
        os.close(place)


def copy_host_mounts(ctx: ChildContext) -> None:
    """A mount namespace that starts as a copy of the host's, for a root that cannot be made detached.

    Mounts made here stay here. This holds for all of it, of which a chroot sees only a part: PivotRoot detaches all.
    """
    os.close(ctx.fds.pop("mounts"))
    process.unshare(process.CLONE_NEWNS)
    root_fd = _open_root()
    process.enter_own_mount_namespace()
    kmount.mount(None, "/", None, kmount.MS_SLAVE | kmount.MS_REC)
    process.change_root(root_fd)
    os.close(root_fd)


class PivotRoot(ChildOperation, frozen=True):
    """Make the assembled root the root of the mount namespace; the host's is detached. Never chroot: it can be left.

    pivot_root(2) exchanges the root of the process. Where the agent runs in a chroot that is not the namespace's, and
    a process that joins later would start at the latter: so the namespace's is entered first.
    """

    phase = "entry"

    def describe(self) -> str:
        return "setns own mnt; pivot_root . .; umount2 . MNT_DETACH; chdir /; verify device and inode of /"

    def execute(self, ctx: ChildContext) -> None:
        found = os.fstat(ctx.fds["root"])
        process.enter_own_mount_namespace()
        os.fchdir(ctx.fds["root"])
        kmount.pivot_root(".", ".")  # the old root is now stacked on the new one: pivot_root(2), NOTES
        kmount.umount(".", kmount.MNT_DETACH)
        os.chdir("/")
        ctx.fds = {name: fd for name, fd in ctx.fds.items() if name in _KEPT}  # no mount that was made
        process.close_all_but((0, 1, 2, *ctx.fds.values()))
        ctx.facts["root"] = [found.st_dev, found.st_ino]
        ctx.fds["root"] = _verified_root(found.st_dev, found.st_ino)


class EnterRoot(ChildOperation, frozen=True):
    """`/` is the container's root, the same that it was started with, once its mount namespace is joined."""

    device: int
    inode: int
    phase = "entry"

    def describe(self) -> str:
        return f"open /; verify device {os.major(self.device)}:{os.minor(self.device)} inode {self.inode}"

    def execute(self, ctx: ChildContext) -> None:
        ctx.fds["root"] = _verified_root(self.device, self.inode)


class ChangeFolder(ChildOperation, frozen=True):
    """The working directory, by no magic link: /proc/PID/root, /proc/self/fd/N lead out of any root.

    The user may enter it, or the capability that `BecomeUser` keeps for this allows it: a cluster's containers start in
    directories that their user cannot reach (runc's finalizeNamespace enters it as root).
    """

    path: str
    phase = "folder"

    def describe(self) -> str:
        return f"chdir {self.path} below /, along no magic link; verify getcwd"

    def execute(self, ctx: ChildContext) -> None:
        try:
            fd = open_in_root(ctx.fds["root"], self.path, os.O_PATH | os.O_DIRECTORY)
        except OSError as error:
            raise OSError(error.errno, _why_not(error)) from None
        os.fchdir(fd)
        for done in (fd, ctx.fds.pop("root")):
            os.close(done)
        if not os.getcwd().startswith("/"):  # "(unreachable)/…" (getcwd(3))
            raise OSError(errno.EXDEV, "it is not below the container's root")


class CheckProgram(ChildOperation, frozen=True):
    """The program is not reached by a magic link either. All its other errors are reported by `Exec`.

    By itself that is no defence: when execve(2) resolves the path, nothing that could be reached that way is open.
    """

    path: str
    cookie: int = 0  # `passage`
    phase = "exec"

    def describe(self) -> str:
        return f"open {self.path}, along no magic link"

    def execute(self, ctx: ChildContext) -> None:
        try:
            os.close(openat2(AT_FDCWD, self.path, os.O_PATH, 0, RESOLVE_NO_MAGICLINKS, cookie=self.cookie))
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise OSError(errno.ELOOP, f'exec: "{self.path}": {_why_not(error)}') from None


def _why_not(error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return "a magic link of /proc, or too many links, lead there"
    return os.strerror(error.errno or 0).lower()


def _open_root() -> int:
    return os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _verified_root(device: int, inode: int) -> int:
    fd = _open_root()
    found = os.fstat(fd)
    if (found.st_dev, found.st_ino) != (device, inode):
        raise OSError(errno.EXDEV, "the root that was entered is not the container's")
    return fd
