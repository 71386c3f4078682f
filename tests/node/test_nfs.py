"""NFS volumes: against a real server where the kernel has one, and the error where it has no client."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from minipod.kernel.mount import mount, umount
from tests.node_fixtures import Node
from tests.patience import SLOWNESS
from tests.volume_pods import apply, claim, pod, run, wait_for


def _has_client() -> bool:
    """Loaded, or loaded by the kernel when it is asked to mount."""
    if "nfs4" in Path("/proc/filesystems").read_text():
        return True
    return shutil.which("modprobe") is not None and subprocess.run(["modprobe", "-nq", "nfsv4"]).returncode == 0


@pytest.fixture
def export(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that the kernel's own server exports to this host, NFSv4 alone; skips where there is none."""
    if not _has_client() or shutil.which("exportfs") is None:
        pytest.skip("no NFS client and server here (modules nfs and nfsd, nfs-kernel-server)")
    subprocess.run(["modprobe", "nfsd"], check=True)
    folder = tmp_path_factory.mktemp("export")
    folder.chmod(0o777)
    (folder / "greeting").write_text("hello from nfs\n")
    Path("/var/lib/nfs").mkdir(exist_ok=True)
    mounted_here = not os.path.ismount("/proc/fs/nfsd")
    if mounted_here:
        mount("nfsd", "/proc/fs/nfsd", "nfsd")
    Path("/proc/fs/nfsd/nfsv4leasetime").write_text("10")
    Path("/proc/fs/nfsd/nfsv4gracetime").write_text("10")
    options = "rw,fsid=0,no_root_squash,no_subtree_check,insecure,sync"
    subprocess.run(["exportfs", "-i", "-o", options, f"127.0.0.1:{folder}"], check=True)
    daemon = subprocess.Popen(["rpc.mountd", "--foreground", "--no-nfs-version", "3", "--no-udp"])
    subprocess.run(["rpc.nfsd", "--no-nfs-version", "3", "--no-udp", "1"], check=True)
    try:
        with open("/proc/fs/nfsd/v4_end_grace", "w") as file:
            file.write("Y")
        yield folder
    finally:
        subprocess.run(["rpc.nfsd", "0"], check=False)
        subprocess.run(["exportfs", "-u", f"127.0.0.1:{folder}"], check=False)
        daemon.terminate()
        daemon.wait(10 * SLOWNESS)
        if mounted_here:
            umount("/proc/fs/nfsd")


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


@pytest.mark.skipif(_has_client(), reason="this kernel has an NFS client")
def test_nfs_without_a_client_is_a_clear_error(node: Node) -> None:
    apply(node, pod(mounts={"n": {"nfs": {"server": "127.0.0.1", "path": "/x"}}}))
    wait_for(lambda: "this kernel has no NFS client" in node("events").stdout)
