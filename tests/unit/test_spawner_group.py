"""The spawner of a service has a control group of its own (unit)."""

from __future__ import annotations

import builtins
import io
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from minipod.kernel import cgroup
from minipod.kernel.cgroup import Hierarchy
from minipod.runtime.spawner import group

V2 = "0::/system.slice/minipod.service\n"


@pytest.mark.parametrize(
    ("lines", "then"),
    [
        (V2, True),
        ("7:cpu,cpuacct:/\n1:name=systemd:/system.slice/minipod.service\n", True),
        ("0::/user.slice/user-0.slice/user@0.service/app.slice/run.scope\n", True),
        ("0::/user.slice/user-1000.slice/session-3.scope\n", False),
        ("0::/\n", False),
        ("0::/system.slice/service/x\n", False),
    ],
)
def test_a_service_is_known_by_its_group(lines: str, then: bool) -> None:
    assert group.is_service(lines) == then


class Host:
    """A control group file system in a directory, and what this process reads of itself."""

    def __init__(self, folder: Path, own: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.mount = folder
        self.own = own
        self.written: list[tuple[str, str]] = []
        real = builtins.open
        monkeypatch.setattr(builtins, "open", lambda path, *a, **k: self._open(real, path, *a, **k))
        monkeypatch.setattr(cgroup, "make", lambda h, path: os.makedirs(h.mount + path, exist_ok=True))
        monkeypatch.setattr(cgroup, "write", self._write)
        monkeypatch.setattr(cgroup, "find_mounts", lambda: {"": str(folder)})
        monkeypatch.setattr(group, "_processes", lambda exits: [7, 9])

    def _open(self, real: Any, path: Any, *args: Any, **keywords: Any) -> Any:
        return io.StringIO(self.own) if path == "/proc/self/cgroup" else real(path, *args, **keywords)

    def _write(self, directory: str, name: str, value: str) -> None:
        self.written.append((f"{directory.removeprefix(str(self.mount))}/{name}", value))


def test_a_service_moves_its_spawners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(tmp_path, V2, monkeypatch)
    group.separate("/run/minipod/exits", "/minipod", (Hierarchy(str(tmp_path), 2),))
    assert host.written == [("/minipod/spawner/cgroup.procs", "7"), ("/minipod/spawner/cgroup.procs", "9")]


def test_the_answerer_is_known_by_its_command_line(tmp_path: Path) -> None:
    words = ["minipod.names.program", repr(f"{tmp_path}/names")]
    program = ["sh", "-c", "echo; read line", *words]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()  # just after execve(2) the kernel shows no words yet
        assert group._processes(f"{tmp_path}/exits") == [process.pid]
        assert group._processes(f"{tmp_path}/other/exits") == []


def test_elsewhere_they_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(tmp_path, "0::/\n", monkeypatch)
    group.separate("/run/minipod/exits", "/minipod", (Hierarchy(str(tmp_path), 2),))
    assert not host.written
    assert not (tmp_path / "minipod").exists()


@pytest.mark.parametrize("others", [(), ("kubepods",)])
def test_a_spawner_that_ends_removes_its_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, others: tuple[str, ...]
) -> None:
    host = Host(tmp_path, "0::/minipod/spawner\n", monkeypatch)
    (tmp_path / "minipod/spawner").mkdir(parents=True)
    for name in others:
        (tmp_path / "minipod" / name).mkdir()
    group.leave()
    assert host.written == [("/cgroup.procs", "0")]
    assert sorted(path.name for path in tmp_path.rglob("*")) == (["kubepods", "minipod"] if others else [])


def test_a_spawner_without_a_group_of_its_own_removes_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(tmp_path, V2, monkeypatch)
    (tmp_path / "minipod").mkdir()
    group.leave()
    assert not host.written
    assert (tmp_path / "minipod").exists()
