"""remove_tree needs no root: nothing outside the tree may ever be touched."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from minipod.kernel.remove import remove_tree


def test_a_tree_is_removed_with_everything_in_it(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "a" / "file").write_text("x")
    os.mkfifo(tree / "a" / "b" / "pipe")
    remove_tree(str(tree))
    assert list(tmp_path.iterdir()) == []


def test_a_missing_tree_is_not_an_error(tmp_path: Path) -> None:
    remove_tree(str(tmp_path / "none"))
    remove_tree(str(tmp_path / "none" / "none"))


@pytest.mark.attack(row=15)
def test_links_are_removed_and_never_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "folder").symlink_to(outside)
    (tree / "file").symlink_to(outside / "precious")
    remove_tree(str(tree))
    assert (outside / "precious").read_text() == "x"
    assert not tree.exists()


@pytest.mark.attack(row=15)
def test_a_link_in_place_of_the_tree_is_removed_alone(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    link = tmp_path / "tree"
    link.symlink_to(outside)
    remove_tree(str(link))
    assert not link.is_symlink()
    assert (outside / "precious").exists()


def test_folders_nested_deeper_than_a_path_may_be_long_are_removed(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    fd = os.open(tree, os.O_RDONLY)
    for _ in range(700):  # 4,900 bytes; PATH_MAX is 4,096
        os.mkdir("deeper", dir_fd=fd)
        below = os.open("deeper", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)
    remove_tree(str(tree))
    assert not tree.exists()


def test_names_of_its_own_temporary_folders_do_not_confuse_it(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    deep = tree.joinpath(*["d"] * 70)
    deep.mkdir(parents=True)
    (tree / ".removing-0").mkdir()
    (tree / ".removing-0" / "x").write_text("")
    (tree / ".removing-1").write_text("")
    remove_tree(str(tree))
    assert not tree.exists()


def test_a_folder_whose_name_is_no_utf_8_is_removed_like_others(tmp_path: Path) -> None:
    """A container could make its pod impossible to delete."""
    name = os.fsencode(tmp_path) + b"/tree/\xff"
    os.makedirs(name)
    open(name + b"/\xfe", "w").close()
    remove_tree(str(tmp_path / "tree"))
    assert os.listdir(tmp_path) == []
