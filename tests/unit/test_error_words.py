"""Errors name object, operation, cause and remedy, and say nothing twice (unit)."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from minipod.lifecycle import model
from minipod.paths import Paths
from minipod.plan.process import identity
from tests.doubled import said_twice
from tests.unit.cli_fakes import minipod_command
from tests.unit.lifecycle_simulator import Simulator, make_pod


@pytest.mark.parametrize(
    "message", ["refused", 'failed to pull image "busybox": refused', 'failed to pull image "busybox:latest": refused']
)
def test_a_failed_pull_says_so_once(message: str) -> None:
    sim = Simulator(make_pod({"containers": [{"name": "c", "image": "busybox"}]}))
    sim.fail["c"] = model.ImageFailed(name="c", reason="ErrImagePull", message=message)
    sim.start().run(0.5)
    assert 'Failed to pull image "busybox": refused' in [event.message for _, event in sim.recorded]


def test_a_directory_that_may_not_be_searched_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def stat(path: str) -> os.stat_result:
        raise PermissionError(errno.EACCES, "permission denied", path)

    monkeypatch.setattr("os.access", lambda path, mode: path != "/usr/local")
    monkeypatch.setattr("os.path.isdir", lambda path: True)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    words = 'exec: "sh": permission denied: user 1000 may not search /usr/local: chmod it in the image, '
    words += "or set runAsUser"
    with monkeypatch.context() as patched:
        patched.setattr("os.stat", stat)
        with pytest.raises(PermissionError) as failure:
            identity._find_program("sh", "/usr/local/bin:/bin")
        assert failure.value.strerror == words
    error = PermissionError(errno.EACCES, "Permission denied")
    monkeypatch.setattr("os.path.isdir", lambda path: not path.endswith("sh"))
    assert identity._why_not("/usr/local/bin/sh", error) == words.removeprefix('exec: "sh": ')
    assert identity._why_not("/bin/sh", error) == "permission denied"


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["pull", "https://docker.io/x"], "image pull https://docker.io/x: the name of an image has no https://: "),
        (["load", "https://x.org/i.tar"], "image load https://x.org/i.tar: loads files: curl -fsSL https://x.org/"),
    ],
)
def test_addresses_are_not_taken_for_files_or_names(
    words: list[str], error: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert minipod_command(Paths(f"{tmp_path}/r", f"{tmp_path}/d"), "image", *words) == 2
    assert capsys.readouterr().err.startswith(f"error: {error}")


@pytest.mark.parametrize(
    ("line", "twice"),
    [
        ('error: pod "e": Failed to pull image "a:1": failed to pull image "a:1": refused', True),
        ("failed       c: cannot read the file /x: cannot read the file: no such file", True),
        ('error: pod "e": container "c": ErrImagePull: failed to pull image "a": refused', False),
        ("warning: no such file or directory: no such file or directory", False),
    ],
)
def test_what_node_tests_look_for_in_every_error(line: str, twice: bool) -> None:
    assert bool(said_twice(f"sandbox  1\n{line}\n")) is twice
