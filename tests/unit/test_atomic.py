"""The atomic writer on a folder: what a reader sees, what is left, what a failure leaves as it was."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from minipod.errors import VolumeError
from minipod.plan.volumes.configuration import File
from minipod.runtime import atomic


def files(mode: int = 0o644, **data: str) -> dict[str, File]:
    return {name.replace("__", "/"): File(text.encode(), mode) for name, text in data.items()}


def shown(folder: Path) -> dict[str, str]:
    """What a container sees: names that do not begin with two dots."""
    found = {}
    for top in sorted(folder.iterdir()):
        if not top.name.startswith(".."):
            paths = [top] if top.is_file() else [path for path in top.rglob("*") if path.is_file()]
            found.update({str(path.relative_to(folder)): path.read_text() for path in paths})
    return found


def test_files_are_links_through_data(tmp_path: Path) -> None:
    assert atomic.write(str(tmp_path), files(a="1", sub__b="2"))
    assert os.readlink(tmp_path / "a") == "..data/a"
    assert os.readlink(tmp_path / "sub") == "..data/sub"
    assert shown(tmp_path) == {"a": "1", "sub/b": "2"}
    assert stat.S_IMODE(os.stat(tmp_path / "a").st_mode) == 0o644


def test_what_is_the_same_is_not_written_again(tmp_path: Path) -> None:
    atomic.write(str(tmp_path), files(a="1"))
    before = os.readlink(tmp_path / "..data")
    assert not atomic.write(str(tmp_path), files(a="1"))
    assert os.readlink(tmp_path / "..data") == before


def test_a_removed_key_vanishes_and_the_old_folder_too(tmp_path: Path) -> None:
    atomic.write(str(tmp_path), files(a="1", b="2", c__d="3"))
    atomic.write(str(tmp_path), files(a="1", e__f="4"))
    assert shown(tmp_path) == {"a": "1", "e/f": "4"}
    assert len([name for name in os.listdir(tmp_path) if name.startswith("..2")]) == 1


def test_modes_and_the_group_are_those_that_are_wanted(tmp_path: Path) -> None:
    atomic.write(str(tmp_path), files(0o400, a="1", sub__b="2"), gid=os.getgid())
    assert stat.S_IMODE(os.stat(tmp_path / "a").st_mode) == 0o440
    assert stat.S_IMODE(os.stat(tmp_path / "sub").st_mode) == 0o2755


def test_an_empty_volume_is_a_folder_with_nothing_to_see(tmp_path: Path) -> None:
    atomic.write(str(tmp_path), {})
    assert shown(tmp_path) == {}
    assert os.path.isdir(tmp_path / "..data")


def test_a_full_disk_leaves_the_old_files_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    atomic.write(str(tmp_path), files(a="1", b="2"))
    before = sorted(os.listdir(tmp_path))
    real, calls = os.fchmod, 0

    def full(fd: int, mode: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:  # in the middle of the second file
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(fd, mode)

    monkeypatch.setattr(os, "fchmod", full)
    with pytest.raises(OSError, match="No space"):
        atomic.write(str(tmp_path), files(a="10", b="20"))
    assert shown(tmp_path) == {"a": "1", "b": "2"}
    assert sorted(os.listdir(tmp_path)) == before


def test_what_a_killed_writer_left_is_taken_away(tmp_path: Path) -> None:
    atomic.write(str(tmp_path), files(a="1"))
    (tmp_path / "..2020_01_01_00_00_00.1").mkdir()
    os.symlink("..2020_01_01_00_00_00.1", tmp_path / "..data_tmp")
    atomic.write(str(tmp_path), files(a="2"))
    assert shown(tmp_path) == {"a": "2"}
    assert len(os.listdir(tmp_path)) == 3


@pytest.mark.attack(row=15)
def test_a_data_link_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    os.symlink("/etc", tmp_path / "..data")
    with pytest.raises(VolumeError, match="does not lead"):
        atomic.write(str(tmp_path), files(a="1"))


def test_a_link_in_the_place_of_the_volume_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    os.symlink("elsewhere", tmp_path / "volume")
    with pytest.raises(NotADirectoryError):
        atomic.write(str(tmp_path / "volume"), files(a="1"))
    assert os.listdir(tmp_path / "elsewhere") == []
