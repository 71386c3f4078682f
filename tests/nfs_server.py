"""An NFS server of the kernel's own, for tests."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from minipod.kernel.mount import mount, umount
from tests.patience import SLOWNESS


def has_client() -> bool:
    """Loaded, or loaded by the kernel when it is asked to mount."""
    if "nfs4" in Path("/proc/filesystems").read_text():
        return True
    return shutil.which("modprobe") is not None and subprocess.run(["modprobe", "-nq", "nfsv4"]).returncode == 0


@contextlib.contextmanager
def exported(folder: Path) -> Iterator[None]:
    """A folder that this host's kernel exports to it, NFSv4 alone, as "/"; skips where there is no client or server."""
    if not has_client() or shutil.which("exportfs") is None:
        pytest.skip("no NFS client and server here (modules nfs and nfsd, nfs-kernel-server)")
    subprocess.run(["modprobe", "nfsd"], check=True)
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
        yield
    finally:
        subprocess.run(["rpc.nfsd", "0"], check=False)
        subprocess.run(["exportfs", "-u", f"127.0.0.1:{folder}"], check=False)
        daemon.terminate()
        daemon.wait(10 * SLOWNESS)
        if mounted_here:
            umount("/proc/fs/nfsd")
