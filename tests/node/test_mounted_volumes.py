"""emptyDir in memory, and removal that stops at mounts, on the real kernel."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path

import pytest

from minipod.kernel.mount import MS_BIND, MS_PRIVATE, MS_SHARED, mount, umount
from minipod.kernel.remove import remove_tree
from minipod.paths import Paths
from minipod.plan.empty_dirs import MakeEmptyDir, MountTmpfs
from minipod.plan.volumes import MakePodFolder, kernel_at_least
from minipod.runtime.facts import host_facts
from tests.node_fixtures import Node


@pytest.mark.vm
def test_a_memory_volume_has_its_size_and_everybody_may_write(paths: Paths) -> None:
    folder = f"{paths.state}/pods/U"
    volume = f"{folder}/volumes/kubernetes.io~empty-dir/m"
    noswap = kernel_at_least(host_facts(), 6, 4)
    made = (MakePodFolder(folder), MakeEmptyDir(volume), MountTmpfs(volume, 1 << 20, noswap, 7))
    for _ in range(2):
        for operation in made:
            operation.execute()
    found = os.statvfs(volume)
    assert found.f_blocks * found.f_frsize == 1 << 20
    assert stat.S_IMODE(os.stat(volume).st_mode) & 0o777 == 0o777
    assert os.stat(volume).st_gid == 7
    assert Path("/proc/self/mountinfo").read_text().count(f" {volume} ") == 1
    Path(volume, "file").write_text("x")
    for _ in range(2):
        for operation in reversed(made):
            operation.undo()
    assert not os.path.exists(folder)
    os.rmdir(f"{paths.state}/pods")


@pytest.mark.vm
def test_removal_stops_at_a_mount_point(tmp_path: Path) -> None:
    precious, tree = tmp_path / "precious", tmp_path / "tree"
    precious.mkdir()
    (precious / "file").write_text("x")
    (tree / "a" / "inside").mkdir(parents=True)
    mount("tmpfs", str(tree / "a" / "inside"), "tmpfs", 0, "size=64k")
    try:
        (tree / "a" / "inside" / "file").write_text("x")
        with pytest.raises(OSError, match="mount point") as caught:
            remove_tree(str(tree))
        assert caught.value.errno == errno.EXDEV
        assert (tree / "a" / "inside" / "file").exists()
        with pytest.raises(OSError, match="mount point"):
            remove_tree(str(tree / "a" / "inside"))
    finally:
        umount(str(tree / "a" / "inside"))
    mount(str(precious), str(tree / "a" / "inside"), None, MS_BIND)
    try:
        with pytest.raises(OSError, match="mount point"):
            remove_tree(str(tree))
    finally:
        umount(str(tree / "a" / "inside"))
    remove_tree(str(tree))
    assert (precious / "file").exists()


@pytest.mark.vm
def test_what_a_container_mounts_in_a_bidirectional_volume_reaches_the_host(
    node: Node, tmp_path_factory: pytest.TempPathFactory
) -> None:
    shared = tmp_path_factory.mktemp("shared")
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p"},
        "spec": {
            "restartPolicy": "Never",
            "volumes": [{"name": "v", "hostPath": {"path": str(shared)}}, {"name": "e", "emptyDir": {}}],
            "containers": [
                {
                    "name": "c",
                    "image": "busybox",
                    "securityContext": {"privileged": True},
                    "command": [
                        "sh",
                        "-c",
                        "mkdir /v/in && mount -t tmpfs x /v/in && touch /v/in/file /e/file && ls /e",
                    ],
                    "volumeMounts": [
                        {"name": "v", "mountPath": "/v", "mountPropagation": "Bidirectional"},
                        {"name": "e", "mountPath": "/e", "subPath": "a/b"},
                    ],
                }
            ],
        },
    }
    mount("tmpfs", str(shared), "tmpfs", 0, "size=64k")
    try:
        mount(None, str(shared), None, MS_PRIVATE)
        refused = node("run", "-", input=json.dumps(pod), check=False)
        assert refused.returncode != 0
        assert "not on a shared mount" in refused.stdout + refused.stderr
        mount(None, str(shared), None, MS_SHARED)
        assert "file" in node("run", "-", input=json.dumps(pod)).stdout
        assert (shared / "in" / "file").exists()
        umount(str(shared / "in"))
    finally:
        umount(str(shared))
