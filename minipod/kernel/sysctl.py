"""Writing sysctls (layer 1), below /proc/sys of the calling thread's namespaces. No policy."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress

from minipod.kernel import mount

SYSCTLS = "/proc/sys"


def write(values: Mapping[str, str], *, missing_ok: bool = False) -> None:
    """Name (with slashes) -> value, in their order; a directory is looked up once. Raises OSError that names a sysctl.

    `missing_ok`: those that this kernel lacks are passed over.
    """
    start_fd, top = _start()
    folder_fd, opened = -1, ""
    try:
        for name, value in values.items():
            folder, _, last = name.rpartition("/")
            try:
                if folder != opened:
                    if folder_fd >= 0:
                        os.close(folder_fd)
                        folder_fd, opened = -1, ""
                    folder_fd = os.open(f"{top}/{folder}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=start_fd)
                    opened = folder
                _write(folder_fd, last, value)
            except OSError as error:
                if missing_ok and isinstance(error, FileNotFoundError):
                    continue
                raise OSError(error.errno, f"sysctl {_shown(name)}={value}: {os.strerror(error.errno or 0)}") from None
    finally:
        for fd in (folder_fd, -1 if start_fd is None else start_fd):
            if fd >= 0:
                os.close(fd)


def _start() -> tuple[int | None, str]:
    """Where paths begin: a directory or none, and the first part of the path.

    A procfs keeps an entry `net/ipv4` for every network namespace in which that path was looked up: with a thousand
    pods each look-up compares a thousand of them, several times. A new one has none, and takes 0.1 ms.
    """
    if SYSCTLS == "/proc/sys":
        with suppress(OSError):  # without CAP_SYS_ADMIN
            return mount.new_mount("proc"), "sys"
    return None, SYSCTLS


def _shown(name: str) -> str:
    """As sysctl(8) writes it: with dots, unless a part has one itself."""
    return name if "." in name else name.replace("/", ".")


def _write(folder_fd: int, name: str, value: str) -> None:
    fd = os.open(name, os.O_WRONLY | os.O_CLOEXEC, dir_fd=folder_fd)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)
