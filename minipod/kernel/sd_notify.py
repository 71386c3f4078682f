"""A service's messages to the service manager that started it (layer 1): sd_notify(3), sd_listen_fds(3),
sd_watchdog_enabled(3), and which unit of systemd it is (systemd.exec(5)). Formats, sends and parses; no policy.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence

#: what a service manager sets for a service; no child of the service may have them
VARIABLES = (
    "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES",
    "INVOCATION_ID", "SYSTEMD_EXEC_PID",
)  # fmt: skip
READY, STOPPING, ALIVE = "READY=1", "STOPPING=1", "WATCHDOG=1"
FIRST_FD = 3  # SD_LISTEN_FDS_START
NAME_BYTES = 255  # of a stored descriptor (FDNAME_MAX in systemd's src/basic/fd-util.h)
FDS_IN_A_MESSAGE = 253  # SCM_MAX_FD
_SEND_S = 1.0


class StoredFd:
    """A descriptor from the service manager, open in this process, with its name: that it was stored under, or that of
    a socket unit."""

    __slots__ = ("fd", "name")

    def __init__(self, name: str, fd: int) -> None:
        self.name = name
        self.fd = fd


class ServiceManager:
    """Where to report to; without a service manager nothing is sent.

    `watchdog_s`: the service is restarted unless `ALIVE` is sent as often; 0: no watchdog. `stored`: the descriptors
    that an earlier process of the service has stored, the caller's own. `sockets`: those that it listens on for the
    service (socket activation). `unit`: that of the system's systemd which this process is; empty: none.
    """

    __slots__ = ("_address", "sockets", "stored", "unit", "watchdog_s")

    def __init__(
        self,
        address: str = "",
        watchdog_s: float = 0.0,
        stored: Sequence[StoredFd] = (),
        sockets: Sequence[StoredFd] = (),
        unit: str = "",
    ) -> None:
        self._address = address
        self.watchdog_s = watchdog_s
        self.stored = stored
        self.sockets = sockets
        self.unit = unit

    @classmethod
    def of_this_process(cls) -> ServiceManager:
        """As the environment names it. Call it once, before descriptors are closed. No child gets the stored ones."""
        pid = os.getpid()
        passed = [found for found in stored_fds(os.environ, pid) if os.path.exists(f"/proc/self/fd/{found.fd}")]
        for found in passed:
            os.set_inheritable(found.fd, False)
        sockets = [found for found in passed if listens(found.fd)]
        stored = [found for found in passed if found not in sockets]
        with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
            unit = unit_of(os.environ, pid, file.read())
        return cls(address_of(os.environ), watchdog_s(os.environ, pid), stored, sockets, unit)

    def __bool__(self) -> bool:
        return bool(self._address)

    def notify(self, *lines: str, fds: Sequence[int] = (), timeout_s: float = _SEND_S) -> bool:
        """Sends the lines as one datagram. False where there is no service manager, or it did not take the message."""
        if not self._address:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.settimeout(timeout_s)
                sock.connect(self._address)
                socket.send_fds(sock, ["\n".join(lines).encode()], list(fds))
        except OSError:
            return False
        return True

    def store(self, name: str, fds: Sequence[int]) -> bool:
        """Stores copies of descriptors (at most FDS_IN_A_MESSAGE) under a name, until `remove` or the service's stop.

        The next process of the service has them as `stored`. A service manager polls what it stores and drops a pipe
        that all writers have closed, with what is unread in it: FDPOLL=0 prevents that (systemd 246).
        """
        return self.notify("FDSTORE=1", f"FDNAME={checked_name(name)}", "FDPOLL=0", fds=fds, timeout_s=0)

    def remove(self, name: str) -> bool:
        """Removes all descriptors of that name from the store."""
        return self.notify("FDSTOREREMOVE=1", f"FDNAME={checked_name(name)}", timeout_s=0)


def status(text: str) -> str:
    """The line that `systemctl status` shows."""
    return f"STATUS={' '.join(text.split())}"


def checked_name(name: str) -> str:
    """Raises ValueError for a name that a service manager would replace by "stored"."""
    if not 0 < len(name) <= NAME_BYTES or ":" in name or not (name.isascii() and name.isprintable()):
        raise ValueError(f"{name!r}: not a name for stored descriptors: {NAME_BYTES} printable characters, no colon")
    return name


def address_of(environ: Mapping[str, str]) -> str:
    """The socket's address; empty where there is none, or none of the unix domain (a VM's `vsock:`)."""
    address = environ.get("NOTIFY_SOCKET", "")
    if address.startswith("@"):
        return "\0" + address[1:]
    return address if address.startswith("/") else ""


def unit_of(environ: Mapping[str, str], pid: int, groups: str) -> str:
    """The service of systemd that this process is the main process of. `groups`: the text of its /proc/PID/cgroup.

    Every process below a service has INVOCATION_ID, a shell of a log-in may: that systemd itself started this one is
    in SYSTEMD_EXEC_PID (systemd 248), or where a wrapper did, in NOTIFY_SOCKET. A user's systemd is not asked for.
    """
    if not environ.get("INVOCATION_ID"):
        return ""
    if environ.get("SYSTEMD_EXEC_PID") != str(pid) and not environ.get("NOTIFY_SOCKET"):
        return ""
    for line in groups.splitlines():
        hierarchy, _, path = line.partition("::" if line.startswith("0:") else ":name=systemd:")
        parts = path.strip().split("/") if hierarchy.isdigit() else []
        if any(part.startswith("user@") for part in parts):
            return ""
        if parts and (found := next((part for part in reversed(parts) if part.endswith(".service")), "")):
            return found
    return ""


def listens(fd: int) -> bool:
    """Whether a descriptor is a listening stream socket of the unix domain."""
    try:
        with socket.socket(fileno=os.dup(fd)) as sock:
            return sock.family == socket.AF_UNIX and bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except OSError:
        return False


def watchdog_s(environ: Mapping[str, str], pid: int) -> float:
    """The watchdog's interval in seconds; 0 where there is none for this process."""
    if environ.get("WATCHDOG_PID", str(pid)) != str(pid):
        return 0.0
    return _number(environ.get("WATCHDOG_USEC", "")) / 1e6


def stored_fds(environ: Mapping[str, str], pid: int) -> list[StoredFd]:
    """The descriptors that the service manager has passed to this process."""
    if environ.get("LISTEN_PID") != str(pid):
        return []
    count = _number(environ.get("LISTEN_FDS", ""))
    text = environ.get("LISTEN_FDNAMES", "")
    names = text.split(":") if text else []
    names += ["unknown"] * (count - len(names))  # as sd_listen_fds_with_names(3)
    return [StoredFd(name, FIRST_FD + place) for place, name in enumerate(names[:count])]


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else 0
