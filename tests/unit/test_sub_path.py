"""A volume's sub path: made inside the volume, refused where it leads outside."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from minipod.errors import ContainerError
from minipod.plan.volumes.sub_path import MakeSubPath


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
