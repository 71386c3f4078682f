"""What processes take, read of this one."""

from __future__ import annotations

import os
import resource
from types import SimpleNamespace

import psutil
import pytest

from minipod.cli import figures
from minipod.cli.verbs.status import rows


def test_the_figures_of_this_process() -> None:
    found = figures.figures_of([os.getpid()])
    usage = resource.getrusage(resource.RUSAGE_SELF)
    assert found["processes"] == 1
    assert 1 << 20 < found["memory_bytes"] <= usage.ru_maxrss << 10
    assert 0 < found["cpu_s"] <= usage.ru_utime + usage.ru_stime + 1
    assert found["threads"] >= 1
    assert found["descriptors"] >= 3


def test_what_has_ended_counts_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(pid: int) -> psutil.Process:
        raise psutil.NoSuchProcess(pid)

    monkeypatch.setattr(psutil, "Process", gone)
    assert figures.figures_of([1, 2])["processes"] == 0
    assert figures.pods([1]) == {}


@pytest.mark.parametrize(
    ("text", "uid"),
    [
        ("0::/minipod/kubepods/besteffort/pod{}/c1\n", True),
        ("9:pids:/mp123456/kubepods/pod{}\n8:cpu:/mp123456/kubepods/pod{}\n", True),
        ("0::/user.slice\n", False),
        ("0::/x/podium/podcast\n", False),
    ],
)
def test_a_process_is_of_the_pod_that_its_group_is_named_after(
    monkeypatch: pytest.MonkeyPatch, text: str, uid: bool
) -> None:
    wanted = "0a1b2c3d-0000-4000-8000-0123456789ab"
    assert [match[1] for match in figures._POD.finditer(text.format(wanted, wanted))][:1] == [wanted] * uid


def test_the_table_has_agent_spawners_and_pods_by_name() -> None:
    taken = {"processes": 2, "memory_bytes": 3 << 19, "cpu_s": 0.125, "threads": 3, "descriptors": 9}
    pods = [{"namespace": "b", "name": "a", **taken}, {"namespace": "a", "name": "z", **taken}]
    found = {"agent": {"pid": 7, **taken}, "spawners": [{"pid": 8, **taken}], "pods": pods}
    cells = ["2", "1.5Mi", "0.12s", "3", "9"]
    assert rows(found) == [
        ["agent", "7", *cells],
        ["spawner", "8", *cells],
        ["pod a/z", "", *cells],
        ["pod b/a", "", *cells],
    ]


def test_a_spawner_is_known_by_its_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def process(pid: int, name: str, *command: str) -> SimpleNamespace:
        return SimpleNamespace(pid=pid, name=lambda: name, cmdline=lambda: list(command))

    ours = "from minipod.runtime.spawner import group, program; program.main(8, '/run/minipod/exits'); group.leave()"
    others = ours.replace("exits", "exits2")
    table = [
        process(9, "minipod-spawner", "python", "-c", ours),
        process(4, "minipod-spawner", "python", "-c", ours),
        process(5, "minipod-spawner", "python", "-c", others),
        process(6, "python", "python", "-c", ours),
    ]
    monkeypatch.setattr(psutil, "process_iter", lambda: iter(table))
    assert figures.spawners("/run/minipod/exits") == [4, 9]
