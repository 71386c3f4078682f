"""The answerer as a part of the network that all pods share (layer 3): it runs as long as the first bridge stands.

Pods ask at port 53 of the first bridge's addresses. The answerer itself listens at ports that the kernel chooses, and
two elements of the hostPort maps lead there: so it never meets another DNS server of the host, nor a pod's hostPort 53,
and its successor takes over in one transaction (docs/decisions/106). All but `publish` is called under the lock of the
leases.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence

from minipod import __version__
from minipod.kernel.rename import replace
from minipod.names import start
from minipod.names.table import FILE, UNPRIVILEGED, Gone, Pod, Table, head, lines
from minipod.paths import Paths
from minipod.plan.configs import PortMapping
from minipod.plan.network.nat import AddPortMappings
from minipod.runtime.facts import resolvers

PORT = 53
SPARE_LINES = 64  # of pods that have changed; the file is written again when they are more than those of pods and these


class Names:
    """One instance's. The calls may come from several threads."""

    def __init__(self, paths: Paths, domain: str, on_start: Callable[[], None]) -> None:
        """`on_start` is called when a process was started."""
        self._on_start = on_start
        self._directory = paths.names
        self._nft_table = paths.instance
        self._domain = domain
        self._lock = threading.Lock()
        self._ports: dict[str, int] | None = None  # as they were mapped last
        self._addresses: tuple[str, ...] = ()
        self._subnets: tuple[str, ...] = ()  # none: it does not run
        self._pods: dict[tuple[str, str], Pod] = {}  # by namespace and name
        self._head = b""  # of the file; empty: none is written
        self._lines = 0

    def ensure(self, addresses: tuple[str, ...], subnets: tuple[str, ...], flushed: bool = False) -> None:
        """It runs, in this version, and the pods' questions get there. `flushed`: the maps are new. Raises OSError."""
        with self._lock:
            found = start.ports(self._directory, __version__)
            if found is None:
                start.reap()
                found = start.start(self._directory, __version__, addresses)
                self._head = b""
                self._on_start()
            self._addresses, self._subnets = addresses, subnets
            self._write(())  # before the first question: without a table it answers no pod
            if found != self._ports or flushed:
                self._mapping(found).replace()
                self._ports = found
                start.retire(self._directory, __version__)

    def stop(self) -> None:
        """It has ended when this returns. Idempotent. Raises OSError."""
        with self._lock:
            start.stop(self._directory)
            self._ports, self._subnets, self._head = None, (), b""

    def is_there(self) -> bool:
        return start.is_there(self._directory)

    def publish(self, changes: Sequence[Pod | Gone], *, whole: bool = False) -> None:
        """What is answered from now on: the pods with these changes, and the host's resolvers as they are now.

        `whole`: these are all pods. Raises OSError; then all have to be published again.
        """
        with self._lock:
            if whole:
                self._pods.clear()
                self._head = b""
            for change in changes:
                key = (change.namespace, change.name)
                if isinstance(change, Pod):
                    self._pods[key] = change
                else:
                    self._pods.pop(key, None)
            if self._subnets:
                self._write(changes)

    def _write(self, changes: Sequence[Pod | Gone]) -> None:
        """Adds the changes to the file, or writes it as a whole where its first line is another one now."""
        servers = tuple(server for server in resolvers() if server not in self._addresses)
        first = head(Table(self._domain, self._subnets, servers, ()))
        path = f"{self._directory}/{FILE}"
        if first == self._head and self._lines + len(changes) <= 2 * len(self._pods) + SPARE_LINES:
            if changes:
                fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
                with os.fdopen(fd, "ab") as file:
                    file.write(lines(changes))
                self._lines += len(changes)
            return
        self._head = b""
        fd = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
        with os.fdopen(fd, "wb") as file:
            os.fchmod(fd, 0o640)
            os.fchown(fd, 0, UNPRIVILEGED)  # the answerer may read it, other users of the host may not
            file.write(first + lines(self._pods.values()))
        replace(f"{path}.new", path)
        self._head, self._lines = first, len(self._pods)

    def _mapping(self, ports: dict[str, int]) -> AddPortMappings:
        by_version = {6 if ":" in address else 4: address for address in self._addresses}
        mappings = [
            PortMapping(
                protocol=name[:3].upper(), container_port=port, host_port=PORT, host_ip=by_version[int(name[3:])]
            )
            for name, port in ports.items()
        ]
        return AddPortMappings(
            table=self._nft_table, ipv4=by_version.get(4, ""), ipv6=by_version.get(6, ""), mappings=tuple(mappings)
        )
