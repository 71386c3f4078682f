"""What a host may run out of, for a while: disk, inodes, descriptors, memory, threads, an answering file system.

Each is a context manager for an instance. What it takes is given back at its end, also where it failed half-way.
"""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from tests import leaks
from tests.faults.instance import Instance
from tests.hung_mount import hung_mount

HUNG = "hung"  # the folder below an instance's base that hangs while the pressure of that name lasts
PIDS = Path("/sys/fs/cgroup/pids")
_FREE_DESCRIPTORS = 2
_FREE_MEMORY_BYTES = 256 << 10


@contextmanager
def no_room(folder: str) -> Iterator[None]:
    """The file system of an instance's folder (a small one: `Instance.small`) is full."""
    ballast = Path(folder, "ballast")
    try:
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            for size in (1 << 20, 4096, 1):
                with contextlib.suppress(OSError):
                    while file.write(bytes(size)) == size:
                        pass
        yield
    finally:
        ballast.unlink(missing_ok=True)


@contextmanager
def no_inodes(folder: str) -> Iterator[None]:
    """The file system of an instance's folder has no inode left."""
    ballast = Path(folder, "ballast")
    ballast.mkdir()
    made = 0
    try:
        with contextlib.suppress(OSError):
            while True:
                os.close(os.open(ballast / str(made), os.O_CREAT | os.O_WRONLY))
                made += 1
        yield
    finally:
        for number in range(made):
            (ballast / str(number)).unlink()
        ballast.rmdir()


@contextmanager
def no_descriptors(instance: Instance, name: str) -> Iterator[None]:
    """Agent or spawner may open a few descriptors more than they have."""

    def used(pid: int) -> int:
        return max(map(int, os.listdir(f"/proc/{pid}/fd"))) + 1 + _FREE_DESCRIPTORS

    with _limited(instance, name, resource.RLIMIT_NOFILE, used):
        yield


@contextmanager
def no_memory(instance: Instance) -> Iterator[None]:
    """The agent's address space may hardly grow."""

    def used(pid: int) -> int:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
        return pages * resource.getpagesize() + _FREE_MEMORY_BYTES

    with _limited(instance, "agent", resource.RLIMIT_AS, used):
        yield


@contextmanager
def _limited(instance: Instance, name: str, limit: int, soft: Callable[[int], int]) -> Iterator[None]:
    former: dict[int, tuple[int, int]] = {}
    try:
        for pid in instance.processes(name):
            with contextlib.suppress(ProcessLookupError, FileNotFoundError):
                before = resource.prlimit(pid, limit)
                resource.prlimit(pid, limit, (soft(pid), before[1]))
                former[pid] = before
        yield
    finally:
        for pid, before in former.items():
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(pid, limit, before)


@contextmanager
def no_threads(instance: Instance) -> Iterator[None]:
    """Agent and spawner are in a cgroup that allows no process and no thread more than there are (cgroup v1)."""
    home: dict[int, Path] = {}
    group = PIDS / f"{instance.paths.instance}-full"
    pids = [pid for name in ("agent", "spawner") for pid in instance.processes(name)]
    group.mkdir()
    try:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, FileNotFoundError):
                home[pid] = _pids_group(pid)
                (group / "cgroup.procs").write_text(str(pid))
        (group / "pids.max").write_text((group / "pids.current").read_text())
        yield
    finally:
        for word in (group / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                (home.get(int(word), PIDS) / "cgroup.procs").write_text(word)
        leaks.wait_until_gone(lambda: (group / "cgroup.procs").read_text().split())
        group.rmdir()


def _pids_group(pid: int) -> Path:
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    (path,) = (line.split(":", 2)[2] for line in lines if line.split(":", 2)[1] == "pids")
    return PIDS / path.lstrip("/")


@contextmanager
def hung(instance: Instance) -> Iterator[None]:
    """A file system that answers nothing; a doomed pod has a volume on it."""
    place = instance.base / HUNG
    place.mkdir(exist_ok=True)
    with hung_mount(str(place)):
        yield
    place.rmdir()


PRESSURES: dict[str, Callable[[Instance], AbstractContextManager[None]]] = {
    "full state": lambda instance: no_room(instance.paths.state),
    "full root": lambda instance: no_room(instance.paths.root),
    "no inodes in state": lambda instance: no_inodes(instance.paths.state),
    "no inodes in root": lambda instance: no_inodes(instance.paths.root),
    "no descriptors for the agent": lambda instance: no_descriptors(instance, "agent"),
    "no descriptors for the spawner": lambda instance: no_descriptors(instance, "spawner"),
    "no memory": no_memory,
    "hung file system": hung,
    **({"no threads": no_threads} if PIDS.is_dir() else {}),
}
