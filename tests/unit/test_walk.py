"""Walking trees by descriptors: what is counted, what changes hands, what is never entered."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from minipod.kernel.ownership import give_to_group
from minipod.kernel.usage import usage_bytes
from minipod.kernel.walk import opened_folder, walk


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "large").write_bytes(b"x" * 1_000_000)
    top = tmp_path / "top"
    (top / "a" / "b").mkdir(parents=True)
    (top / "a" / "b" / "file").write_bytes(b"x" * 100_000)
    (top / "again").hardlink_to(top / "a" / "b" / "file")
    (top / "link").symlink_to(tmp_path / "outside")
    return top


def test_links_are_seen_and_not_followed(tree: Path) -> None:
    seen: list[str] = []

    def visit(_: int, name: str) -> bool:
        seen.append(name)
        return True  # even where it is asked for

    with opened_folder(str(tree)) as top_fd:
        walk(top_fd, visit)
    assert sorted(seen) == ["a", "again", "b", "file", "link"]


def test_a_file_with_several_names_is_counted_once(tree: Path) -> None:
    assert 100_000 <= usage_bytes(str(tree)) < 200_000


def test_bits_for_the_group_are_added_and_nothing_outside_is_touched(tree: Path) -> None:
    outside = tree.parent / "outside"
    before = outside.stat().st_mode
    give_to_group(str(tree), os.getgid(), file_bits=0o060, folder_bits=0o2070)
    assert [os.stat(tree / name).st_mode & 0o2070 for name in ("", "a", "a/b")] == [0o2070] * 3
    assert (tree / "again").stat().st_mode & 0o070 == 0o060
    assert outside.stat().st_mode == before
