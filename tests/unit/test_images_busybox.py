"""The default image: the same input gives the same digest, and what scripts expect is in it."""

from __future__ import annotations

import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from minipod.runtime.images import busybox


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("busybox")
    try:
        busybox.build(folder)
    except busybox.BuildError as error:
        pytest.skip(str(error))
    return folder


def blob(layout: Path, digest: str) -> Path:
    return layout / "blobs" / "sha256" / digest.removeprefix("sha256:")


def digest_of(layout: Path) -> str:
    return str(json.loads((layout / "index.json").read_bytes())["manifests"][0]["digest"])


def manifest_of(layout: Path) -> Any:
    return json.loads(blob(layout, digest_of(layout)).read_bytes())


@pytest.fixture(scope="module")
def members(layout: Path) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(blob(layout, manifest_of(layout)["layers"][0]["digest"])) as tar:
        return {member.name: member for member in tar}


def test_the_same_busybox_gives_the_same_digest(layout: Path, tmp_path: Path) -> None:
    assert busybox.build(tmp_path) == digest_of(layout)


def test_applets_are_in_bin(members: dict[str, tarfile.TarInfo]) -> None:
    applets = {f"bin/{name}" for name in (*busybox.NEEDED_APPLETS, "sleep", "cat", "id", "env", "kill")}
    links = {
        name for name, member in members.items() if (member.type, member.linkname) == (tarfile.LNKTYPE, "bin/busybox")
    }
    assert applets - links == set()


def test_usr_bin_env_is_busybox(members: dict[str, tarfile.TarInfo]) -> None:
    assert members["usr/bin/env"].linkname == "bin/busybox"


def test_no_entry_carries_the_time_or_the_builder(members: dict[str, tarfile.TarInfo]) -> None:
    for member in members.values():
        assert (member.mtime, member.uname, member.gname) == (0, "", "")


def test_modes_are_those_of_a_root_file_system(members: dict[str, tarfile.TarInfo]) -> None:
    modes = {name: oct(members[name].mode) for name in ("tmp", "root", "etc/shadow", "etc/passwd", "bin/busybox")}
    assert modes == {
        "tmp": "0o1777",
        "root": "0o700",
        "etc/shadow": "0o600",
        "etc/passwd": "0o644",
        "bin/busybox": "0o755",
    }


def test_root_is_in_wheel() -> None:
    files = {path: text for path, _, text in busybox.etc_files()}
    assert "wheel:x:10:root\n" in files["etc/group"]
    assert files["etc/passwd"].startswith("root:x:0:0:root:/root:/bin/sh\n")


def test_the_configuration_names_path_and_shell(layout: Path) -> None:
    config = json.loads(blob(layout, manifest_of(layout)["config"]["digest"]).read_bytes())
    assert config["config"] == {"Env": [f"PATH={busybox.PATH}"], "Cmd": ["sh"]}


def test_a_dynamic_program_is_refused(tmp_path: Path) -> None:
    with pytest.raises(busybox.BuildError, match="dynamically; install it statically linked"):
        busybox.build(tmp_path, Path(os.path.realpath("/bin/cat")))


def test_what_is_no_program_is_refused(tmp_path: Path) -> None:
    script = tmp_path / "busybox"
    script.write_text("#!/bin/sh\n")
    with pytest.raises(busybox.BuildError, match="no ELF program"):
        busybox.build(tmp_path, script)
