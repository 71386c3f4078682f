"""Operations on mounts, executed in a forked child with a mount namespace of its own; a race can be forced there.

`python -m tests.own_mounts COMMAND…`: unshare(1) with private mounts, also in a chroot.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn
from unittest import mock

from minipod.kernel import mount as kmount
from minipod.kernel import path as kpath
from minipod.kernel import process
from minipod.kernel.libc import NUMBERS, libc
from minipod.kernel.path import open_in_root
from minipod.plan.operation import ChildContext, ChildOperation
from minipod.plan.process.kernel_mounts import MountFilesystem
from minipod.plan.process.rootfs import BindMount, MakeDeviceNode, TakeDevice

AT_FDCWD = -100
RENAME_EXCHANGE = 2
KERNEL_MOUNTS = (
    MountFilesystem(fstype="proc", target="/proc", flags=("nosuid", "nodev", "noexec")),
    MountFilesystem(fstype="tmpfs", target="/dev", flags=("nosuid",), data="mode=755"),
    MountFilesystem(fstype="sysfs", target="/sys", flags=("ro", "nosuid", "nodev", "noexec")),
)


def in_own_mounts(root: Path, work: Callable[[ChildContext], Any]) -> Any:
    """What `work` returns (JSON) or raises (an AssertionError of it), with `root` as the root of a container to be."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        _child(root, work, writer)
    os.close(writer)
    with open(reader, encoding="utf-8") as stream:
        answer = json.loads(stream.read() or '{"error": "the child wrote nothing"}')
    os.waitpid(pid, 0)
    assert "error" not in answer, answer["error"]
    return answer["result"]


def _child(root: Path, work: Callable[[ChildContext], Any], writer: int) -> NoReturn:
    try:
        try:
            unshare_mounts()
            kmount.mount(str(root), str(root), None, kmount.MS_BIND)
            answer = {"result": work(ChildContext({"root": os.open(root, os.O_PATH)}))}
        except BaseException as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        os.write(writer, json.dumps(answer).encode())
    finally:
        os._exit(0)


def unshare_mounts() -> None:
    """unshare --mount --propagation private, also in a chroot, where `/` need not be a mount point."""
    process.unshare(process.NAMESPACE_FLAGS["mnt"])
    root_fd = os.open("/", os.O_PATH | os.O_DIRECTORY)
    process.enter_own_mount_namespace()
    kmount.mount(None, "/", None, kmount.MS_REC | kmount.MS_PRIVATE)
    process.change_root(root_fd)
    os.close(root_fd)


def mount_root(place: Path | str) -> None:
    """For a process to be: `/` as a mount point, for programs that remount it, also in a chroot."""
    unshare_mounts()
    kmount.mount("/", str(place), None, kmount.MS_BIND | kmount.MS_REC)
    os.chroot(place)
    os.chdir("/")


def mounts_at(path: Path | str) -> list[str]:
    """Lines of mountinfo whose mount point is `path` or below it."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if f"{line.split()[4]}/".startswith(f"{str(path).rstrip('/')}/")]


def options_at(path: Path | str) -> set[str]:
    """Of the uppermost mount there."""
    lines = [line for line in mounts_at(path) if line.split()[4] == str(path)]
    assert lines, f"nothing is mounted at {path}"
    return set(lines[-1].split()[5].split(","))


def exchange(first: Path, second: Path) -> None:
    if libc.renameat2(AT_FDCWD, bytes(first), AT_FDCWD, bytes(second), RENAME_EXCHANGE) != 0:
        raise OSError(ctypes.get_errno(), "renameat2")


@contextlib.contextmanager
def swapping(before: int, swap: Callable[[], None]) -> Iterator[list[int]]:
    """Swaps once, right before the call of this number among all that look a path up, make something or mount.

    Gives [how many calls there were]: where that is not more than `before`, nothing was swapped.
    """
    calls = [0]

    def raced(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **keywords: Any) -> Any:
            if calls[0] == before:
                swap()
            calls[0] += 1
            return function(*args, **keywords)

        return call

    names = [(kpath, "openat2"), (kmount, "open_tree"), (kmount, "move_mount")]
    names += [(os, name) for name in ("open", "mkdir", "mknod", "unlink", "symlink", "readlink")]
    with contextlib.ExitStack() as stack:
        for module, name in names:
            stack.enter_context(mock.patch.object(module, name, raced(getattr(module, name))))
        yield calls


def executed(operation: ChildOperation, ctx: ChildContext) -> None:
    """With what has to be taken of the host before it."""
    if isinstance(operation, BindMount):
        operation.take().execute(ctx)
    if isinstance(operation, MakeDeviceNode):
        TakeDevice(operation.device).execute(ctx)
    operation.execute(ctx)


def swapped_at_every_step(victim: Path, folder: Path, operation: ChildOperation, link: str) -> list[dict[str, Any]]:
    """What came of `operation` on /v/m/…, where /v/m is exchanged for the link before its n-th call, for every n.

    `outside`: what is mounted at the victim afterwards. The operation finds `source` and `file` in `folder`.
    """
    (folder / "source").mkdir()
    (folder / "file").touch()
    outcomes: list[dict[str, Any]] = []
    for step in range(100):
        root = folder / f"root{step}"
        (root / "v" / "m").mkdir(parents=True)
        (root / "v" / "l").symlink_to(link)

        def work(ctx: ChildContext, root: Path = root, step: int = step) -> dict[str, Any]:
            for made in KERNEL_MOUNTS:
                made.execute(ctx)
            with swapping(step, lambda: exchange(root / "v/m", root / "v/l")) as calls:
                message = refused(executed, operation, ctx)
            return {"calls": calls[0], "said": message, "outside": mounts_at(victim)}

        outcome = in_own_mounts(root, work)
        if outcome["calls"] <= step:
            return outcomes
        outcomes.append(outcome)
    raise AssertionError("it never ended")


@contextlib.contextmanager
def before_5_12() -> Iterator[None]:
    """A kernel that lacks mount_setattr(2)."""
    number = NUMBERS["mount_setattr"]
    NUMBERS["mount_setattr"] = 1 << 20
    try:
        yield
    finally:
        NUMBERS["mount_setattr"] = number


def refused(work: Callable[..., object], *args: object) -> str:
    """What it was refused with; empty where it was not."""
    try:
        work(*args)
    except OSError as error:
        return str(error)
    return ""


def opened_for_writing(ctx: ChildContext, path: str) -> str:
    """Opens and closes, never writes; why not, empty where it can be."""
    return refused(lambda: os.close(open_in_root(ctx.fds["root"], path, os.O_WRONLY | os.O_NONBLOCK)))


if __name__ == "__main__":
    unshare_mounts()
    os.execvp(sys.argv[1], sys.argv[1:])
