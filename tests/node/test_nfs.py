"""NFS volumes: against a real server where the kernel has one, and the error where it has no client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.nfs_server import exported, has_client
from tests.node_fixtures import Node
from tests.volume_pods import apply, claim, pod, run, wait_for


@pytest.fixture
def export(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("export")
    with exported(folder):
        yield folder


@pytest.mark.vm
def test_a_pod_reads_and_writes_an_export(node: Node, export: Path) -> None:
    nfs = {"server": "127.0.0.1", "path": "/"}
    given = pod(command="cat /n/greeting; echo back > /n/answer; grep -c ' /n nfs4 ' /proc/mounts",
                mounts={"n": {"nfs": nfs}})  # fmt: skip
    assert run(node, given) == "hello from nfs\n1\n"
    assert (export / "answer").read_text() == "back\n"
    assert f"{node.paths.state}/pods" not in Path("/proc/self/mountinfo").read_text()
    assert (export / "greeting").exists()
    refused = pod("q", "touch /n/x 2>&1 | grep -o Read-only", {"n": {"nfs": {**nfs, "readOnly": True}}})
    assert run(node, refused) == "Read-only\n"


@pytest.mark.vm
def test_a_claim_on_an_nfs_volume_keeps_its_data(node: Node, export: Path) -> None:
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": "pv"},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteMany"],
            "storageClassName": "",
            "mountOptions": ["nfsvers=4.1", "noatime", "hard"],
            "nfs": {"server": "127.0.0.1", "path": "/"},
        },
    }
    mounts = {"data": {"persistentVolumeClaim": {"claimName": "data"}}}
    wanted = claim(accessModes=["ReadWriteMany"], storageClassName="")
    run(node, volume, wanted, pod("one", "echo kept > /data/file", mounts))
    out = run(node, pod("two", "cat /data/file; grep ' /data ' /proc/mounts", mounts))
    assert out.startswith("kept\n")
    assert "vers=4.1" in out
    assert "noatime" in out
    assert (export / "file").read_text() == "kept\n"


@pytest.mark.skipif(has_client(), reason="this kernel has an NFS client")
def test_nfs_without_a_client_is_a_clear_error(node: Node) -> None:
    apply(node, pod(mounts={"n": {"nfs": {"server": "127.0.0.1", "path": "/x"}}}))
    wait_for(lambda: "this kernel has no NFS client" in node("events").stdout)
