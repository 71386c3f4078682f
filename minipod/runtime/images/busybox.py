"""Builds the default image (layer 3): an OCI image layout around the distribution's static busybox. Needs no root.

The same binary gives the same digest everywhere: names sorted, times zero, the layer uncompressed (compressed bytes
change with the version of zlib). Standard library only, as `rootfs/build` also runs before anything is installed.
"""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import tarfile
from pathlib import Path
from typing import Literal

from minipod.runtime.images.layout_writer import MEDIA, NewLayer, write_blob, write_layout

DEFAULT_REFERENCE = "docker.io/library/busybox:latest"
BUSYBOX_PATHS = ("/usr/bin/busybox", "/bin/busybox")
NEEDED_APPLETS = ("sh", "tar", "httpd", "wget", "nc")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
EPOCH = "1970-01-01T00:00:00Z"

#: name, uid, gid, gecos, home, shell
USERS = (
    ("root", 0, 0, "root", "/root", "/bin/sh"),
    ("daemon", 1, 1, "daemon", "/usr/sbin", "/bin/false"),
    ("bin", 2, 2, "bin", "/bin", "/bin/false"),
    ("sys", 3, 3, "sys", "/dev", "/bin/false"),
    ("sync", 4, 100, "sync", "/bin", "/bin/sync"),
    ("mail", 8, 8, "mail", "/var/spool/mail", "/bin/false"),
    ("www-data", 33, 33, "www-data", "/var/www", "/bin/false"),
    ("operator", 37, 37, "Operator", "/var", "/bin/false"),
    ("nobody", 65534, 65534, "nobody", "/home", "/bin/false"),
)
#: name, gid, members; root's supplementary groups in a pod come from here: 10 (wheel)
GROUPS = (
    ("root", 0, ""),
    ("daemon", 1, ""),
    ("bin", 2, ""),
    ("sys", 3, ""),
    ("adm", 4, ""),
    ("tty", 5, ""),
    ("disk", 6, ""),
    ("lp", 7, ""),
    ("mail", 8, ""),
    ("kmem", 9, ""),
    ("wheel", 10, "root"),
    ("cdrom", 11, ""),
    ("dialout", 18, ""),
    ("floppy", 19, ""),
    ("video", 28, ""),
    ("audio", 29, ""),
    ("tape", 32, ""),
    ("www-data", 33, ""),
    ("operator", 37, ""),
    ("utmp", 43, ""),
    ("plugdev", 46, ""),
    ("staff", 50, ""),
    ("netdev", 82, ""),
    ("users", 100, ""),
    ("nobody", 65534, ""),
)
#: path, mode, uid, gid
FOLDERS = (
    ("bin", 0o755, 0, 0),
    ("dev", 0o755, 0, 0),
    ("etc", 0o755, 0, 0),
    ("home", 0o755, 65534, 65534),
    ("proc", 0o755, 0, 0),
    ("root", 0o700, 0, 0),
    ("run", 0o755, 0, 0),
    ("sbin", 0o755, 0, 0),
    ("sys", 0o755, 0, 0),
    ("tmp", 0o1777, 0, 0),
    ("usr", 0o755, 0, 0),
    ("usr/bin", 0o755, 0, 0),
    ("usr/sbin", 0o755, 0, 0),
    ("var", 0o755, 0, 0),
    ("var/spool", 0o755, 0, 0),
    ("var/spool/mail", 0o755, 8, 8),
    ("var/www", 0o755, 33, 33),
)
#: e_machine of the ELF header → the architecture in Go's words
ELF_MACHINES = {3: "386", 40: "arm", 62: "amd64", 183: "arm64", 243: "riscv64", 22: "s390x", 21: "ppc64le"}
PT_INTERP = 3


class BuildError(Exception):
    """The image cannot be built from what this host has; says why and what to install."""


def find_busybox() -> Path:
    """The distribution's busybox. Raises BuildError."""
    for path in map(Path, BUSYBOX_PATHS):
        if path.is_file():
            return path
    raise BuildError("no busybox on this host; install it: apt install busybox-static")


def build(output: Path, busybox: Path | None = None) -> str:
    """Writes an OCI image layout to the directory `output`; returns the manifest's digest.

    Raises BuildError, OSError.
    """
    binary = busybox or find_busybox()
    program = binary.read_bytes()
    architecture = check_static(binary, program)
    layer = make_layer(program, list_applets(binary))
    written = NewLayer(
        write_blob(output, f"{MEDIA}.layer.v1.tar", layer), f"sha256:{hashlib.sha256(layer).hexdigest()}"
    )
    settings: dict[str, object] = {"Env": [f"PATH={PATH}"], "Cmd": ["sh"]}
    return write_layout(output, DEFAULT_REFERENCE, architecture, settings, [written], EPOCH, "rootfs/build")


def check_static(path: Path, program: bytes) -> str:
    """The architecture of a static ELF program (elf(5)); a dynamic one would find no loader in the image."""
    if program[:4] != b"\x7fELF":
        raise BuildError(f"{path} is no ELF program; install busybox-static")
    order: Literal["little", "big"] = "big" if program[5] == 2 else "little"

    def number(offset: int, size: int) -> int:
        return int.from_bytes(program[offset : offset + size], order)

    wide = program[4] == 2
    table = number(32, 8) if wide else number(28, 4)
    entry_size, count = (number(54, 2), number(56, 2)) if wide else (number(42, 2), number(44, 2))
    if any(number(table + i * entry_size, 4) == PT_INTERP for i in range(count)):
        raise BuildError(f"{path} is linked dynamically; install it statically linked: apt install busybox-static")
    machine = number(18, 2)
    if machine not in ELF_MACHINES:
        raise BuildError(f"{path}: unknown machine {machine} in its ELF header")
    return ELF_MACHINES[machine]


def list_applets(binary: Path) -> list[str]:
    """Where busybox wants its links, without leading slash: bin/sh, usr/bin/wget. Raises BuildError."""
    try:
        listing = subprocess.run([binary, "--list-full"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise BuildError(f"{binary} --list-full: {error}") from error
    places = sorted({line.strip().lstrip("/") for line in listing.splitlines() if line.strip()})
    names = {os.path.basename(place) for place in places}
    missing = [name for name in NEEDED_APPLETS if name not in names]
    if missing:
        raise BuildError(f"{binary} lacks the applets {', '.join(missing)}; install busybox-static")
    return [place for place in places if place.startswith(("bin/", "sbin/", "usr/bin/", "usr/sbin/"))]


def make_layer(program: bytes, applets: list[str]) -> bytes:
    """The root file system as a tar archive: each applet is a hard link to busybox, in /bin and where it is listed.

    Symbolic links would do as well, but a file system needs an inode for each: 125 ms of 200 for the whole image.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path, mode, uid, gid in FOLDERS:
            add(tar, path, tarfile.DIRTYPE, mode, uid=uid, gid=gid)
        for path, mode, text in etc_files():
            add(tar, path, tarfile.REGTYPE, mode, content=text.encode())
        add(tar, "bin/busybox", tarfile.REGTYPE, 0o755, content=program)
        in_bin = {f"bin/{os.path.basename(place)}" for place in applets}
        for place in sorted({*applets, *in_bin} - {"bin/busybox"}):
            add(tar, place, tarfile.LNKTYPE, 0o755, link="bin/busybox")
    return buffer.getvalue()


def etc_files() -> list[tuple[str, int, str]]:
    """Path, mode, text of the files below /etc; hosts, hostname and resolv.conf are each pod's own."""
    passwd = "".join(f"{n}:x:{uid}:{gid}:{gecos}:{home}:{shell}\n" for n, uid, gid, gecos, home, shell in USERS)
    group = "".join(f"{n}:x:{gid}:{members}\n" for n, gid, members in GROUPS)
    shadow = "".join(f"{user[0]}:*:::::::\n" for user in USERS)
    return [("etc/group", 0o644, group), ("etc/passwd", 0o644, passwd), ("etc/shadow", 0o600, shadow)]


def add(
    tar: tarfile.TarFile,
    path: str,
    kind: bytes,
    mode: int,
    *,
    uid: int = 0,
    gid: int = 0,
    link: str = "",
    content: bytes = b"",
) -> None:
    member = tarfile.TarInfo(path)
    member.type, member.mode, member.linkname, member.size = kind, mode, link, len(content)
    member.uid, member.gid = uid, gid
    tar.addfile(member, io.BytesIO(content))
