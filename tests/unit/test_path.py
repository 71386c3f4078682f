"""Places made inside a root that an image has prepared: nothing is made outside of it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from minipod.kernel.path import make_in_root


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "root" / "etc").mkdir(parents=True)
    yield tmp_path / "root"
    assert os.listdir(tmp_path) == ["root"], "something was made outside of the root"


def make(root: Path, path: str, *, directory: bool = False) -> str:
    """Makes the place and says where it is, below the root."""
    root_fd = os.open(root, os.O_PATH)
    try:
        fd = make_in_root(root_fd, path, directory=directory)
        try:
            return os.readlink(f"/proc/self/fd/{fd}").removeprefix(str(root))
        finally:
            os.close(fd)
    finally:
        os.close(root_fd)


@pytest.mark.parametrize(
    ("target", "place"),
    [
        ("../run/systemd/resolve/stub-resolv.conf", "/run/systemd/resolve/stub-resolv.conf"),
        ("/run/resolv.conf", "/run/resolv.conf"),
        ("../../../../outside", "/outside"),
        ("/a/../../b", "/b"),
        ("other", "/etc/other"),
    ],
)
def test_a_link_to_what_is_not_there_is_made_good_inside_the_root(root: Path, target: str, place: str) -> None:
    (root / "etc" / "resolv.conf").symlink_to(target)
    assert make(root, "/etc/resolv.conf") == place
    assert (root / place.lstrip("/")).is_file()


def test_a_link_in_the_middle_of_a_path_is_followed_inside_the_root(root: Path) -> None:
    (root / "data").symlink_to("/../../volumes/data")
    assert make(root, "/data/deep/er", directory=True) == "/volumes/data/deep/er"


def test_links_that_lead_in_circles_are_refused(root: Path) -> None:
    (root / "a").symlink_to("b")
    (root / "b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links") as caught:
        make(root, "/a/x")
    assert caught.value.errno == errno.ELOOP


def test_a_chain_of_missing_links_has_an_end(root: Path) -> None:
    for number in range(50):
        (root / f"l{number}").symlink_to(f"l{number + 1}")
    with pytest.raises(OSError, match="symbolic links"):
        make(root, "/l0")


def test_what_is_there_must_be_of_the_wanted_kind(root: Path) -> None:
    with pytest.raises(IsADirectoryError):
        make(root, "/etc")
    (root / "file").touch()
    with pytest.raises(NotADirectoryError):
        make(root, "/file", directory=True)
