"""The atomic writer on a folder: what a reader sees, what is left, what a failure leaves as it was."""

from __future__ import annotations

import errno
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from minipod.errors import VolumeError
from minipod.plan.configuration import File
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


def test_a_reader_never_sees_half_of_an_update_in_a_thousand_swaps(tmp_path: Path) -> None:
    atomic.write(str(tmp_path), files(a="0", sub__b="0"))
    done = threading.Event()
    torn: list[Any] = []
    looks = 0

    def read() -> None:
        nonlocal looks
        while not done.is_set():
            try:
                fd = os.open(tmp_path / "..data", os.O_RDONLY | os.O_DIRECTORY)
            except FileNotFoundError:
                continue  # the folder that the link named is gone by now
            try:
                pair = []
                for name in ("a", "sub/b"):
                    file = os.open(name, os.O_RDONLY, dir_fd=fd)
                    pair.append(os.read(file, 100))
                    os.close(file)
            except FileNotFoundError:
                continue  # replaced and removed meanwhile: seen as a whole or not at all
            finally:
                os.close(fd)
            looks += 1
            if pair[0] != pair[1]:
                torn.append(pair)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(1, 1001):
            atomic.write(str(tmp_path), files(a=str(number), sub__b=str(number)))
    finally:
        done.set()
        reader.join()
    assert torn == []
    assert looks > 100
    assert shown(tmp_path) == {"a": "1000", "sub/b": "1000"}
