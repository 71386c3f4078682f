"""What has to be right before the agent begins (layer 5): root, folders, the spawner's head start. Imports little."""

from __future__ import annotations

import contextlib
import os
import socket

from minipod import __version__
from minipod.errors import HostError
from minipod.paths import Paths


def check_host(paths: Paths) -> None:
    """Makes the folders. Raises HostError, UsageError with the remedy."""
    paths.check_length()
    if os.geteuid() != 0:
        raise HostError("the agent needs root: it makes namespaces, mounts and cgroups: use sudo")
    for option, folder, mode in (("--root", paths.root, 0o711), ("--state", paths.state, 0o711)):
        try:
            os.makedirs(folder, mode=mode, exist_ok=True)
        except OSError as error:
            raise HostError(f"{folder}: cannot be made: {_words(error)}: choose another {option}") from error
        _check_writable(option, folder)


def _check_writable(option: str, folder: str) -> None:
    """By writing: a full disk and a read-only mount are told by nothing else."""
    probe = f"{folder}/.probe-{os.getpid()}"
    try:
        fd = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, b"\0" * 512)
        finally:
            os.close(fd)
            os.unlink(probe)
    except OSError as error:
        raise HostError(f"{folder}: cannot be written: {_words(error)}: choose another {option}") from error


def _words(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def begin_spawner(paths: Paths) -> None:
    """Starts the spawner unless one listens: its start-up then runs beside our imports. `Runtime.open` connects."""
    path = spawner_socket(paths)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        try:
            probe.connect(path)
        except OSError:
            from minipod.runtime.spawner.start import start_spawner

            start_spawner(path, f"{paths.root}/exits")


def boot_id() -> str:
    """Differs after every boot."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def spawner_socket(paths: Paths) -> str:
    """One spawner per version: a newer agent starts its own."""
    return f"{paths.root}/spawners/{__version__}.sock"


def notify_systemd(state: str) -> None:
    """sd_notify(3) by hand: one datagram to where NOTIFY_SOCKET says; nothing without it."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(state.encode(), address)
