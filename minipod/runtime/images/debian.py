"""Builds images of Debian packages, or of a root directory (layer 3): an OCI image layout of one layer.

debootstrap makes the root directory, tar the layer; both are the host's. What runs while packages are installed runs as
root in a chroot, as it does whenever Debian is installed: packages are trusted, as apt trusts them.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from minipod.errors import ImageError
from minipod.runtime.images.busybox import PATH
from minipod.runtime.images.changes import settings_of
from minipod.runtime.images.layout_writer import MEDIA, NewLayer, blob_path, write_layout
from minipod.runtime.images.manifests import architecture

MIRROR = "http://deb.debian.org/debian"
OTHERWISE = "stable"  # where the host is no Debian
#: what only apt needs, and would fetch again anyway
CLUTTER = ("var/cache/apt/archives/*.deb", "var/cache/apt/*.bin", "var/lib/apt/lists/*", "var/log/bootstrap.log")
TAR = (
    *("tar", "--one-file-system", "--sort=name", "--numeric-owner", "--xattrs", "--xattrs-include=*"),
    *("--format=posix", "--pax-option=delete=atime,delete=ctime", "-c", "."),
)
CHUNK = 1 << 20


def host_suite() -> str:
    """The host's own release where it is Debian (os-release(5)), else `stable`."""
    import platform

    try:
        found = platform.freedesktop_os_release()
    except OSError:
        return OTHERWISE
    return found.get("VERSION_CODENAME", OTHERWISE) if found.get("ID") == "debian" else OTHERWISE


def install(
    root: Path, packages: Sequence[str], suite: str, mirror: str, show: Callable[[str], None] = lambda line: None
) -> None:
    """A minimal Debian with `packages` in the directory `root`. `show` gets each line of debootstrap's.

    Raises ImageError.
    """
    # without the keyring of Debian it would continue, and check nothing
    command = ["debootstrap", "--force-check-gpg", "--variant=minbase"]
    if packages:
        command.append(f"--include={','.join(packages)}")
    command += [suite, str(root), mirror]
    last = ""
    try:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                last = line.strip() or last
                show(line.rstrip("\n"))
    except FileNotFoundError:
        raise ImageError("no debootstrap on this host; install it: apt install debootstrap") from None
    if process.returncode != 0:
        log = root / "debootstrap" / "debootstrap.log"
        if not last.startswith("E:") and log.is_file():
            last = log.read_text(errors="replace").strip().splitlines()[-1]
        raise ImageError(f"debootstrap failed: {last}")
    for pattern in CLUTTER:
        for path in root.glob(pattern):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def pack(root: Path, output: Path) -> NewLayer:
    """The directory as a gzipped layer, its blob below `output`. Raises ImageError, OSError."""
    digest, diff_id, size = hashlib.sha256(), hashlib.sha256(), 0
    compressor = _compressor()
    blobs = blob_path(output, "")
    blobs.mkdir(parents=True, exist_ok=True)
    with (
        open(blobs / "new", "wb") as blob,
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(TAR, cwd=root, stdout=subprocess.PIPE, stderr=errors) as tar,
    ):
        assert tar.stdout is not None
        while True:
            chunk = tar.stdout.read(CHUNK)
            diff_id.update(chunk)
            piece = compressor.compress(chunk) if chunk else compressor.flush()
            digest.update(piece)
            size += blob.write(piece)
            if not chunk:
                break
        if tar.wait() != 0:
            errors.seek(0)
            lines = errors.read().decode(errors="replace").strip().splitlines()
            raise ImageError(f"tar of {root} failed: {lines[-1] if lines else tar.returncode}")
    os.rename(blobs / "new", blob_path(output, digest.hexdigest()))
    descriptor: dict[str, object] = {
        "mediaType": f"{MEDIA}.layer.v1.tar+gzip",
        "digest": f"sha256:{digest.hexdigest()}",
        "size": size,
    }
    return NewLayer(descriptor, f"sha256:{diff_id.hexdigest()}")


def settings(changes: Sequence[str]) -> dict[str, object]:
    """The image's settings for its containers. Raises ImageError for changes that cannot be read."""
    try:
        return settings_of(changes, {"PATH": PATH})
    except ValueError as error:
        raise ImageError(f"--change {error}") from None


def write_image(output: Path, name: str, layers: Sequence[NewLayer], settings: dict[str, object]) -> None:
    """The layout around the layers. Raises OSError."""
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    write_layout(output, name, architecture(), settings, layers, created, "minipod image build-rootfs")


def _compressor() -> Any:
    """gzip at a middling level; isal is five times as fast as zlib, and not there on every machine."""
    try:
        from isal import isal_zlib
    except ImportError:
        import zlib

        return zlib.compressobj(6, wbits=31)
    return isal_zlib.compressobj(2, wbits=31)
