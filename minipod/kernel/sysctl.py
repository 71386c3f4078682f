"""Writing sysctls (layer 1), below /proc/sys of the calling thread's namespaces. No policy."""

from __future__ import annotations

import os
from collections.abc import Mapping

SYSCTLS = "/proc/sys"


def write(values: Mapping[str, str]) -> None:
    """Name (with slashes) -> value, in their order. Raises OSError that names the sysctl.

    A folder is looked up once for all that are in it: below /proc/sys/net a path is slower with every network
    namespace that the host has, as their entries have the same names.
    """
    folder_fd, opened = -1, ""
    try:
        for name, value in values.items():
            folder, _, last = name.rpartition("/")
            try:
                if folder != opened:
                    if folder_fd >= 0:
                        os.close(folder_fd)
                        folder_fd = -1
                    folder_fd = os.open(f"{SYSCTLS}/{folder}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                    opened = folder
                _write(folder_fd, last, value)
            except OSError as error:
                raise OSError(error.errno, f"sysctl {_shown(name)}={value}: {os.strerror(error.errno or 0)}") from None
    finally:
        if folder_fd >= 0:
            os.close(folder_fd)


def _shown(name: str) -> str:
    """As sysctl(8) writes it: with dots, unless a part has one itself."""
    return name if "." in name else name.replace("/", ".")


def _write(folder_fd: int, name: str, value: str) -> None:
    fd = os.open(name, os.O_WRONLY | os.O_CLOEXEC, dir_fd=folder_fd)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)
