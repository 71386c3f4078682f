"""The VM's root file systems: a small Debian with Python and what the tests need, as ext4 images in the cache."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from pathlib import Path

from tests.tools import CHECKOUT, ext4, filled, run, say
from tests.vm.kernel import MIRROR

RELEASE = "bookworm"
#: besides what scripts/setup installs
PACKAGES = ("e2fsprogs", "iproute2", "kmod", "mount", "nftables", "procps", "util-linux")
#: kind of image -> what it has more
KINDS = {"root": ("nfs-kernel-server",), "systemd": ("systemd", "systemd-sysv")}
CONSTRAINTS = CHECKOUT / "scripts/constraints.txt"
VENV = "/opt/venv"
FREE_BYTES = 3 << 30  # sparse: what the tests do not write takes no room
CA_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


def root_image(cache: Path, kind: str) -> Path:
    """The image of these packages and versions, made if it is not in the cache; older ones of the kind are removed."""
    packages = _packages(kind)
    place = cache / f"{kind}-{_digest(packages)}"
    if not place.exists():
        with filled(place) as fresh:
            _make(packages, fresh)
        for other in cache.glob(f"{kind}-*"):
            if other != place:
                shutil.rmtree(other)
    return place / "root.ext4"


def _packages(kind: str) -> list[str]:
    """Those of scripts/setup, so that there is one list, and the VM's own."""
    wanted = re.search(r'^packages="([^"]*)"', (CHECKOUT / "scripts/setup").read_text(), re.MULTILINE)
    assert wanted is not None, "scripts/setup names its packages"
    return sorted({*wanted.group(1).split(), *PACKAGES, *KINDS[kind]})


def _digest(packages: list[str]) -> str:
    """Of all that decides what is in the image."""
    inputs = (" ".join(packages), CONSTRAINTS.read_text(), Path(__file__).read_text())
    return hashlib.sha256("\n".join(inputs).encode()).hexdigest()[:12]


def _make(packages: list[str], folder: Path) -> None:
    """mmdebstrap, then a virtual environment with the tested versions made inside."""
    say(f"building the root image: {RELEASE} with {' '.join(packages)}")
    archive = folder / "root.tar"
    copy_certificates = (
        f'mkdir -p "$1/etc/ssl/certs" && cp {CA_CERTIFICATES} "$1{CA_CERTIFICATES}"'
        if CA_CERTIFICATES.exists()
        else ":"
    )
    pip = f"{VENV}/bin/python3 -m pip install --quiet --no-input --no-cache-dir"
    hooks = [
        copy_certificates,
        f'cp {CONSTRAINTS} "$1/opt/constraints.txt"',
        f'chroot "$1" python3 -m venv {VENV}',
        f'chroot "$1" env -u PIP_FIND_LINKS {pip} --requirement /opt/constraints.txt',
        'printf "minipod-vm\\n" >"$1/etc/hostname"',
        'printf "127.0.0.1 localhost\\n127.0.1.1 minipod-vm\\n::1 localhost ip6-localhost\\n" >"$1/etc/hosts"',
    ]
    run(
        "mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(packages)}",
        *(f"--customize-hook={hook}" for hook in hooks), RELEASE, archive, MIRROR,
        env={"TMPDIR": os.environ.get("TMPDIR", "/var/tmp")},
    )  # fmt: skip
    _to_ext4(archive, folder)


def _to_ext4(archive: Path, folder: Path) -> None:
    """By way of a folder: mke2fs reads archives only from 1.47.1 on."""
    tree = folder / "tree"
    tree.mkdir()
    run("tar", "-xpf", archive, "-C", tree, "--exclude=./dev/*")
    archive.unlink()
    ext4(folder / "root.ext4", tree, FREE_BYTES)
    shutil.rmtree(tree)
