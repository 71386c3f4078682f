"""For scripts/vm-test and scripts/chroot-test: saying what is done, running commands, places filled only once."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
#: not part of the working tree that is tested
LEFT_OUT = {".git", ".venv", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis"}
#: a package of tests as a program: `python3 -m tests.vm` is scripts/vm-test
PROGRAM = f"{Path(sys.argv[0]).parent.name}-test"
SEARCH_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


class DidNotRunError(Exception):
    """The tests did not get to run: what failed and what to do, in one line."""


def say(text: str) -> None:
    print(f"{PROGRAM}: {text}", file=sys.stderr, flush=True)


def program(name: str) -> str:
    found = shutil.which(name, path=SEARCH_PATH)
    if found is None:
        raise DidNotRunError(f"{name} is not installed")
    return found


def run(*command: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    """Runs a command to its end and returns what it wrote; DidNotRunError with its last lines when it fails."""
    done = subprocess.run(
        [program(str(command[0])), *map(str, command[1:])], cwd=cwd, env=os.environ | (env or {}), text=True,
        capture_output=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    if done.returncode != 0:
        words = (done.stderr.strip() or done.stdout.strip()).splitlines()[-5:]
        raise DidNotRunError(f"{command[0]} failed with status {done.returncode}: {' | '.join(words)}")
    return done.stdout


def install_tools(tools: dict[str, str]) -> None:
    """Installs, as root, the Debian packages (→ a program of each) that are missing; DidNotRunError where it can't."""
    missing = [package for package, name in tools.items() if shutil.which(name, path=SEARCH_PATH) is None]
    if not missing:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise DidNotRunError(f"install {' '.join(missing)} (as root on Debian, scripts/{PROGRAM} does it by itself)")
    say(f"installing Debian packages: {' '.join(missing)}")
    install = ("apt-get", "-o", "DPkg::Lock::Timeout=120", "install", "-y", "--no-install-recommends", *missing)
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        run(*install, env=quiet)
    except DidNotRunError:  # the package lists may be old, or not there yet
        run("apt-get", "-o", "DPkg::Lock::Timeout=120", "update")
        run(*install, env=quiet)


def cache_folder() -> Path:
    """Where what was downloaded and built is kept between runs."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "minipod-vm"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One at a time fills the folder; a second waits."""
    with open(folder / "lock", "w", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def filled(place: Path) -> Iterator[Path]:
    """A new folder that becomes `place` when the body has filled it; after an error nothing is left."""
    fresh = Path(tempfile.mkdtemp(prefix=f"{place.name}.", dir=place.parent))
    try:
        yield fresh
        fresh.rename(place)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise


def ext4(image: Path, content: Path, free_bytes: int = 0) -> None:
    """Makes a file system image of a folder or a tar archive, with so much room besides; needs no loop device."""
    used = content.stat().st_size if content.is_file() else _size_of(content)
    size_kib = (used * 5 // 4 + free_bytes) // 1024 + 16384
    run("mke2fs", "-q", "-t", "ext4", "-F", "-O", "^has_journal", "-m", "0", "-d", content, image, f"{size_kib}k")


def _size_of(folder: Path) -> int:
    """Bytes in whole blocks, an inode for each."""
    sizes = (os.lstat(os.path.join(top, name)).st_size for top, _, names in os.walk(folder) for name in names)
    return sum((size + 4095) // 4096 * 4096 + 512 for size in sizes)
