"""Sysctls are written in their order, and each folder is looked up once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from minipod.kernel import mount, sysctl


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("net/ipv4/a", "net/ipv4/b", "net/ipv6/a"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("?")
    monkeypatch.setattr(sysctl, "SYSCTLS", str(tmp_path))
    return tmp_path


def test_a_folder_is_looked_up_once_for_all_that_are_in_it(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    original = os.open

    def spy(path: str, flags: int, **keywords: Any) -> int:
        opened.append(path)
        return original(path, flags, **keywords)

    monkeypatch.setattr(os, "open", spy)
    sysctl.write({"net/ipv4/a": "1", "net/ipv4/b": "2", "net/ipv6/a": "3"})
    assert [(tree / name).read_text() for name in ("net/ipv4/a", "net/ipv4/b", "net/ipv6/a")] == ["1", "2", "3"]
    assert opened == [f"{tree}/net/ipv4", "a", "b", f"{tree}/net/ipv6", "a"]


@pytest.mark.parametrize(
    ("name", "shown"),
    [("net/ipv4/none", r"net\.ipv4\.none"), ("net/none/a", r"net\.none\.a"), ("net/e.5/a", "net/e.5/a")],
)
def test_what_cannot_be_written_is_named_and_what_came_before_it_is_written(tree: Path, name: str, shown: str) -> None:
    before = os.listdir("/proc/self/fd")
    with pytest.raises(FileNotFoundError, match=f"sysctl {shown}=2: No such file"):
        sysctl.write({"net/ipv4/a": "1", name: "2", "net/ipv4/b": "3"})
    assert [(tree / "net/ipv4" / last).read_text() for last in "ab"] == ["1", "?"]
    assert os.listdir("/proc/self/fd") == before


def test_what_a_kernel_lacks_may_be_passed_over(tree: Path) -> None:
    sysctl.write({"net/none/a": "1", "net/ipv4/none": "2", "net/ipv4/a": "3"}, missing_ok=True)
    assert (tree / "net/ipv4/a").read_text() == "3"


def test_where_no_procfs_can_be_mounted_the_hosts_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(fstype: str) -> int:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(mount, "new_mount", refuse)
    with pytest.raises(FileNotFoundError, match=r"sysctl net\.none\.a=1"):
        sysctl.write({"net/none/a": "1"})
