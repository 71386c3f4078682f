"""A bare Debian in a folder, made once, and a copy of it that has the checkout and the host's ways to the network."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from minipod.errors import ImageError
from minipod.runtime.images.debian import MIRROR, install
from tests.leaks import mounts
from tests.tools import CHECKOUT, LEFT_OUT, DidNotRunError, filled, run, say

#: what README asks for (and what git needs for https)
BARE = ("python3", "git", "ca-certificates")
#: where the checkout is in the chroot
INSIDE = "/src"
NETWORK_FILES = ("/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs/ca-certificates.crt")
NETWORK_VARIABLES = re.compile(r"(?i)PIP_(?!FIND_LINKS).*|(https?|ftp|all|no)_proxy")
TEST_VARIABLES = ("MINIPOD_TEST_SHARED_HOST", "MINIPOD_TEST_SLOWNESS")
APT_SETTINGS = re.compile(r"Acquire::(Check-|https?::Proxy)")


def bare_debian(suite: str, folder: Path) -> Path:
    """The suite's minimal Debian with what README asks for, made where it is not there. Nothing is changed in it."""
    place = folder / suite
    if not place.exists():
        say(f"{suite}: installing it with debootstrap in {place}")
        with filled(place) as fresh:
            fresh.chmod(0o755)
            try:
                install(fresh, BARE, suite, os.environ.get("MINIPOD_TEST_MIRROR", MIRROR))
            except ImageError as error:
                raise DidNotRunError(f"{suite}: {error}") from None
    return place


@contextlib.contextmanager
def copy_of(bare: Path, keep: bool) -> Iterator[Path]:
    """A copy with the working tree as it is; `keep`: left for the next run, which has less to install."""
    place = bare.with_name(f"{bare.name}-tested")
    if place.exists() and not keep:
        remove(place)
    if not place.exists():
        say(f"copying {bare} to {place}")
        with filled(place) as fresh:
            run("cp", "--archive", "--reflink=auto", f"{bare}/.", fresh)
    prepare(place)
    try:
        yield place
    finally:
        if not keep:
            remove(place)


def prepare(root: Path) -> None:
    """No link of the chroot is followed: an absolute one would lead to the host's file."""
    for name in NETWORK_FILES:
        if os.path.exists(name):
            replace(root / name[1:], Path(name).read_bytes())
    replace(root / "etc/apt/apt.conf.d/90host", apt_settings().encode())
    # installing a package starts no service: invoke-rc.d(8)
    replace(root / "usr/sbin/policy-rc.d", b"#!/bin/sh\nexit 101\n", mode=0o755)
    source = root / INSIDE[1:]
    source.mkdir(exist_ok=True)
    for path in source.iterdir():
        if path.name not in LEFT_OUT:  # the virtual environment stays
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    shutil.copytree(CHECKOUT, source, symlinks=True, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*LEFT_OUT))


def replace(path: Path, content: bytes, mode: int = 0o644) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    path.chmod(mode)


def apt_settings() -> str:
    """How the host's apt reaches its mirror, and what it makes of dates."""
    if shutil.which("apt-config") is None:
        return ""
    lines = run("apt-config", "dump", "Acquire").splitlines()
    return "".join(f"{line}\n" for line in lines if APT_SETTINGS.match(line))


def environment() -> dict[str, str]:
    """That of a fresh login, with the ways to the network and what is set for the tests."""
    kept = {name: value for name, value in os.environ.items() if NETWORK_VARIABLES.fullmatch(name)}
    kept |= {name: os.environ[name] for name in TEST_VARIABLES if name in os.environ}
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return kept | {"PATH": path, "HOME": "/root", "LANG": "C.UTF-8"}


def remove(place: Path) -> None:
    """Never while something of the host is mounted in there."""
    inside = [text for text in mounts().values() if f"{place}/" in text]
    if inside:
        raise DidNotRunError(f"{place} is not removed, there are mounts in it: {inside[0]}")
    shutil.rmtree(place)
