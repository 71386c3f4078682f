"""Directories that start empty, on disk or in memory (layer 2): emptyDirs, and where minipod writes files of its own.

Rules: pkg/volume/emptydir/empty_dir.go, pkg/volume/volume_linux.go (fsGroup).
"""

from __future__ import annotations

import os
import stat

from minipod.api import quantity
from minipod.api.types import Pod
from minipod.errors import VolumeError
from minipod.kernel.mount import mount, umount_if_mounted
from minipod.kernel.remove import remove_tree
from minipod.plan.operation import HostOperation

HUGE_PAGES = "HugePages"
_FS_GROUP_MODE = 0o660 | 0o110 | stat.S_ISGID


class MakeEmptyDir(HostOperation, frozen=True):
    """An empty directory that every user may write to; with `gid` it belongs to that group, which new files inherit."""

    path: str
    gid: int | None = None

    def describe(self) -> str:
        return f"mkdir {self.path} mode {self._mode():04o}" + (f" group {self.gid}" if self.gid is not None else "")

    def _mode(self) -> int:
        return 0o777 if self.gid is None else 0o777 | stat.S_ISGID

    def execute(self) -> None:
        os.makedirs(os.path.dirname(self.path), mode=0o750, exist_ok=True)
        try:
            os.mkdir(self.path, 0o777)
        except FileExistsError:
            return
        _own(self.path, 0o777, self.gid)

    def undo(self) -> None:
        remove_tree(self.path)


class MountTmpfs(HostOperation, frozen=True):
    """A tmpfs over an emptyDir's directory: an emptyDir of medium Memory."""

    path: str
    size_bytes: int
    noswap: bool = False
    gid: int | None = None

    def describe(self) -> str:
        return f"mount tmpfs {self.path} {self._options()}" + (f" group {self.gid}" if self.gid is not None else "")

    def _options(self) -> str:
        return f"size={self.size_bytes}" + (",noswap" if self.noswap else "")

    def execute(self) -> None:
        if os.path.ismount(self.path):
            return
        mount("tmpfs", self.path, "tmpfs", 0, self._options())
        _own(self.path, 0o1777, self.gid)

    def undo(self) -> None:
        umount_if_mounted(self.path)


class MountHugePages(HostOperation, frozen=True):
    """hugetlbfs over an emptyDir's directory: an emptyDir of medium HugePages."""

    path: str
    page_bytes: int
    gid: int | None = None

    def describe(self) -> str:
        return f"mount hugetlbfs {self.path} pagesize={self.page_bytes}"

    def execute(self) -> None:
        if os.path.ismount(self.path):
            return
        mount("nodev", self.path, "hugetlbfs", 0, f"pagesize={self.page_bytes}")
        _own(self.path, 0o777, self.gid)

    def undo(self) -> None:
        umount_if_mounted(self.path)


def _own(path: str, mode: int, gid: int | None) -> None:
    if gid is not None:
        os.chown(path, -1, gid, follow_symlinks=False)
        mode |= _FS_GROUP_MODE
    os.chmod(path, mode)  # mkdir obeys the umask


def tmpfs_size(size_limit: str | None, pod_limit_bytes: int | None, node_bytes: int) -> int:
    """The smallest of the node's memory, the pod's limit and the volume's own, of those that are set."""
    wanted = quantity.value(size_limit) if size_limit else 0
    return min(size for size in (node_bytes, pod_limit_bytes or 0, wanted, 2**63 - 1) if size > 0)


def huge_page_size(pod: Pod, medium: str) -> int:
    """Bytes of a page of that medium, which the pod has to request (getPageSizeMountOption). Raises VolumeError."""
    containers = (*pod.spec.containers, *pod.spec.init_containers)
    requests = [container.resources.requests for container in containers]
    requests += [pod.spec.resources.requests] if pod.spec.resources is not None else []
    names = {name for resources in requests for name in resources if name.startswith("hugepages-")}
    sizes = {quantity.value(name.removeprefix("hugepages-")) for name in names}
    if medium != HUGE_PAGES:
        sizes &= {quantity.value(medium.removeprefix(f"{HUGE_PAGES}-"))}
    if not sizes:
        raise VolumeError(
            f"medium {medium}: hugePages storage requested, but there is no resource request for huge pages"
        )
    if len(sizes) > 1:
        raise VolumeError(f"medium: {medium} can't be used if container requests multiple huge page sizes")
    return sizes.pop()
