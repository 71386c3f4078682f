"""Pulling an image of about 380 MB (a Debian, five gzip layers) from Debian's docker-registry, next to containerd.

containerd and ctr are taken from PATH, or from the folder of another Debian that `MINIPOD_BENCH_CHROOT` names.
Everything is on the disk of /var/tmp. Makes the image once a run, which takes some minutes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

from minipod.runtime.images import debian
from minipod.runtime.images.layout_writer import MEDIA, NewLayer, write_blob
from tests import real_registry
from tests.bench.measure import Figure

CHECKOUT = Path(__file__).resolve().parents[2]
PACKAGES = ("git", "nginx-light", "perl", "python3", "redis-server", "vim")
LAYERS = 5
MAX_BYTES = 380_000_000
NAME = "bench:1"

#: a root and a state of its own, everything else as the host has it; $1: where, $2: the chroot
CONTAINERD = """
set -e
if [ "$2" != / ]; then for name in proc sys dev; do mount --rbind /$name $2/$name; done; fi
mkdir -p $2/run $2/var/lib/containerd
mount -t tmpfs none $2/run
mount --bind $1 $2/var/lib/containerd
printf 'version = 3\\nroot = "/var/lib/containerd"\\nstate = "/run/containerd"\\n' >$2/run/containerd.toml
exec chroot $2 containerd -c /run/containerd.toml
"""


def measure(runs: int) -> Iterator[Figure]:
    """minipod and containerd in turn. Raises RuntimeError where something is missing."""
    missing = [name for name in ("debootstrap", "docker-registry", "skopeo") if shutil.which(name) is None]
    if missing:
        raise RuntimeError(f"needs {', '.join(missing)}")
    chroot = os.environ.get("MINIPOD_BENCH_CHROOT", "/")
    wall, cpu = Figure("minipod image pull, 380 MB", "s"), Figure("  processor time", "s")
    memory, again = Figure("  memory at most", "MB", budget=150), Figure("  an unchanged tag", "ms", budget=150)
    peer, peer_cpu = Figure("containerd, the same image", "s"), Figure("  processor time", "s")
    with (
        tempfile.TemporaryDirectory(prefix="mpb", dir="/var/tmp") as work,
        real_registry.running(Path(work)) as registry,
    ):
        base, image = Path(work), f"{registry.host}/{NAME}"
        make_image(base / "root", base / "layout")
        registry.push(f"oci:{base}/layout:{NAME}", NAME)
        for number in range(runs):
            pull = minipod_pull(base / f"minipod{number}", image)
            taken = watched(pull)
            wall.samples.append(taken.seconds)
            cpu.samples.append(taken.cpu_s)
            memory.samples.append(taken.most_bytes / 1e6)
            again.samples.append(watched(pull).seconds * 1000)
            if Path(chroot, "usr/bin/containerd").exists():
                seconds, cpu_s = containerd_pull(base / f"containerd{number}", chroot, image)
                peer.samples.append(seconds)
                peer_cpu.samples.append(cpu_s)
    yield from (figure for figure in (wall, cpu, memory, again, peer, peer_cpu) if figure.samples)


# ---- the image


def make_image(root: Path, layout: Path) -> None:
    debian.install(root, PACKAGES, debian.host_suite(), debian.MIRROR)
    parts: list[list[str]] = [[] for _ in range(LAYERS)]
    size = 0
    for path in sorted(root.rglob("*")):
        found = path.lstat()
        if size + found.st_size < MAX_BYTES:
            parts[size * LAYERS // MAX_BYTES].append(str(path.relative_to(root)))
            size += found.st_size if path.is_file() and not path.is_symlink() else 0
    layers = [_layer(root, layout, part) for part in parts]
    debian.write_image(layout, NAME, layers, debian.settings([]))


def _layer(root: Path, layout: Path, names: list[str]) -> NewLayer:
    command = ["tar", "-C", str(root), "--numeric-owner", "--xattrs", "--no-recursion", "--null", "-T", "-", "-c"]
    data = subprocess.run(command, input="\0".join(names).encode(), stdout=subprocess.PIPE, check=True).stdout
    compressor = zlib.compressobj(6, wbits=31)
    packed = compressor.compress(data) + compressor.flush()
    return NewLayer(
        write_blob(layout, f"{MEDIA}.layer.v1.tar+gzip", packed), f"sha256:{hashlib.sha256(data).hexdigest()}"
    )


# ---- who pulls


class Taken(NamedTuple):
    seconds: float
    cpu_s: float
    most_bytes: int  # the sum of resident sizes, in which what is shared counts twice


def minipod_pull(folder: Path, image: str) -> Callable[[], subprocess.Popen[bytes]]:
    environment = {**os.environ, "MINIPOD_RUN_DIR": f"{folder}/r", "MINIPOD_DATA_DIR": f"{folder}/s"}
    command = [sys.executable, "-I", str(CHECKOUT / "minipod" / "__main__.py"), "image", "pull", "-q", image]
    return lambda: subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)


def watched(start: Callable[[], subprocess.Popen[bytes]]) -> Taken:
    """Starts a process and waits for its end."""
    most, before, began = 0, _children_cpu_s(), time.monotonic()
    with start() as process:
        while True:
            try:
                status = process.wait(0.05)
                break
            except subprocess.TimeoutExpired:
                with contextlib.suppress(psutil.NoSuchProcess):
                    found = psutil.Process(process.pid)
                    most = max(
                        most, sum(process.memory_info().rss for process in [found, *found.children(recursive=True)])
                    )
    if status != 0:
        raise RuntimeError(f"minipod image pull: exit {status}")
    return Taken(time.monotonic() - began, _children_cpu_s() - before, most)


def containerd_pull(folder: Path, chroot: str, image: str) -> tuple[float, float]:
    """Seconds, and seconds of processor time of server and client."""
    folder.mkdir()
    command = ["unshare", "-m", "sh", "-c", CONTAINERD, "containerd", str(folder), chroot.rstrip("/") or "/"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as server:
        ctr = ["nsenter", "-m", "-t", str(server.pid), "chroot", chroot, "ctr"]
        try:
            deadline = time.monotonic() + 30
            while subprocess.run([*ctr, "version"], capture_output=True, check=False).returncode != 0:
                if time.monotonic() > deadline:
                    raise RuntimeError("containerd does not come up")
                time.sleep(0.1)
            before, began = _children_cpu_s() + _cpu_s(server.pid), time.monotonic()
            subprocess.run([*ctr, "images", "pull", "--plain-http", image], stdout=subprocess.DEVNULL, check=True)
            return time.monotonic() - began, _children_cpu_s() + _cpu_s(server.pid) - before
        finally:
            server.terminate()


def _children_cpu_s() -> float:
    found = os.times()
    return found.children_user + found.children_system


def _cpu_s(pid: int) -> float:
    """Of the process and of the children that it has waited for."""
    return float(sum(psutil.Process(pid).cpu_times()[:4]))
