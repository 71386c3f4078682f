"""Walking trees that a container could write to: giving them to a group, measuring them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from minipod.kernel.ownership import give_to_group
from minipod.kernel.usage import usage_bytes


def test_a_tree_is_given_to_a_group_and_links_are_not_followed(tmp_path: Path) -> None:
    outside, tree = tmp_path / "outside", tmp_path / "tree"
    outside.write_text("x")
    outside.chmod(0o600)
    (tree / "sub").mkdir(parents=True)
    (tree / "sub" / "file").write_text("x")
    (tree / "sub" / "file").chmod(0o600)
    os.symlink(outside, tree / "sub" / "link")
    os.symlink("/", tree / "root")
    give_to_group(str(tree), os.getgid(), file_bits=0o660, folder_bits=0o2770)
    assert stat.S_IMODE((tree / "sub" / "file").stat().st_mode) == 0o660
    assert stat.S_IMODE((tree / "sub").stat().st_mode) & 0o2770 == 0o2770
    assert stat.S_IMODE(outside.stat().st_mode) == 0o600


def test_usage_counts_blocks_once_and_nothing_behind_links(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    empty = usage_bytes(str(tree))
    (tree / "sub" / "file").write_bytes(b"x" * 100_000)
    os.link(tree / "sub" / "file", tree / "again")
    (tmp_path / "outside").write_bytes(b"x" * 10_000_000)
    os.symlink(tmp_path / "outside", tree / "link")
    assert 100_000 <= usage_bytes(str(tree)) - empty < 200_000
