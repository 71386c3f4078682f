"""A volume's sub path: made inside the volume, refused outside, also while a container exchanges folders for links."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from pathlib import Path

import pytest

from minipod.errors import ContainerError
from minipod.plan.sub_path import MakeSubPath, open_source


def make(volume: Path, sub_path: str, *, image: bool = False) -> None:
    MakeSubPath(volume="v", container="c", source=str(volume), sub_path=sub_path, image=image).execute()


def test_a_missing_sub_path_is_made_with_the_volumes_own_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o2777)
    make(tmp_path, "a/./b//c")
    for path in ("a", "a/b", "a/b/c"):
        assert (tmp_path / path).stat().st_mode & 0o7777 == 0o2777


def test_links_inside_the_volume_are_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    os.symlink("real", tmp_path / "link")
    make(tmp_path, "link/new")
    assert (tmp_path / "real" / "new").is_dir()


@pytest.mark.parametrize(
    ("target", "why"), [("/etc", "it leads out of the volume"), ("../..", "it leads out of the volume"),
                        ("nowhere", "a link there leads nowhere"), ("loop", "it leads out of the volume")]
)  # fmt: skip
@pytest.mark.parametrize("sub_path", ["loop", "loop/below"])
def test_a_link_that_leads_out_is_refused_in_the_kubelets_words(
    tmp_path: Path, target: str, why: str, sub_path: str
) -> None:
    os.symlink(target, tmp_path / "loop")
    before = os.listdir(tmp_path)
    with pytest.raises(ContainerError, match=r'subPath( directory)? for volumeMount "v" of container "c": ') as caught:
        make(tmp_path, sub_path)
    assert why in str(caught.value)
    assert caught.value.reason == "CreateContainerConfigError"
    assert os.listdir(tmp_path) == before


def test_a_file_in_the_way_and_a_path_that_an_image_lacks_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ContainerError, match="not a directory"):
        make(tmp_path, "file/below")
    with pytest.raises(ContainerError, match="no such file") as caught:
        make(tmp_path, "missing", image=True)
    assert caught.value.reason == "CreateContainerError"
    assert os.listdir(tmp_path) == ["file"]


def test_a_sub_path_that_is_swapped_for_a_link_never_leads_outside(tmp_path: Path) -> None:
    """CVE-2017-1002101, CVE-2021-25741: a container exchanges the folder for a link while it is being looked up."""
    outside, volume = tmp_path / "outside", tmp_path / "volume"
    outside.mkdir()
    (volume / "real").mkdir(parents=True)
    os.symlink(outside, volume / "link")
    os.symlink("../outside", volume / "up")
    secret = os.stat(outside).st_ino
    done = threading.Event()

    def swap() -> None:
        names = itertools.cycle(("real", "link", "up"))
        while not done.is_set():
            name = next(names)
            try:
                os.rename(volume / name, volume / "sub")
                os.rename(volume / "sub", volume / name)
            except OSError:
                continue

    attacker = threading.Thread(target=swap)
    attacker.start()
    try:
        opened = 0
        for number in range(3000):
            try:
                path = "sub" if number % 2 else "sub/below"
                make(volume, path)
                fd = open_source(str(volume), path)
            except (OSError, ContainerError):
                continue
            opened += 1
            found = os.fstat(fd)
            assert found.st_ino != secret
            assert os.readlink(f"/proc/self/fd/{fd}").startswith(str(volume))
            os.close(fd)
            for made in (volume / "sub" / "below", volume / "sub"):
                with contextlib.suppress(OSError):
                    os.rmdir(made)
    finally:
        done.set()
        attacker.join()
    assert opened
    assert os.listdir(outside) == []
