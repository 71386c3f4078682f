"""Debian's kernels for the VM: downloaded from any release with an apt configuration of its own, never installed."""

from __future__ import annotations

import lzma
import os
import re
import shutil
from pathlib import Path

from tests.tools import DidNotRunError, ext4, filled, run, say

#: releases that `--kernel` takes → what they had when this was written
RELEASES = {"bookworm": "6.1", "trixie": "6.12", "sid": "newest"}
MIRROR = os.environ.get("MINIPOD_VM_MIRROR", "http://deb.debian.org/debian")
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
META_PACKAGE = "linux-image-cloud-amd64"
#: what is needed to find and mount the root file system, before there are modules to load by name
BOOT_MODULES = ("virtio_pci", "virtio_blk", "ext4")


class Kernel:
    """A kernel in the cache: `image` to boot, `modules` as an ext4 disk, `boot_modules` in loading order."""

    def __init__(self, folder: Path) -> None:
        self.image = folder / "vmlinuz"
        self.modules = folder / "modules.ext4"
        self.boot_modules = sorted((folder / "boot").iterdir())
        self.version = (folder / "version").read_text()


def kernel_of(release: str, cache: Path) -> Kernel:
    """The release's cloud kernel, downloaded if it is not in the cache."""
    place = cache / f"kernel-{release}"
    if not place.exists():
        with filled(place) as fresh:
            _download(release, fresh)
    return Kernel(place)


def _download(release: str, folder: Path) -> None:
    apt = _apt(release, folder / "apt")
    say(f"downloading {release}'s kernel from {MIRROR}")
    run("apt-get", *apt, "-q", "update")
    listing = run("apt-cache", *apt, "depends", "--recurse", "--important", META_PACKAGE)
    packages = sorted(set(re.findall(r"^linux-(?:image|binary|modules)-\d\S*", listing, re.MULTILINE)))
    if not packages:
        raise DidNotRunError(f"{META_PACKAGE} of {release} depends on no kernel at {MIRROR}")
    run("apt-get", *apt, "-q", "download", *packages, cwd=folder)
    for package in folder.glob("*.deb"):
        run("dpkg-deb", "-x", package, folder / "tree")
        package.unlink()
    _arrange(folder)
    for used in ("apt", "tree"):
        shutil.rmtree(folder / used)


def _apt(release: str, folder: Path) -> tuple[str, ...]:
    """Options of an apt that knows one release and has nothing installed; the host's is not touched."""
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True)
    (folder / "status").touch()
    (folder / "sources.list").write_text(f"deb [arch=amd64 signed-by={KEYRING}] {MIRROR} {release} main\n")
    settings = {
        "Dir::Etc::SourceList": folder / "sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State::Lists": folder / "lists",
        "Dir::State::status": folder / "status",
        "Dir::Cache": folder / "cache",
        "APT::Sandbox::User": "root",  # the cache may be in a home that _apt can't enter
        "APT::Architecture": "amd64",
        "Acquire::Languages": "none",
    }
    return tuple(word for key, value in settings.items() for word in ("-o", f"{key}={value}"))


def _arrange(folder: Path) -> None:
    """From the unpacked packages to what a `Kernel` has."""
    tree = folder / "tree"
    libraries = next((path for path in (tree / "usr/lib/modules", tree / "lib/modules") if path.is_dir()), None)
    images = [*tree.glob("boot/vmlinuz-*"), *tree.glob("usr/lib/modules/*/vmlinuz")]
    if libraries is None or not images:
        raise DidNotRunError("the kernel's packages have no vmlinuz or no modules")
    version = next(libraries.iterdir()).name
    (folder / "version").write_text(version)
    shutil.copy(images[0], folder / "vmlinuz")
    run("depmod", "-b", libraries.parents[1], version)
    _copy_boot_modules(libraries / version, folder / "boot")
    ext4(folder / "modules.ext4", libraries)


def _copy_boot_modules(modules: Path, target: Path) -> None:
    """BOOT_MODULES with what they need, uncompressed and numbered in the order in which to load them."""
    needs = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        path, _, rest = line.partition(":")
        needs[_module_name(path)] = (path, rest.split())
    order: dict[str, str] = {}

    def add(name: str) -> None:
        if name in order or name not in needs:  # not there: built into the kernel
            return
        path, required = needs[name]
        for other in required:
            add(_module_name(other))
        order[name] = path

    # crc32c: ext4 asks for it by its algorithm's name, which modules.dep does not tell
    for name in ("crc32c_generic", "crc32c_cryptoapi", *BOOT_MODULES):
        add(name)
    target.mkdir()
    for number, (name, path) in enumerate(order.items()):
        content = (modules / path).read_bytes()
        if path.endswith(".xz"):
            content = lzma.decompress(content)
        (target / f"{number:02}-{name}.ko").write_bytes(content)


def _module_name(path: str) -> str:
    return os.path.basename(path).partition(".ko")[0].replace("-", "_")
