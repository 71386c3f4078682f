"""Creates and deletes pods for a long time: what agent and spawner take, and what is on the host, must not grow."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, fields

import psutil

from tests import builders, leaks
from tests.builders import container, empty_dir, mount
from tests.faults import ledger
from tests.faults.instance import Instance
from tests.faults.ledger import Finding
from tests.faults.storms import HANG_S

BATCH = 20  # pods at the same time
WARM_UP = 5  # batches until caches, threads and the heap have the size that they keep
#: what may differ between the first batch after the warm-up and the last one, of a run of any length
#: (the database keeps the events of an hour, bounded in number and bytes, and its write-ahead log between checkpoints)
ALLOWED = {"agent_kib": 6144, "spawner_kib": 1024, "threads": 4, "disk_kib": 256, "database_kib": 48 << 10}
DATABASE = "minipod.db"


@dataclass(frozen=True, slots=True)
class Figures:
    """After a batch, when all its pods are deleted."""

    agent_kib: int
    spawner_kib: int
    descriptors: int
    threads: int
    disk_kib: int
    database_kib: int
    left: int  # netns, links, cgroups, mounts, tables, files of pods

    def __str__(self) -> str:
        return ", ".join(f"{field.name} {getattr(self, field.name)}" for field in fields(self))


def soak(instance: Instance, pods: int, show: Callable[[str], None] = print) -> list[Finding]:
    """So many pods, BATCH at a time; `show` gets a line now and then."""
    path = instance.base / "batch.yaml"
    path.write_text(builders.manifest(*(_pod(number) for number in range(BATCH))))
    taken: list[Figures] = []
    batches = max(WARM_UP + 2, pods // BATCH)
    for number in range(batches):
        instance("run", "-d", "--until", "succeeded", path, timeout_s=HANG_S)
        instance("delete", "pods", "--all", timeout_s=HANG_S)
        taken.append(figures(instance))
        if number % max(1, batches // 20) == 0 or number == batches - 1:
            show(f"{(number + 1) * BATCH:>7} pods: {taken[-1]}")
    return compare(taken[WARM_UP], taken[-1])


def _pod(number: int) -> builders.Object:
    main = container("main", f"echo {number} | tee /d/n", volumeMounts=[mount("d", "/d")])
    return builders.pod(f"soak-{number}", main, init=[container("first", "true")], volumes=[empty_dir("d")])


def figures(instance: Instance) -> Figures:
    agent, spawner = (psutil.Process(instance.processes(name)[0]) for name in ("agent", "spawner"))
    return Figures(
        agent.memory_info().rss >> 10,
        spawner.memory_info().rss >> 10,
        agent.num_fds() + spawner.num_fds(),
        agent.num_threads() + spawner.num_threads(),
        _kib(instance, lambda name: not name.startswith(DATABASE)),
        _kib(instance, lambda name: name.startswith(DATABASE)),
        len(leaks.wait_until_gone(instance.left)),
    )


def _kib(instance: Instance, counts: Callable[[str], bool]) -> int:
    """On disk, of the files in root and state whose names count; the image store is a link."""
    found = 0
    for folder in (instance.paths.root, instance.paths.state):
        for top, _, names in os.walk(folder):
            found += sum(os.lstat(os.path.join(top, name)).st_blocks for name in names if counts(name)) // 2
    return found


def compare(before: Figures, after: Figures) -> list[Finding]:
    """What has grown by more than it may."""
    found = []
    for field in fields(Figures):
        grown = getattr(after, field.name) - getattr(before, field.name)
        if grown > ALLOWED.get(field.name, 0):
            text = f"{field.name} grew by {grown}: {before} → {after}"
            found.append(Finding(ledger.LEAK, "soak", text))
    return found
