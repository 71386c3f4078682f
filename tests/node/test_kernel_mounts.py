"""The runtime's own mounts by their descriptors: what they are, on every kernel from 5.10 on, and what they refuse."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from minipod.kernel import mount as kmount
from minipod.kernel import process
from minipod.plan.operation import ChildContext
from minipod.plan.process.entry import EnterMounts, PivotRoot
from minipod.plan.process.kernel_mounts import MakeDevices, MaskPaths, MountFilesystem, ReadOnlyPaths, RemountReadOnly
from minipod.plan.process.rootfs import BindMount, KeepWritable, MakeDeviceNode, MountRoot
from minipod.runtime.spawner.mounts import empty_mount_namespace
from tests.own_mounts import (
    KERNEL_MOUNTS,
    before_5_12,
    executed,
    in_own_mounts,
    opened_for_writing,
    options_at,
    refused,
)

pytestmark = pytest.mark.vm
HIDDEN = {"nosuid", "nodev", "noexec"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("root/etc", "root/data", "source"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path / "root"


@pytest.mark.parametrize("kernel", ["this", "before 5.12"])
def test_each_mount_has_its_own_options_on_every_kernel(root: Path, kernel: str) -> None:
    operations = [
        *KERNEL_MOUNTS,
        MakeDevices(),
        MaskPaths(("/proc/keys", "/proc/tty", "/sys/kernel", "/proc/not-of-this-kernel")),
        ReadOnlyPaths(("/proc/sys", "/proc/uptime", "/proc/not-of-this-kernel")),
        BindMount(source=str(root.parent / "source"), target="/volume", readonly=True),
        KeepWritable("/data"),
        RemountReadOnly("/"),
    ]

    def work(ctx: ChildContext) -> Any:
        with before_5_12() if kernel != "this" else contextlib.nullcontext():
            for operation in operations:
                executed(operation, ctx)
        places = (
            "proc",
            "proc/keys",
            "proc/sys",
            "proc/uptime",
            "sys",
            "sys/kernel",
            "proc/tty",
            "volume",
            "data",
            ".",
        )
        found: dict[str, Any] = {place: sorted(options_at(os.path.normpath(root / place))) for place in places}
        null = os.stat(root / "proc/keys")
        found["null"] = [null.st_rdev, null.st_dev == os.stat(root / "dev").st_dev]
        found["chmod"] = refused(os.chmod, root / "proc/keys", 0o600)
        found["write"] = [opened_for_writing(ctx, path) for path in ("/proc/sys/kernel/core_pattern", "/dev/null")]
        return found

    found = in_own_mounts(root, work)
    assert {"rw", *HIDDEN} <= set(found["proc"])
    assert {"ro", *HIDDEN} <= set(found["proc/sys"])
    assert {"ro", *HIDDEN} <= set(found["proc/uptime"])
    assert {"ro", "nosuid", "noexec"} <= set(found["proc/keys"])
    assert {"ro", *HIDDEN} <= set(found["sys"])
    assert {"ro", *HIDDEN} <= set(found["sys/kernel"])
    assert {"ro", *HIDDEN} <= set(found["proc/tty"])
    assert [found[place][0] if "ro" not in found[place] else "ro" for place in ("volume", ".")] == ["ro", "ro"]
    assert "rw" in found["data"]
    assert found["null"] == [os.makedev(1, 3), True]
    assert "Read-only file system" in found["chmod"]
    assert ["Read-only" in found["write"][0], found["write"][1]] == [True, ""]


@pytest.mark.parametrize("kernel", ["this", "before 5.12"])
def test_a_volume_that_is_shared_with_the_host_can_be_read_only_on_every_kernel(root: Path, kernel: str) -> None:
    source = root.parent / "source"

    def work(ctx: ChildContext) -> Any:
        kmount.mount("tmpfs", str(source), "tmpfs", 0, "size=64k")
        kmount.mount(None, str(source), None, kmount.MS_SHARED)
        bind = BindMount(source=str(source), target="/shared", propagation="bidirectional", readonly=True)
        with before_5_12() if kernel != "this" else contextlib.nullcontext():
            for operation in (*KERNEL_MOUNTS, bind):
                executed(operation, ctx)
        os.mkdir(source / "later")
        kmount.mount("tmpfs", str(source / "later"), "tmpfs", 0, "size=64k")
        return {place: sorted(options_at(place)) for place in (f"{root}/shared", f"{root}/shared/later", str(source))}

    shared, later, host = in_own_mounts(root, work).values()
    assert "ro" in shared
    assert "rw" in later  # it has arrived
    assert "rw" in host


def test_a_procfs_that_was_made_elsewhere_is_placed_with_the_same_options(root: Path) -> None:
    def work(ctx: ChildContext) -> Any:
        ctx.fds["procfs"] = kmount.new_mount("proc", [("source", "given")])
        KERNEL_MOUNTS[0].execute(ctx)
        return {
            "options": sorted(options_at(root / "proc")),
            "left": "procfs" in ctx.fds,
            "kept": "mount /proc" in ctx.fds,
        }

    found = in_own_mounts(root, work)
    assert {"rw", *HIDDEN} <= set(found["options"])
    assert (found["left"], found["kept"]) == (False, True)


@pytest.mark.attack(row=11)
@pytest.mark.parametrize("kind", [MaskPaths, ReadOnlyPaths])
def test_only_what_the_kernel_lacks_is_passed_over(root: Path, kind: type[MaskPaths] | type[ReadOnlyPaths]) -> None:
    """A path that cannot be masked for another reason starts nothing: it would be there, unmasked."""

    def work(ctx: ChildContext) -> Any:
        for operation in (*KERNEL_MOUNTS, MakeDevices()):
            operation.execute(ctx)
        kind(("/proc/scsi/nothing-of-this-name",)).execute(ctx)
        paths = ("/proc/version/x", "/proc/self/limits", "/proc/self/root/etc", "/proc/thread-self")
        return {path: refused(kind((path,)).execute, ctx) for path in paths}

    said = in_own_mounts(root, work)
    assert "Not a directory" in said["/proc/version/x"]
    assert all("symbolic links" in words for path, words in said.items() if path != "/proc/version/x"), said


@pytest.mark.attack(row=11)
def test_what_is_bound_as_a_mask_is_proved_to_be_the_null_device(root: Path) -> None:
    def work(ctx: ChildContext) -> Any:
        for operation in KERNEL_MOUNTS:
            operation.execute(ctx)
        found = []
        os.symlink("/proc/sys/kernel/hostname", root / "dev/null")
        found.append(refused(MaskPaths(("/proc/keys",)).execute, ctx))
        os.unlink(root / "dev/null")
        os.mknod(root / "dev/null", 0o20666, os.makedev(1, 5))
        found.append(refused(MaskPaths(("/proc/keys",)).execute, ctx))
        return found

    link, zero = in_own_mounts(root, work)
    assert "symbolic links" in link
    assert "not the null device" in zero


@pytest.mark.attack(row=12)
def test_a_device_is_made_in_no_volume(root: Path) -> None:
    """A node in a volume would be for all who share it; on the host it would stay."""
    source = root.parent / "source"
    os.symlink("/volume", root / "link")

    def work(ctx: ChildContext) -> Any:
        for operation in KERNEL_MOUNTS:
            operation.execute(ctx)
        os.mkdir(root / "dev/mine")
        kmount.mount("tmpfs", str(source), "tmpfs", 0, "size=64k")
        executed(BindMount(source=str(source), target="/volume"), ctx)
        places = ("/volume/sda", "/link/sda", "/proc/sda", "/sys/sda", "/data/sda", "/dev/mine/sda", "/sda")
        return {place: refused(executed, MakeDeviceNode("/dev/null", place), ctx) for place in places}

    said = in_own_mounts(root, work)
    assert [place for place, words in said.items() if not words] == ["/data/sda", "/dev/mine/sda", "/sda"]
    assert all("neither in the image nor in /dev" in words for words in said.values() if words)
    assert os.listdir(source) == []


def test_a_mount_that_fails_names_its_place(root: Path) -> None:
    os.rmdir(root / "etc")
    (root / "etc").write_text("a file")
    broken = MountFilesystem(fstype="tmpfs", target="/etc")
    assert "/etc must be an ordinary directory" in in_own_mounts(root, lambda ctx: refused(broken.execute, ctx))


@pytest.mark.parametrize("kernel", ["this", "before 6.7"])
def test_a_container_begins_with_no_mount_of_the_host_and_leaves_with_none(root: Path, kernel: str) -> None:
    """Before Linux 6.7 an image of many layers takes a copy of the host's mounts, which is left all the same."""
    base = root.parent
    for name in ("lower/dir", "upper", "work", "rootfs", "lower/proc"):
        (base / name).mkdir(parents=True)

    def work(_: ChildContext) -> Any:
        ctx = ChildContext({"mounts": empty_mount_namespace()})
        with too_many_layers() if kernel != "this" else contextlib.nullcontext():
            MountRoot(layers=(str(base / "lower"),), directory=str(base)).execute(ctx)
        EnterMounts().execute(ctx)
        before = Path("/proc/self/mountinfo").read_text().splitlines()
        KERNEL_MOUNTS[0].execute(ctx)
        with mock.patch.object(process, "close_all_but"):  # the answer goes through a pipe
            PivotRoot().execute(ctx)
        after = Path("/proc/self/mountinfo").read_text().splitlines()
        places = [[line.split()[4] for line in lines] for lines in (before, after)]
        return {"before": places[0], "after": places[1], "root": sorted(os.listdir("/"))}

    found = in_own_mounts(root, work)
    assert found["after"] == ["/", "/proc"]
    assert found["root"] == ["dir", "proc"]
    assert (sorted(found["before"]) == ["/", "/proc", "/root"]) == (kernel == "this"), found["before"]


@contextlib.contextmanager
def too_many_layers() -> Iterator[None]:
    with mock.patch.object(kmount, "detached_overlay", side_effect=OSError(errno.E2BIG, "too many")):
        yield


def test_the_empty_mount_namespace_can_neither_be_written_to_nor_seen_by_its_maker(root: Path) -> None:
    def work(_: ChildContext) -> Any:
        os.chdir(root)
        before = Path("/proc/self/mountinfo").read_text()
        fd = empty_mount_namespace()
        same = [os.getcwd() == str(root), Path("/proc/self/mountinfo").read_text() == before]
        process.setns(fd, process.CLONE_NEWNS)
        return {"same": same, "names": sorted(os.listdir("/")), "refused": refused(os.mkdir, "/new")}

    found = in_own_mounts(root, work)
    assert found["same"] == [True, True]
    assert found["names"] == ["proc", "root"]
    assert "Read-only file system" in found["refused"]
