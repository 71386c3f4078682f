"""Which volumes and mounts a pod gets, and what undoes them; files are made in a temporary folder only."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from typing import Any

import msgspec
import pytest

from minipod.api.types import PersistentVolume, Pod
from minipod.errors import ContainerError, VolumeError
from minipod.paths import Paths
from minipod.plan.configs import Device, HostFacts, Mount
from minipod.plan.operation import HostOperation
from minipod.plan.volumes.empty_dirs import MakeEmptyDir, MountHugePages, MountTmpfs, tmpfs_size
from minipod.plan.volumes.host_paths import CheckHostPath
from minipod.plan.volumes.mounted import LinkDevice
from minipod.plan.volumes.quota import LimitFolder
from minipod.plan.volumes.sources import (
    FoundSources,
    MakePodFolder,
    devices_for,
    kernel_at_least,
    mounts_for,
    used_volumes,
    volume_operations,
)

FACTS = HostFacts(node_name="n", cpus=2, memory_bytes=1 << 33, cgroup_version=2, kernel="6.18.44-x")
OLD = HostFacts(node_name="n", cpus=2, memory_bytes=1 << 33, cgroup_version=2, kernel="5.10.0-8-amd64")
PATHS = Paths("/run/minipod", "/state")
FOLDER = "/state/pods/U/volumes/kubernetes.io~empty-dir"


def pod_of(volumes: list[dict[str, Any]], mounts: list[dict[str, Any]] | None = None, **more: Any) -> Pod:
    """Every volume is mounted somewhere, unless `mounts` says what is."""
    if mounts is None:
        mounts = [{"name": volume["name"], "mountPath": f"/{volume['name']}"} for volume in volumes]
    container = {
        "name": "c",
        "volumeMounts": mounts,
        "resources": more.pop("resources", {}),
        **more.pop("container", {}),
    }
    return msgspec.convert(
        {"metadata": {"uid": "U"}, "spec": {"containers": [container], "volumes": volumes, **more}}, Pod
    )


def operations_of(volumes: list[dict[str, Any]], facts: HostFacts = FACTS, **more: Any) -> tuple[HostOperation, ...]:
    return volume_operations(pod_of(volumes, **more), PATHS, facts)


def mounts_of(mount: dict[str, Any], facts: HostFacts = FACTS, env: dict[str, str] | None = None) -> Mount:
    pod = pod_of([{"name": "e", "emptyDir": {}}, {"name": "h", "hostPath": {"path": "/data"}}], [mount])
    return mounts_for(pod, pod.spec.containers[0], PATHS, facts, env or {})[0]


def test_volumes_are_made_in_the_pods_folder_in_order() -> None:
    volumes: list[dict[str, Any]] = [
        {"name": "a", "emptyDir": {}},
        {"name": "b", "hostPath": {"path": "/data", "type": "Directory"}},
        {"name": "c"},
    ]
    assert operations_of(volumes) == (
        MakePodFolder("/state/pods/U"),
        MakeEmptyDir(f"{FOLDER}/a"),
        CheckHostPath("b", "/data", "Directory"),
        MakeEmptyDir(f"{FOLDER}/c"),
    )


def test_a_memory_volume_is_a_tmpfs_that_belongs_to_the_pods_group() -> None:
    volumes = [{"name": "m", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}}]
    made = operations_of(volumes, securityContext={"fsGroup": 7})
    assert made[1:] == (
        MakeEmptyDir(f"{FOLDER}/m"),
        MountTmpfs(f"{FOLDER}/m", 64 << 20, True, 7),
    )
    assert operations_of(volumes, OLD)[2] == MountTmpfs(f"{FOLDER}/m", 64 << 20, False)


def test_a_memory_volume_is_no_larger_than_the_pod_may_be() -> None:
    limits = {"limits": {"memory": "32Mi"}, "requests": {"memory": "32Mi"}}
    made = operations_of([{"name": "m", "emptyDir": {"medium": "Memory"}}], resources=limits)
    assert isinstance(made[2], MountTmpfs)
    assert made[2].size_bytes == 32 << 20


@pytest.mark.parametrize(
    ("limit", "pod", "expected"), [(None, None, 1000), ("10", None, 10), ("10", 5, 5), ("0", 5, 5), ("2k", None, 1000)]
)
def test_the_smallest_size_that_is_set_counts(limit: str | None, pod: int | None, expected: int) -> None:
    assert tmpfs_size(limit, pod, 1000) == expected


@pytest.mark.parametrize(
    ("volume", "path"),
    [
        ({"csi": {"driver": "x"}}, r"spec\.volumes\[0\]\.csi"),
        ({"iscsi": {}}, r"spec\.volumes\[0\]\.iscsi"),
        ({"emptyDir": {"medium": "Floppy"}}, r"spec\.volumes\[0\]\.emptyDir\.medium"),
    ],
)
def test_other_sources_are_refused_by_name(volume: dict[str, Any], path: str) -> None:
    with pytest.raises(VolumeError, match=path):
        operations_of([{"name": "v", **volume}])


def test_mounts_say_where_from_and_how() -> None:
    assert mounts_of({"name": "e", "mountPath": "/x"}) == Mount(
        volume="e", container_path="/x", host_path=f"{FOLDER}/e"
    )
    assert mounts_of(
        {"name": "h", "mountPath": "x", "readOnly": True, "mountPropagation": "HostToContainer", "subPath": "a/b"}
    ) == Mount(
        volume="h",
        container_path="/x",
        host_path="/data",
        readonly=True,
        propagation="host-to-container",
        sub_path="a/b",
    )
    expanded = mounts_of({"name": "h", "mountPath": "/x", "subPathExpr": "$(N)/y"}, env={"N": "1"})
    assert expanded.sub_path == "1/y"


@pytest.mark.parametrize("path", ["/abs", "..", "a/../b"])
def test_a_sub_path_must_stay_inside(path: str) -> None:
    with pytest.raises(ContainerError, match="subPath"):
        mounts_of({"name": "e", "mountPath": "/x", "subPath": path})


def test_recursive_read_only_depends_on_the_kernel() -> None:
    mount = {"name": "e", "mountPath": "/x", "readOnly": True, "recursiveReadOnly": "IfPossible"}
    assert mounts_of(mount).recursive_read_only
    assert not mounts_of(mount, OLD).recursive_read_only
    with pytest.raises(ContainerError, match=r"5\.12"):
        mounts_of({**mount, "recursiveReadOnly": "Enabled"}, OLD)


def test_a_volume_that_no_container_mounts_is_not_made() -> None:
    volumes = [{"name": "a", "emptyDir": {}}, {"name": "b", "configMap": {"name": "missing"}}]
    pod = pod_of(volumes, [{"name": "a", "mountPath": "/a"}])
    assert [volume.name for volume in used_volumes(pod)] == ["a"]
    assert volume_operations(pod, PATHS, FACTS) == (MakePodFolder("/state/pods/U"), MakeEmptyDir(f"{FOLDER}/a"))


def test_an_empty_dir_with_a_limit_gets_a_quota() -> None:
    made = operations_of(
        [{"name": "a", "emptyDir": {"sizeLimit": "1.5Ki"}}, {"name": "b", "emptyDir": {"sizeLimit": "0"}}]
    )
    assert made[1:] == (
        MakeEmptyDir(f"{FOLDER}/a"),
        LimitFolder(f"{FOLDER}/a", 1536),
        MakeEmptyDir(f"{FOLDER}/b"),
    )


@pytest.mark.parametrize(
    ("medium", "requests", "expected"),
    [
        ("HugePages", {"hugepages-2Mi": "4Mi"}, 2 << 20),
        ("HugePages-1Gi", {"hugepages-2Mi": "4Mi", "hugepages-1Gi": "1Gi"}, 1 << 30),
        ("HugePages", {"hugepages-2Mi": "4Mi", "hugepages-1Gi": "1Gi"}, "multiple huge page sizes"),
        ("HugePages-1Gi", {"hugepages-2Mi": "4Mi"}, "no resource request for huge pages"),
        ("HugePages", {"memory": "4Mi"}, "no resource request for huge pages"),
    ],
)
def test_huge_pages_are_of_the_size_that_is_requested(medium: str, requests: dict[str, str], expected: Any) -> None:
    volumes = [{"name": "v", "emptyDir": {"medium": medium}}]
    if isinstance(expected, str):
        with pytest.raises(VolumeError, match=expected):
            operations_of(volumes, resources={"requests": requests})
    else:
        assert operations_of(volumes, resources={"requests": requests})[2] == MountHugePages(f"{FOLDER}/v", expected)


BLOCK = {"devices": {"volumeDevices": [{"name": "d", "devicePath": "/dev/x"}]},
         "mounts": {"volumeMounts": [{"name": "d", "mountPath": "/x"}]}}  # fmt: skip


def claimed(mode: str, use: str, **source: Any) -> tuple[HostOperation, ...]:
    pod = pod_of([{"name": "d", "persistentVolumeClaim": {"claimName": "c"}}], [], container=BLOCK[use])
    volume = msgspec.convert({"metadata": {"name": "pv"}, "spec": {"volumeMode": mode, **source}}, PersistentVolume)
    return volume_operations(pod, PATHS, FACTS, FoundSources({"d": volume}))


@pytest.mark.parametrize("source", [{"local": {"path": "srv/x"}}, {"hostPath": {"path": "srv/x"}}])
@pytest.mark.parametrize(("mode", "use"), [("Filesystem", "mounts"), ("Block", "devices")])
def test_a_persistent_volume_of_a_relative_path_is_refused(source: dict[str, Any], mode: str, use: str) -> None:
    with pytest.raises(
        VolumeError, match="persistentvolume pv: path 'srv/x' is not absolute: write it with a leading /"
    ):
        claimed(mode, use, **source)


@pytest.mark.parametrize("source", [{"local": {"path": "/dev/sdz"}}, {"hostPath": {"path": "/dev/sdz"}}])
def test_a_claim_of_mode_block_is_a_device(source: dict[str, Any]) -> None:
    link = "/state/pods/U/volumeDevices/kubernetes.io~local-volume/d"
    assert claimed("Block", "devices", **source)[1:] == (LinkDevice("d", "/dev/sdz", link),)
    pod = pod_of([{"name": "d", "persistentVolumeClaim": {"claimName": "c", "readOnly": True}}], [],
                 container=BLOCK["devices"])  # fmt: skip
    assert devices_for(pod, pod.spec.containers[0], PATHS) == (
        Device(container_path="/dev/x", host_path=link, permissions="r"),
    )


@pytest.mark.parametrize(
    ("mode", "use", "word"), [("Block", "mounts", "volumeMounts"), ("Filesystem", "devices", "volumeDevices")]
)
def test_a_claim_is_used_as_what_it_is(mode: str, use: str, word: str) -> None:
    with pytest.raises(VolumeError, match=f"^volume d has volumeMode {mode}, but is specified in {word}$"):
        claimed(mode, use, local={"path": "/dev/sdz"})


def test_what_is_no_block_device_is_not_given_as_one(tmp_path: Path) -> None:
    link = tmp_path / "pod" / "d"
    for device in (tmp_path / "missing", tmp_path):
        with pytest.raises(VolumeError, match=f'volume "d" : {device}: '):
            LinkDevice("d", str(device), str(link)).execute()
    assert not link.exists()


def test_kernel_releases_are_compared_as_numbers() -> None:
    assert kernel_at_least(FACTS, 6, 4)
    assert not kernel_at_least(OLD, 5, 12)
    assert not kernel_at_least(msgspec.structs.replace(FACTS, kernel=""), 1, 0)


def test_an_empty_dir_is_for_everybody_and_vanishes_with_the_pods_folder(tmp_path: Path) -> None:
    folder, volume = tmp_path / "pods" / "U", tmp_path / "pods" / "U" / "volumes" / "e"
    made = (MakePodFolder(str(folder)), MakeEmptyDir(str(volume)))
    for operation in made:
        operation.execute()
    assert stat.S_IMODE(volume.stat().st_mode) == 0o777
    (volume / "file").write_text("x")
    made[1].execute()
    assert (volume / "file").exists()
    for _ in range(2):
        for operation in reversed(made):
            operation.undo()
    assert list((tmp_path / "pods").iterdir()) == []


def test_the_folder_of_all_pods_is_never_removed(tmp_path: Path) -> None:
    (tmp_path / "pods" / "other").mkdir(parents=True)
    MakePodFolder(f"{tmp_path}/pods/").undo()
    assert (tmp_path / "pods" / "other").exists()


def test_an_empty_dir_of_a_group_hands_the_group_on(tmp_path: Path) -> None:
    operation = MakeEmptyDir(str(tmp_path / "v"), os.getgid())
    operation.execute()
    found = (tmp_path / "v").stat()
    assert stat.S_IMODE(found.st_mode) == 0o2777
    assert found.st_gid == os.getgid()
    assert "mode 2777" in operation.describe()


def test_a_missing_host_path_is_made_only_where_the_type_says_so(tmp_path: Path) -> None:
    CheckHostPath("v", str(tmp_path / "a" / "b")).execute()
    CheckHostPath("v", str(tmp_path / "c" / "d"), "DirectoryOrCreate").execute()
    CheckHostPath("v", str(tmp_path / "file"), "FileOrCreate").execute()
    assert (tmp_path / "a" / "b").is_dir()
    assert stat.S_IMODE((tmp_path / "c" / "d").stat().st_mode) & ~0o755 == 0
    assert (tmp_path / "file").is_file()
    with pytest.raises(
        VolumeError, match=r'SetUp failed for volume "v" : hostPath type check failed: .*none is not a directory'
    ):
        CheckHostPath("v", str(tmp_path / "none"), "Directory").execute()
    with pytest.raises(VolumeError, match="No such file"):
        CheckHostPath("v", str(tmp_path / "no" / "file"), "FileOrCreate").execute()
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("DirectoryOrCreate", "a directory"),
        ("Directory", "a directory"),
        ("FileOrCreate", "a file"),
        ("File", "a file"),
        ("Socket", "a socket file"),
        ("CharDevice", "a character device"),
        ("BlockDevice", "a block device"),
    ],
)
def test_a_host_path_of_another_kind_is_refused(kind: str, name: str, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    if "irectory" in kind:
        wrong.write_text("")
    else:
        wrong.mkdir()
    with pytest.raises(VolumeError, match=f"{wrong} is not {name}"):
        CheckHostPath("v", str(wrong), kind).execute()


def test_host_paths_of_the_right_kind_are_accepted(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
    CheckHostPath("v", str(tmp_path / "socket"), "Socket").execute()
    CheckHostPath("v", "/dev/null", "CharDevice").execute()
    (tmp_path / "link").symlink_to(tmp_path)
    CheckHostPath("v", str(tmp_path / "link"), "Directory").execute()
