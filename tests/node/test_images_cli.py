"""`minipod image`: what it prints and how it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.another_user import minipod_as_nobody
from tests.conftest import CHECKOUT
from tests.layouts import archive, entry, make_layout

Image = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def image(tmp_path: Path) -> Image:
    """`minipod image ARGS` with an empty store."""

    def run(*args: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "minipod", "--data-dir", str(tmp_path / "state"), "image", *map(str, args)]
        return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)

    return run


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    return make_layout(tmp_path / "layout", archive([entry("f", b"x")]), name="quay.io/me/app:v1")


def test_a_loaded_image_is_listed_inspected_and_removed(image: Image, layout: Path) -> None:
    loaded = image("load", layout)
    assert loaded.returncode == 0, loaded.stderr
    short = loaded.stdout.split("(")[1][:12]
    assert loaded.stdout == f"loaded quay.io/me/app:v1 ({short})\n"
    lines = image("ls").stdout.splitlines()
    assert [line.split()[:3] for line in lines] == [["IMAGE", "TAG", "IMAGE"], ["quay.io/me/app", "v1", short]]
    assert image("ls", "-o", "name").stdout == "quay.io/me/app:v1\n"
    assert json.loads(image("ls", "-o", "json").stdout)[0]["reference"] == "quay.io/me/app:v1"
    assert json.loads(image("inspect", short).stdout)[0]["id"].startswith(f"sha256:{short}")
    assert image("rm", "quay.io/me/app:v1").stdout == "removed quay.io/me/app:v1\n"
    assert image("ls", "-o", "json").stdout == "[]\n"


def test_an_image_gets_the_name_one_asks_for(image: Image, layout: Path) -> None:
    for given in ([layout], ["-i", layout]):
        assert image("load", *given, "--name", "app").stdout.startswith("loaded docker.io/library/app:latest (")


def test_the_default_image_is_built(image: Image) -> None:
    assert image("load", "--default").stdout.startswith("loaded docker.io/library/busybox:latest (")


@pytest.mark.parametrize(
    ("args", "status", "words"),
    [
        (("rm", "nothing"), 1, "image 'nothing' not found; minipod image ls shows what there is"),
        (("inspect", "nothing"), 1, "image 'nothing' not found"),
        (("load",), 2, "give either a path or --default"),
        (("load", "/nowhere"), 3, "/nowhere: no such directory"),
        (("inspect", "UPPER"), 3, "must be lowercase"),
    ],
)
def test_what_goes_wrong_is_one_line_and_an_exit_status(
    image: Image, args: tuple[str, ...], status: int, words: str
) -> None:
    done = image(*args)
    assert (done.returncode, done.stdout) == (status, "")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_user_without_rights_is_asked_to_be_root(tmp_path: Path, image: Image, layout: Path) -> None:
    image("load", layout)
    for folder in (tmp_path, *tmp_path.parents):
        if folder != Path("/tmp") and folder.is_relative_to("/tmp"):
            os.chmod(folder, 0o755)
    done = minipod_as_nobody("--data-dir", tmp_path / "state", "image", "ls")
    assert (done.returncode, done.stderr.endswith("permission denied; run as root\n")) == (3, True), done.stderr
