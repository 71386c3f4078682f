"""Pods' network namespaces among those of others (node, root)."""

from __future__ import annotations

import threading
from pathlib import Path

from minipod.plan.process.namespaces import CreateNamespaces


def mounts_at(path: str) -> list[str]:
    """The parent mounts of what is mounted there."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [fields[1] for fields in map(str.split, lines) if fields[4] == path]


def test_namespaces_that_come_while_others_go_are_pinned_in_the_shared_folder(tmp_path: Path) -> None:
    folder = tmp_path / "netns"
    failures: list[BaseException] = []

    def come_and_go(name: str) -> None:
        try:
            made = CreateNamespaces(pins={"net": f"{folder}/{name}"})
            for _ in range(40):
                made.execute()
                shared = [line.split()[0] for line in Path("/proc/self/mountinfo").read_text().splitlines()
                          if line.split()[4] == str(folder)]  # fmt: skip
                assert mounts_at(f"{folder}/{name}") == shared
                made.undo()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=come_and_go, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert mounts_at(str(folder)) == []
