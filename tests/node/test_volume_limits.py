"""What may be taken of the node's disk: by quota where the file system has it, else measured."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from minipod.kernel import quota
from minipod.kernel.mount import umount
from minipod.plan.volumes.empty_dirs import MakeEmptyDir
from minipod.plan.volumes.quota import FIRST_PROJECT, LimitFolder
from tests.node_fixtures import Node
from tests.volume_pods import apply, pod, run, wait_for

MIB = 1 << 20


def evicted(node: Node) -> str:
    """The message of the pod p, once it is evicted."""
    wait_for(lambda: node.pod("p")["status"].get("phase") == "Failed", 30)  # type: ignore[attr-defined]
    status: Any = node.pod("p")["status"]
    assert status["reason"] == "Evicted"
    assert "Evicted" in node("events").stdout
    message: str = status["message"]
    return message


@pytest.mark.attack(row=45)
def test_a_pod_whose_empty_dir_outgrows_its_limit_is_evicted(node: Node) -> None:
    given = pod(
        command="head -c 3000000 /dev/zero > /v/x; sleep 1000", mounts={"v": {"emptyDir": {"sizeLimit": "1024Ki"}}}
    )
    apply(node, given)
    assert evicted(node) == 'Usage of EmptyDir volume "v" exceeds the limit "1Mi". '


def test_a_container_that_writes_more_than_its_ephemeral_storage_is_evicted(node: Node) -> None:
    resources = {"limits": {"ephemeral-storage": "1Mi"}}
    apply(node, pod(command="head -c 3000000 /dev/zero > /x; sleep 1000", container={"resources": resources}))
    assert evicted(node) == "Pod ephemeral local storage usage exceeds the total limit of containers 1Mi. "


@pytest.fixture
def quota_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A small ext4 with project quota; skips where this kernel has none (CONFIG_QFMT_V2)."""
    folder = tmp_path_factory.mktemp("quota")
    image, place = folder / "image", folder / "mounted"
    place.mkdir()
    image.touch()
    os.truncate(image, 64 * MIB)
    if shutil.which("modprobe"):
        subprocess.run(["modprobe", "-qa", "loop", "quota_v2"], check=False)
    options = ["-q", "-O", "project,quota", "-E", "quotatype=prjquota"]
    subprocess.run(["mke2fs", "-t", "ext4", *options, str(image)], check=True)
    done = subprocess.run(
        ["mount", "-o", "loop,prjquota", str(image), str(place)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        pytest.skip(f"no project quota here: {done.stderr.strip()}")
    yield place
    umount(str(place))


@pytest.mark.vm
def test_a_folder_with_a_quota_takes_no_more_and_frees_its_project(quota_disk: Path) -> None:
    one, two = (str(quota_disk / name) for name in ("one", "two"))
    made = [operation for path in (one, two) for operation in (MakeEmptyDir(path), LimitFolder(path, 2 * MIB))]
    for _ in range(2):  # again, as after a reboot
        for operation in made:
            operation.execute()
    fds = [os.open(path, os.O_RDONLY) for path in (one, two)]
    try:
        assert [quota.project_of(fd) for fd in fds] == [FIRST_PROJECT, FIRST_PROJECT + 1]
        writer = ["setpriv", "--bounding-set=-sys_resource", "head", "-c", str(3 * MIB), "/dev/zero"]
        with open(f"{one}/file", "wb") as file:
            done = subprocess.run(writer, stdout=file, stderr=subprocess.PIPE, text=True, check=False)
        assert done.returncode != 0
        assert "quota exceeded" in done.stderr.lower()
        Path(two, "file").write_bytes(b"x" * MIB)  # the other has a limit of its own
        found = os.statvfs(one)
        assert found.f_blocks * found.f_frsize == 2 * MIB  # what df(1) says inside
    finally:
        for fd in fds:
            os.close(fd)
    for _ in range(2):
        for operation in reversed(made):
            operation.undo()
    top = os.open(quota_disk, os.O_RDONLY)
    assert quota.project_inodes(top, FIRST_PROJECT) == quota.project_inodes(top, FIRST_PROJECT + 1) == 0
    os.close(top)


@pytest.mark.vm
def test_an_empty_dirs_limit_stops_its_writer_where_the_disk_has_quotas(node: Node, quota_disk: Path) -> None:
    os.mkdir(f"{node.paths.state}/pods")
    subprocess.run(["mount", "--bind", str(quota_disk), f"{node.paths.state}/pods"], check=True)
    try:
        command = "head -c 3000000 /dev/zero > /v/x; df -k /v | tail -1; sleep 0.1"
        out = run(node, pod(command=command, mounts={"v": {"emptyDir": {"sizeLimit": "1Mi"}}}))
        assert "1024" in out.split()
    finally:
        umount(f"{node.paths.state}/pods")
