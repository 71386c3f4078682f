"""What the host is, before and after: files, devices, settings, mounts, network, cgroups, processes."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import psutil

from tests import leaks
from tests.attacks.canary import facts_of, picture_of_host

#: with what is in the files; the other folders' files are known by their inode, size, owner, mode and times
READ = ("/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin", "/bin", "/sbin", "/etc")
LISTED = ("/usr", "/lib", "/lib64", "/boot")
NAMED = ("/", "/run", "/var", "/var/lib", "/var/log", "/home", "/usr", "/etc")
#: what other people's minipods have for a while
OTHERS = re.compile(r"\bmp[0-9a-f]{6}|/tmp/|/var/tmp/|/run/netns")


def picture() -> leaks.Picture:
    """One entry for everything that could be changed or left: a key → its facts, as text."""
    found = {f"host {key}": str(value) for key, value in picture_of_host().items()}
    found |= files()
    found |= {f"names in {folder}": " ".join(leaks.list_folder(folder)) for folder in NAMED}
    for part in (leaks.mounts(), leaks.named_netns(), leaks.links(), leaks.nft_tables(), leaks.cgroups(), services()):
        found.update(part)
    return found


def files() -> leaks.Picture:
    """Of a program in /usr/bin only the first entry counts: /bin may lead there."""
    found: leaks.Picture = {}
    for folder in (*READ, *LISTED):
        for path in walk(os.path.realpath(folder)):
            if f"file {path}" not in found:
                found[f"file {path}"] = str(facts_of(Path(path))) if folder in READ else status_of(path)
    return found


def walk(top: str) -> Iterator[str]:
    """Every file below; compiled Python comes and goes with whatever Python runs."""
    for folder, folders, names in os.walk(top):
        folders[:] = [name for name in folders if name != "__pycache__"]
        yield from (os.path.join(folder, name) for name in names)


def status_of(path: str) -> str:
    found = os.lstat(path)
    kept = (found.st_ino, found.st_size, stat.filemode(found.st_mode), found.st_uid, found.st_gid)
    return f"{kept} {found.st_mtime_ns} {found.st_ctime_ns}"


def services() -> leaks.Picture:
    """The children of init: what others have started for long."""
    found = {}
    for process in psutil.process_iter(["ppid", "create_time"]):
        if process.info["ppid"] == 1 and process.pid != leaks.KTHREADD:
            text = f"process {process.pid} ({leaks.command_of(process.pid)})"
            found[f"service {process.pid} {process.info['create_time']}"] = text
    return found


def differences(before: leaks.Picture, now: leaks.Picture, shared: bool) -> list[str]:
    """`shared`: others work here too, and what their minipods make and take away is not compared."""
    found = []
    for key in sorted(before.keys() | now.keys()):
        was, has = before.get(key), now.get(key)
        if was == has or (shared and (key.startswith("service ") or OTHERS.search(f"{key} {was} {has}"))):
            continue
        if was is None:
            found.append(f"new: {key}: {has}")
        else:
            found.append(f"gone: {key}: {was}" if has is None else f"changed: {key}: was {was}, is {has}")
    return found
