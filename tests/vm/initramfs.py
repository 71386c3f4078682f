"""The VM's initramfs: busybox, the modules to reach the disks, and the two scripts; made anew for each run."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from pathlib import Path

from tests.tools import program
from tests.vm.kernel import Kernel

HERE = Path(__file__).parent
REGULAR, FOLDER, CHARACTER_DEVICE = 0o100000, 0o040000, 0o020000
#: what continues in the root image: a first process, or a service of systemd
GUESTS = ("guest", "systemd-guest", "minipod-vm.service")
FOLDERS = ("bin", "dev", "modules", "proc", "root", "run")


def initramfs(kernel: Kernel) -> bytes:
    """A compressed cpio archive (Documentation/driver-api/early-userspace/buffer-format.rst)."""
    entries = [_entry(name, FOLDER | 0o755) for name in FOLDERS]
    entries += [
        _entry("dev/console", CHARACTER_DEVICE | 0o600, device=(5, 1)),
        _entry("bin/busybox", REGULAR | 0o755, Path(program("busybox")).read_bytes()),
        _entry("init", REGULAR | 0o755, (HERE / "init").read_bytes()),
        *(_entry(name, REGULAR | 0o755, (HERE / name).read_bytes()) for name in GUESTS),
    ]
    entries += [
        _entry(f"modules/{module.name}", REGULAR | 0o644, module.read_bytes()) for module in kernel.boot_modules
    ]
    return gzip.compress(_archive(entries), 1)


def _archive(entries: Iterable[bytes]) -> bytes:
    return b"".join(entries) + _entry("TRAILER!!!", 0)


def _entry(name: str, mode: int, content: bytes = b"", device: tuple[int, int] = (0, 0)) -> bytes:
    """One file in the "new" format: hexadecimal fields, then name and content, each padded to four bytes."""
    fields = (0, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(name) + 1, 0)
    header = "070701" + "".join(f"{field:08x}" for field in fields)
    return _padded(header.encode() + name.encode() + b"\0") + _padded(content)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
