"""Section E of the catalogue: `minipod cp`, into containers and out of them."""

from __future__ import annotations

import argparse
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from minipod.cli import copying
from minipod.cli.copying import Copier
from minipod.cli.verbs import cp
from minipod.errors import MinipodError, UsageError
from minipod.kernel.path import openat2
from tests.attacks.canary import Canary
from tests.attacks.conftest import AttackedNode
from tests.attacks.evil import EvilImages
from tests.attacks.swapper import Swapper, attempts
from tests.builders import container, empty_dir, manifest, mount, pod

KEEP = argparse.Namespace(no_preserve=False)
ROOT = (0, 0)


def start(node: AttackedNode, prepare: str = "true", **fields: Any) -> None:
    """A pod `p` with a volume at /v, once it is prepared."""
    one = {
        **container("c", f"{prepare}; touch /tmp/ready; exec sleep 100000", **fields),
        "volumeMounts": [mount("v", "/v")],
    }
    node("run", "-d", "--timeout", "20s", "-", input=manifest(pod("p", one, volumes=[empty_dir("v")])))
    sh(node, "while [ ! -e /tmp/ready ]; do sleep 0.01; done")


def sh(node: AttackedNode, command: str) -> str:
    return node("exec", "p", "--", "sh", "-c", command).stdout


# ---- 29. into a container


@pytest.mark.attack(row=29)
@pytest.mark.vm
def test_links_of_the_container_lead_nowhere_outside_it(node: AttackedNode, canary: Canary, tmp_path: Path) -> None:
    """CVE-2018-15664, CVE-2019-10152, static: absolute, by `..`, in chains, through /proc; parents that are missing."""
    links = {
        "out": str(canary.folder), "file": f"{canary.folder}/secret", "up": f"../../../../../..{canary.folder}",
        "chain": "out", "magic": "/proc/self/root", "init": "/proc/1/root", "descriptor": "/proc/self/fd/0",
        "new": f"{canary.folder}/new",
    }  # fmt: skip
    start(node, "; ".join(f"ln -s {target} /v/{name}" for name, target in links.items()))
    (tmp_path / "evil").write_text("evil")
    (tmp_path / "tree" / "sub").mkdir(parents=True)
    (tmp_path / "tree" / "secret").write_text("evil")
    places = [*links, "out/secret", "up/sub/", "out/no/parent", "new/", f"../../../..{canary.folder}/secret"]
    places += [f"magic{canary.folder}/new", f"init{canary.folder}/new"]
    for place in places:
        node("cp", tmp_path / "evil", f"p:/v/{place}", check=False)
        node("cp", tmp_path / "tree", f"p:/v/{place}", check=False)
        node("cp", f"p:/v/{place}", tmp_path / "stolen", check=False)


@pytest.mark.attack(row=29)
@pytest.mark.vm
def test_a_folder_that_is_swapped_for_a_link_while_it_is_copied_to_stays_inside(
    node: AttackedNode, evil: EvilImages, canary: Canary, tmp_path: Path
) -> None:
    """CVE-2018-15664: copies in both directions, file and tree, while the container swaps as fast as it can."""
    swapper = Swapper(node, evil, canary.folder, prepare="echo own > /v/d/secret")
    (tmp_path / "tree" / "sub").mkdir(parents=True)
    (tmp_path / "tree" / "secret").write_text("evil")
    root_fd = swapper.open_root()
    try:
        seen: set[str] = set()
        for number in attempts():
            try:
                if number % 3 == 0:
                    cp.upload(KEEP, str(tmp_path / "tree" / "secret"), root_fd, "/v/d/secret", ROOT)
                elif number % 3 == 1:
                    cp.upload(KEEP, str(tmp_path / "tree"), root_fd, "/v/d", ROOT)
                else:
                    cp.download(KEEP, root_fd, "/v/d/secret", str(tmp_path / "stolen"))
                    canary.hear((tmp_path / "stolen").read_bytes(), "a copy")
            except MinipodError:
                seen.add("refused")
            else:
                seen.add("copied")
    finally:
        os.close(root_fd)
    swapper.assert_raced(seen)


@pytest.mark.attack(row=29)
@pytest.mark.parametrize("direction", ["in", "out"])
def test_a_folder_that_is_swapped_between_two_steps_of_a_copy_is_not_followed(
    canary: Canary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, direction: str
) -> None:
    """Forced: after a folder is made or listed, and before what is in it is opened."""
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "d").mkdir(parents=True)
    (source / "d" / "secret").write_text("evil")
    target.mkdir()
    victim = target if direction == "in" else source
    original = openat2
    swapped: list[str] = []

    def after_the_swap(dir_fd: int, path: str, flags: int, mode: int = 0, resolve: int = 0) -> int:
        is_folder_of_target = os.readlink(f"/proc/self/fd/{dir_fd}") == str(victim) and path == "d"
        if is_folder_of_target and not swapped:
            (victim / "d").rename(tmp_path / "away")
            (victim / "d").symlink_to(canary.folder)
            swapped.append(path)
        return original(dir_fd, path, flags, mode, resolve)

    monkeypatch.setattr(copying, "openat2", after_the_swap)
    warnings: list[str] = []
    copier = Copier(warnings.append, links=direction == "in", owner=None)
    source_fd, target_fd = os.open(source, os.O_PATH), os.open(target, os.O_RDONLY)
    try:
        if direction == "in":
            with pytest.raises(UsageError, match="not followed"):
                copier.copy_contents(source_fd, target_fd, "source")
        else:
            copier.copy_contents(source_fd, target_fd, "source")
            assert warnings == [f'skipping symlink: "source/d" -> "{canary.folder}"']
            assert list(target.iterdir()) == []
    finally:
        os.close(source_fd)
        os.close(target_fd)
    assert swapped == ["d"]


@pytest.mark.attack(row=29)
def test_a_copy_mounts_nothing_and_stops_at_what_is_no_file(node: AttackedNode, tmp_path: Path) -> None:
    """CVE-2021-41089: no mounts on the host for it; a pipe or a device in the place of the target is not opened."""
    start(node, "mkfifo /v/pipe; ln -s /dev/zero /v/zero; ln -s /proc/kmsg /v/kmsg")
    before = Path("/proc/self/mountinfo").read_text()
    (tmp_path / "file").write_text("1")
    for name in ("pipe", "zero"):
        done = node("cp", f"p:/v/{name}", tmp_path / "back", check=False, timeout_s=20)
        assert "neither a file nor a directory" in done.stderr
        assert not (tmp_path / "back").exists()
    for name in ("pipe", "zero", "kmsg"):
        node("cp", tmp_path / "file", f"p:/v/{name}", check=False, timeout_s=20)
    assert sh(node, "cat /v/pipe") == "1"  # a file now: what stood there was replaced
    ours = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if node.paths.root in line]
    assert [line for line in ours if line not in before] == []


# ---- 30. out of a container


@pytest.mark.attack(row=30)
@pytest.mark.vm
def test_a_tree_of_the_container_writes_nowhere_else(node: AttackedNode, canary: Canary, tmp_path: Path) -> None:
    """CVE-2019-1002101, 11246, 11249, 11251: links first and files through them, also as an earlier copy left them."""
    target = tmp_path / "target"
    target.mkdir()
    start(
        node,
        f"mkdir -p /v/tree/d /v/tree/sub /v/tree/setuid; ln -s {canary.folder} /v/tree/link; ln -s link /v/tree/chain; "
        f"ln -s {canary.folder}/new /v/tree/d/new; echo evil > /v/tree/sub/secret; echo evil > /v/tree/file; "
        "cp /bin/busybox /v/tree/setuid/sh; chmod 6755 /v/tree/setuid/sh; chmod 7777 /v/tree/setuid; "
        "mkfifo /v/tree/pipe; mknod /v/tree/null c 1 3; ln /v/tree/file /v/tree/hard; touch '/v/tree/*' '/v/tree/a\nb'",
    )
    done = node("cp", "p:/v/tree", target)
    assert sorted(os.listdir(target)) == ["*", "a\nb", "d", "file", "hard", "setuid", "sub"]
    assert done.stderr.count("skipping symlink") == 3
    assert [stat.S_IMODE((target / name).stat().st_mode) for name in ("setuid/sh", "setuid")] == [0o755, 0o1777]
    assert (target / "hard").stat().st_nlink == 1
    (target / "sub" / "secret").unlink()
    (target / "sub").rmdir()
    (target / "sub").symlink_to(canary.folder)
    (target / "file").unlink()
    (target / "file").symlink_to(canary.file)
    refused = node("cp", "p:/v/tree", target, check=False)
    assert refused.returncode == 2
    assert "is not followed" in refused.stderr
    assert (target / "file").read_text() == "evil\n"  # the link was replaced, not followed


@pytest.mark.attack(row=30)
def test_names_of_the_container_do_not_reach_the_operators_terminal(node: AttackedNode, tmp_path: Path) -> None:
    """Control sequences in names and in what links say; names that are no UTF-8 are copied like others."""
    start(node, r"mkdir /v/t; cd /v/t; ln -s $(printf 'x\033[31m') $(printf 'l\033]0;owned\007'); "
                r"mkdir $(printf 'd\377'); touch $(printf 'd\377/f\377')")  # fmt: skip
    done = node("cp", "p:/v/t", tmp_path / "back")
    assert "skipping symlink" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    assert "\x07" not in done.stdout + done.stderr
    assert os.listdir(os.fsencode(tmp_path / "back") + b"/d\xff") == [b"f\xff"]
    node("cp", tmp_path / "back", "p:/v/again")
    assert sh(node, r"ls /v/again/$(printf 'd\377') | wc -c") == "3\n"


@pytest.mark.attack(row=30)
def test_a_file_that_is_larger_than_the_operators_disk_is_not_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is all hole costs its container nothing."""
    (tmp_path / "target").mkdir()
    (tmp_path / "hole").touch()
    os.truncate(tmp_path / "hole", 15 << 40)
    begun: list[int] = []
    monkeypatch.setattr(copying, "_copy_bytes", lambda _from, _to, size: begun.append(size))
    source_fd, target_fd = os.open(tmp_path / "hole", os.O_PATH), os.open(tmp_path / "target", os.O_RDONLY)
    try:
        with pytest.raises(OSError, match="No space left"):
            Copier(print, links=False, owner=None).copy(source_fd, target_fd, "hole", "hole")
    finally:
        os.close(source_fd)
        os.close(target_fd)
    assert (begun, os.listdir(tmp_path / "target")) == ([], [])


@pytest.mark.attack(row=30)
def test_of_a_file_that_grows_while_it_is_read_only_what_it_had_is_copied(tmp_path: Path) -> None:
    reading, writing = os.pipe()  # whatever comes after the size that the file had
    os.write(writing, b"x" * 1000)
    os.close(writing)
    write_fd = os.open(tmp_path / "written", os.O_WRONLY | os.O_CREAT)
    copying._copy_bytes(reading, write_fd, 100)
    os.close(reading)
    os.close(write_fd)
    assert (tmp_path / "written").read_bytes() == b"x" * 100


@pytest.mark.attack(row=30)
def test_a_tree_of_any_depth_ends_with_a_message(node: AttackedNode, tmp_path: Path) -> None:
    start(node, "cd /v; mkdir t; cd t; for n in $(seq 600); do mkdir d; cd d; done")
    done = node("cp", "p:/v/t", tmp_path / "back", check=False)
    assert done.returncode == 2
    assert "directories in each other" in done.stderr
