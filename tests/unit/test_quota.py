"""Projects for folders with a limit: which one is taken, and when; the kernel's part is played by a table."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from minipod.kernel import quota
from minipod.plan.volumes.quota import FIRST_PROJECT, LAST_PROJECT, LimitFolder


class FileSystem:
    """Projects of folders and limits of projects, as ext4 keeps them. `race`: a rival takes the same project once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, enforces: bool = True) -> None:
        self.projects: dict[int, int] = {}
        self.limits: dict[int, int] = {}
        self.files: dict[int, int] = {}
        self.race = False
        monkeypatch.setattr(quota, "enforces_projects", lambda fd: enforces)
        monkeypatch.setattr(quota, "project_of", lambda fd: self.projects.get(os.fstat(fd).st_ino, 0))
        monkeypatch.setattr(quota, "project_inodes", lambda fd, project: self.files.get(project, 0))
        monkeypatch.setattr(quota, "limit_project", lambda fd, project, limit: self.limits.update({project: limit}))
        monkeypatch.setattr(quota, "set_project", self._set)

    def _set(self, fd: int, project: int) -> None:
        inode = os.fstat(fd).st_ino
        if inode in self.projects:
            self.files[self.projects[inode]] -= 1
        self.projects[inode] = project
        self.files[project] = self.files.get(project, 0) + 1 + self.race
        self.race = False


def folder(tmp_path: Path, name: str = "v") -> tuple[str, int]:
    made = tmp_path / name
    made.mkdir()
    return str(made), made.stat().st_ino


def test_each_folder_has_a_project_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = FileSystem(monkeypatch)
    (one, first), (two, second) = folder(tmp_path, "one"), folder(tmp_path, "two")
    for _ in range(2):  # again, after a reboot
        LimitFolder(one, 10).execute()
        LimitFolder(two, 20).execute()
    assert disk.projects == {first: FIRST_PROJECT, second: FIRST_PROJECT + 1}
    assert disk.limits == {FIRST_PROJECT: 10, FIRST_PROJECT + 1: 20}


def test_a_project_that_another_has_taken_is_left_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = FileSystem(monkeypatch)
    disk.race = True
    path, inode = folder(tmp_path)
    LimitFolder(path, 10).execute()
    assert disk.projects == {inode: FIRST_PROJECT + 1}
    assert disk.limits == {FIRST_PROJECT + 1: 10}


def test_undoing_lifts_the_limit_and_leaves_other_peoples_projects_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = FileSystem(monkeypatch)
    path, inode = folder(tmp_path)
    LimitFolder(path, 10).execute()
    LimitFolder(path, 10).undo()
    assert disk.limits == {FIRST_PROJECT: 0}
    disk.projects[inode] = 7
    LimitFolder(path, 10).undo()
    LimitFolder(f"{path}/missing", 10).undo()
    assert disk.limits == {FIRST_PROJECT: 0}


def test_without_project_quota_nothing_is_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = FileSystem(monkeypatch, enforces=False)
    path, _ = folder(tmp_path)
    LimitFolder(path, 10).execute()
    LimitFolder(path, 10).undo()
    assert not disk.projects
    assert not disk.limits


def test_the_range_is_far_from_what_others_use() -> None:
    assert 1048577 < FIRST_PROJECT < LAST_PROJECT < 1 << 31


def test_this_file_systems_word_on_quota_is_taken_without_an_error(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        assert quota.enforces_projects(fd) in (True, False)
    finally:
        os.close(fd)
