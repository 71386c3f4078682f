"""What an attack must neither read nor change: a secret outside of every container, and the host's own files."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.leaks import CGROUP, read

Facts = dict[str, object]

#: read or compared, never written: what escapes of other runtimes have changed
HOST_FILES = ("/bin/sh", "/bin/cat", "/bin/cp", "/bin/tar", "/etc/passwd", "/etc/hosts", "/etc/ld.so.preload",
              "/usr/bin/busybox", os.path.realpath(sys.executable))  # fmt: skip
HOST_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/tty", "/dev/ptmx", "/dev/pts/ptmx")
HOST_SETTINGS = ("kernel/core_pattern", "kernel/hostname", "kernel/domainname", "kernel/modprobe", "kernel/hotplug",
                 "kernel/sysrq", "vm/overcommit_memory", "fs/binfmt_misc/status", "net/ipv4/conf/all/route_localnet",
                 "net/ipv4/conf/default/route_localnet")  # fmt: skip


class Canary:
    """A folder with `secret` (mode 0600) and a decoy `ptmx`; whatever is printed is looked through for the secret.

    `give_to_read()` for a test that hands the file to the container itself: then only a change counts.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "secret"
        self.secret = f"secret-{secrets.token_hex(16)}"
        self._may_be_read = False
        self._heard_at: list[str] = []
        for name, text in (("secret", f"{self.secret}\n"), ("ptmx", "a decoy\n")):
            (folder / name).write_text(text)
            (folder / name).chmod(0o600)
        (folder / "sub").mkdir(mode=0o700)
        for path in self._paths():
            os.utime(path, (0, 1_000_000_000))  # so that relatime notes the first read
        self._before = self._picture()

    def give_to_read(self) -> Path:
        self._may_be_read = True
        return self.file

    def hear(self, text: str | bytes, where: str = "output") -> None:
        """Remembers whether the secret is in something that a container could have written."""
        if self.secret in (text.decode(errors="replace") if isinstance(text, bytes) else text):
            self._heard_at.append(where)

    def harm(self) -> list[str]:
        """What has happened to it, one line each; empty: nothing."""
        now = self._picture()
        found = [] if self._may_be_read else [f"the secret is in: {where}" for where in self._heard_at]
        for path in sorted(self._before.keys() | now.keys()):
            before, after = self._before.get(path, {}), now.get(path, {})
            changes = [key for key in before | after if before.get(key) != after.get(key)]
            if self._may_be_read and changes == ["atime_ns"]:
                continue
            found += [f"{path}: {key} was {before.get(key)}, is {after.get(key)}" for key in changes]
        return found

    def _paths(self) -> list[Path]:
        return [self.folder, *sorted(self.folder.rglob("*"))]

    def _picture(self) -> dict[str, Facts]:
        return {str(path): facts_of(path) | self._read_at(path) for path in self._paths()}

    def _read_at(self, path: Path) -> Facts:
        found = os.lstat(path)  # a folder's is changed by listing it here
        return {"atime_ns": found.st_atime_ns} if stat.S_ISREG(found.st_mode) else {}


@contextmanager
def new_canary() -> Iterator[Canary]:
    folder = Path(tempfile.mkdtemp(prefix="canary", dir="/tmp"))
    try:
        yield Canary(folder)
    finally:
        shutil.rmtree(folder)


def facts_of(path: Path) -> Facts:
    """All that lstat(2) knows but the access time, and what is in a regular file."""
    found = os.lstat(path)
    facts: Facts = {
        name: getattr(found, f"st_{name}")
        for name in ("mode", "uid", "gid", "ino", "dev", "nlink", "rdev", "mtime_ns", "ctime_ns")
    }
    if stat.S_ISREG(found.st_mode):
        fd = os.open(path, os.O_RDONLY | os.O_NOATIME)
        with open(fd, "rb") as file:
            facts["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
    return facts


def picture_of_host() -> dict[str, object]:
    """Files, devices and settings of the host that no pod may change."""
    picture: dict[str, object] = {}
    for name in HOST_FILES:
        if os.path.exists(name):
            found = os.stat(name)
            picture[name] = (found.st_ino, found.st_size, found.st_mode, found.st_uid, found.st_gid, found.st_mtime_ns)
    for name in HOST_DEVICES:
        if os.path.exists(name):
            found = os.stat(name)
            picture[name] = (found.st_ino, found.st_rdev, found.st_mode, found.st_uid, found.st_gid)
    for name in HOST_SETTINGS:
        picture[name] = read(f"/proc/sys/{name}")
    for pattern in ("release_agent", "*/release_agent", "*/notify_on_release"):
        picture.update({str(path): read(str(path)) for path in CGROUP.glob(pattern)})
    for line in read("/proc/self/mountinfo").decode().splitlines():
        fields = line.split()
        if fields[4].count("/") == 1 or fields[4].startswith(("/sys/", "/dev/", "/proc/")):  # not those of other tests
            picture[f"mount {fields[0]} {fields[4]}"] = line
    return picture


def restore_devices(picture: dict[str, object]) -> None:
    """The host goes on with its /dev/null, also after an attack that succeeded."""
    for name in HOST_DEVICES:
        if isinstance(before := picture.get(name), tuple):
            _, _, mode, uid, gid = before
            found = os.stat(name)
            if (found.st_mode, found.st_uid, found.st_gid) != (mode, uid, gid):
                os.chown(name, uid, gid)
                os.chmod(name, stat.S_IMODE(mode))
