"""emptyDir in memory, and removal that stops at mounts, on the real kernel."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from minipod.kernel.mount import MS_BIND, MS_PRIVATE, MS_SHARED, mount, umount
from minipod.kernel.remove import remove_tree
from minipod.paths import Paths
from minipod.plan.volumes.empty_dirs import MakeEmptyDir, MountTmpfs
from minipod.plan.volumes.mounted import MountImage
from minipod.plan.volumes.sources import MakePodFolder, kernel_at_least
from minipod.runtime.facts import host_facts
from tests import volume_pods
from tests.guard import guarded
from tests.huge_pages import huge_pages
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


@pytest.mark.attack(row=15)
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


@pytest.fixture
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with volume_pods.loop_device(tmp_path_factory.mktemp("disk"), b"first") as device:
        yield device


@pytest.mark.vm
def test_a_raw_block_volume_is_a_device_that_only_its_container_may_use(node: Node, disk: str) -> None:
    def using(name: str, command: str, **source: bool) -> dict[str, Any]:
        devices = {"volumeDevices": [{"name": "d", "devicePath": "/dev/xvda"}]}
        given = volume_pods.pod(name, command, container=devices)
        given["spec"]["volumes"] = [{"name": "d", "persistentVolumeClaim": {"claimName": "data", **source}}]
        return given

    wanted = volume_pods.claim(storageClassName="raw", volumeMode="Block")
    number = os.stat(disk).st_rdev
    write = guarded("printf third | dd of=/dev/xvda conv=notrunc 2>/dev/null && echo written || echo refused")
    first = using("p", f"head -c 5 /dev/xvda; {write}; stat -c %t:%T /dev/xvda")
    out = volume_pods.run(node, volume_pods.raw_volume(disk), wanted, first)
    assert out == f"firstwritten\n{os.major(number):x}:{os.minor(number):x}\n"
    with open(disk, "rb") as device:
        assert device.read(5) == b"third"
    assert volume_pods.run(node, using("q", f"head -c 5 /dev/xvda; {write}", readOnly=True)) == "thirdrefused\n"
    made = f"mknod /x b {os.major(number)} {os.minor(number)}; head -c 5 /x 2>&1 | grep -o 'not permitted'"
    assert volume_pods.run(node, volume_pods.pod("other", made)) == "not permitted\n"
    mounted = volume_pods.pod("m", mounts={"d": {"persistentVolumeClaim": {"claimName": "data"}}})
    volume_pods.apply(node, mounted)
    told = "volume d has volumeMode Block, but is specified in volumeMounts"
    volume_pods.wait_for(lambda: told in node("events").stdout)


@pytest.mark.vm
def test_read_only_reaches_what_is_mounted_below_only_where_that_is_asked_for(
    node: Node, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outer = tmp_path_factory.mktemp("outer")
    (outer / "below").mkdir()
    mount("tmpfs", str(outer / "below"), "tmpfs", 0, "size=64k")
    try:
        for mode, answer in (("Disabled", "below only\n"), ("IfPossible", "nothing\n"), ("Enabled", "nothing\n")):
            given = volume_pods.pod(
                mode.lower(),
                "touch /h/x 2>/dev/null && echo all; touch /h/below/x 2>/dev/null && echo below only || echo nothing",
                {"h": ({"hostPath": {"path": str(outer)}}, {"readOnly": True, "recursiveReadOnly": mode})},
            )
            assert volume_pods.run(node, given) == answer
        volume_pods.start(node, volume_pods.pod("p", mounts={
            "h": ({"hostPath": {"path": str(outer)}}, {"readOnly": True, "recursiveReadOnly": "IfPossible"})
        }))  # fmt: skip
        (status,) = node.pod("p")["status"]["containerStatuses"]  # type: ignore[index]
        (told,) = [one for one in status["volumeMounts"] if one["name"] == "h"]
        assert told == {"name": "h", "mountPath": "/h", "readOnly": True, "recursiveReadOnly": "Enabled"}
        node("delete", "pod", "p")
    finally:
        umount(str(outer / "below"))


@pytest.mark.vm
def test_what_the_host_mounts_later_arrives_where_that_is_asked_for(
    node: Node, tmp_path_factory: pytest.TempPathFactory
) -> None:
    shared = tmp_path_factory.mktemp("host")
    mount("tmpfs", str(shared), "tmpfs", 0, "size=64k")
    try:
        mount(None, str(shared), None, MS_SHARED)
        (shared / "later").mkdir()
        source = {"hostPath": {"path": str(shared)}}
        volume_pods.start(
            node, volume_pods.pod(mounts={"a": (source, {"mountPropagation": "HostToContainer"}), "b": (source, {})})
        )
        mount("tmpfs", str(shared / "later"), "tmpfs", 0, "size=64k")
        (shared / "later" / "file").touch()
        assert volume_pods.sh(node, "ls /a/later; echo -; ls /b/later") == "file\n-\n"
        node("delete", "pod", "p")
    finally:
        for place in (shared / "later", shared):
            if os.path.ismount(place):
                umount(str(place))


def test_an_empty_dir_of_huge_pages_has_the_size_of_page_that_is_requested(node: Node) -> None:
    resources = {"limits": {"hugepages-2Mi": "2Mi", "memory": "64Mi"}}
    given = volume_pods.pod(
        command="grep -o ' /v hugetlbfs .*' /proc/mounts | grep -o pagesize=2M",
        mounts={"v": {"emptyDir": {"medium": "HugePages-2Mi"}}},
        container={"resources": resources},
    )
    with huge_pages():
        assert volume_pods.run(node, given) == "pagesize=2M\n"
        node.close()  # an agent counts the host's pages when it starts


@pytest.mark.parametrize("count", [1, 2, 300])
def test_an_image_of_any_number_of_layers_is_a_volume_that_nobody_can_write_to(tmp_path: Path, count: int) -> None:
    layers = [tmp_path / "layers" / f"{number:0>60}" for number in range(count)]
    for number, layer in enumerate(layers):
        layer.mkdir(parents=True)
        (layer / "top").write_text(str(number))
        (layer / str(number)).touch()
    volume = MountImage(str(tmp_path / "v"), "x", tuple(map(str, layers)))
    volume.execute()
    try:
        assert (tmp_path / "v" / "top").read_text() == str(count - 1)
        assert len(os.listdir(tmp_path / "v")) == count + 1
        with pytest.raises(OSError, match="Read-only"):
            (tmp_path / "v" / "new").touch()
        assert os.statvfs(tmp_path / "v").f_flag & (os.ST_NOSUID | os.ST_NODEV) == os.ST_NOSUID | os.ST_NODEV
    finally:
        volume.undo()
    assert not (tmp_path / "v").exists()
