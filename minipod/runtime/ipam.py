"""Leases of addresses (layer 3): one file under a lock. `runtime.network` makes the interfaces.

The file's first line is all leases as they were at some moment, each further line what one sandbox has got or given
back since: so a change costs the same however many leases there are. The file is replaced by rename before it gets
long; a last line that is not whole (the writer was killed, the disk is full) never happened. The functions on leases
are pure. Without a lease there is no file in `<run-dir>/leases`; subnets and the next offset are then in
`<run-dir>/network.json`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from ipaddress import IPv4Network, IPv6Network, ip_network

import msgspec

from minipod.errors import HostError, SandboxError
from minipod.kernel.host_lock import root_lock
from minipod.kernel.rename import replace
from minipod.plan.configs import PortMapping

_FIRST_OFFSET = 2  # 0 is the network, 1 the bridge
_FURTHER_MIN = 100  # lines after the first, and as many as there are leases: what reading them takes is then bounded
#: 64 addresses a bridge. The kernel looks at every port when one comes or goes, copies what is sent to all to each, and
#: has at most 1,024 of them: with bridges of this size a pod costs the same whether ten or two thousand run.
BRIDGE_BITS = 6


class Lease(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one sandbox holds. `offset` is its place in both subnets; 0: hostPorts of a pod on the host's network."""

    pod: str  # namespace/name, for messages
    offset: int = 0
    interface: str = ""  # the outer veth end
    ports: tuple[PortMapping, ...] = ()
    names: bool = False  # a pod on the host's network that asks the answerer


class Leases(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The file. The subnets stay while any lease has an address, and are the first choice the next time."""

    boot_id: str = ""
    ipv4_subnet: str = ""
    ipv6_subnet: str = ""
    mtu: int = 1500
    bridge_bits: int = 0  # of an address that the pods of one bridge differ in; 0: all are on one (before 0.2)
    next_offset: int = _FIRST_OFFSET
    sandboxes: dict[str, Lease] = {}

    @property
    def is_addressed(self) -> bool:
        """Whether a sandbox has an address, or asks at one of the first bridge."""
        return any(lease.offset or lease.names for lease in self.sandboxes.values())

    def needs_bridge(self, number: int) -> bool:
        """Whether a sandbox is on this bridge. The first bridge is there for all."""
        latest = reversed(self.sandboxes.values())  # the neighbours of a pod began when it did
        if number == 0:
            return self.is_addressed
        return any(lease.offset and number == self.bridge(lease.offset) for lease in latest)

    def bridge(self, offset: int) -> int:
        """The number of the bridge that the pod at `offset` is a port of."""
        return offset >> self.bridge_bits if self.bridge_bits else 0

    def addresses(self, offset: int) -> tuple[str, str]:
        """IPv4 and IPv6 address at `offset`, in CIDR form with the prefix of its bridge; empty where there is none."""
        return self._address(self.ipv4_subnet, offset), self._address(self.ipv6_subnet, offset)

    def gateways(self, offset: int) -> tuple[str, str]:
        """The addresses of the bridge of the pod at `offset`, in the same form."""
        return self.addresses((self.bridge(offset) << self.bridge_bits) + 1)

    @property
    def subnets(self) -> tuple[str, ...]:
        """Of all pods, IPv4 first."""
        return tuple(filter(None, (self.ipv4_subnet, self.ipv6_subnet)))

    @property
    def names(self) -> tuple[str, ...]:
        """Where pods ask for names: the first bridge's own addresses, which stand as long as any; without prefix."""
        return tuple(cidr.partition("/")[0] for cidr in self.gateways(_FIRST_OFFSET) if cidr)

    def _address(self, subnet: str, offset: int) -> str:
        if not subnet:
            return ""
        network = _network(subnet)
        length = network.max_prefixlen - self.bridge_bits if self.bridge_bits else 0
        return f"{network[offset]}/{max(network.prefixlen, length)}"


class _Change(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A further line: what a sandbox holds now."""

    sandbox: str
    lease: Lease | None = None


class LeaseFile:
    """`<run-dir>/leases/leases.json`. What was there before the last boot counts as empty."""

    def __init__(self, root: str) -> None:
        self._directory = f"{root}/leases"
        self._path = f"{self._directory}/leases.json"
        self._memory = f"{root}/network.json"
        self._known: tuple[tuple[int, int, int], Leases] | None = None
        self._further: int | None = None  # lines after the first; None: the file has to be written whole

    @contextmanager
    def locked(self) -> Iterator[Leases]:
        """The leases, with every other process and thread kept out until the end of the block. Raises HostError where
        another process holds them for long.
        """
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        with root_lock(f"{self._directory}/lock"):
            yield self.read()

    def read(self) -> Leases:
        """The leases as they are. Raises HostError for a file that is damaged."""
        for path in (self._path, self._memory):
            with suppress(FileNotFoundError):
                return self._read(path)
        return Leases(boot_id=_boot_id())

    def _read(self, path: str) -> Leases:
        with open(path, "rb") as file:
            version = _version(file.fileno())
            if self._known is not None and self._known[0] == version:
                return self._known[1]
            first, *further = file.read().split(b"\n")
        leases = Leases()
        is_whole = bool(further) and not further.pop()
        if first:  # a power cut may have left the name without the bytes
            try:
                leases = _after(msgspec.json.decode(first, type=Leases), further)
            except msgspec.MsgspecError as error:
                raise HostError(f"{path}: damaged: {error}: remove it when no pod runs") from None
        self._further = len(further) if is_whole and path == self._path else None
        if leases.boot_id != _boot_id():
            leases = msgspec.structs.replace(leases, boot_id=_boot_id(), sandboxes={})
            self._further = None
        self._known = (version, leases)
        return leases

    def write_one(self, leases: Leases, sandbox_id: str) -> None:
        """`leases` differ from those that `locked` returned in what this sandbox holds. Only inside `locked`."""
        if not leases.sandboxes or self._further is None or self._further > _FURTHER_MIN + len(leases.sandboxes):
            self.write(leases)
            return
        change = _Change(sandbox=sandbox_id, lease=leases.sandboxes.get(sandbox_id))
        with open(self._path, "ab", buffering=0) as file:
            file.write(msgspec.json.encode(change) + b"\n")
            self._known = (_version(file.fileno()), leases)
        self._further += 1

    def write(self, leases: Leases) -> None:
        """Only inside `locked`."""
        path = self._path if leases.sandboxes else self._memory
        with open(f"{path}.new", "wb") as file:
            file.write(msgspec.json.encode(leases) + b"\n")
            file.flush()
            self._known = (_version(file.fileno()), leases)
        replace(f"{path}.new", path)
        self._further = 0 if path == self._path else None
        if path == self._memory:
            with suppress(FileNotFoundError):
                os.unlink(self._path)


def _after(leases: Leases, lines: Iterable[bytes]) -> Leases:
    """The leases after these changes. Raises msgspec.MsgspecError."""
    sandboxes, next_offset = dict(leases.sandboxes), leases.next_offset
    for line in lines:
        change = msgspec.json.decode(line, type=_Change)
        sandboxes.pop(change.sandbox, None)
        if change.lease is not None:
            sandboxes[change.sandbox] = change.lease
            next_offset = change.lease.offset + 1 if change.lease.offset else next_offset
    return msgspec.structs.replace(leases, sandboxes=sandboxes, next_offset=next_offset)


def _version(fd: int) -> tuple[int, int, int]:
    stat = os.fstat(fd)
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


@cache
def _boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


@cache
def _network(subnet: str) -> IPv4Network | IPv6Network:
    return ip_network(subnet)


def grant(leases: Leases, sandbox_id: str, lease: Lease) -> tuple[Leases, Lease]:
    """The leases with one more, at a free place. Raises SandboxError when the subnet is full."""
    subnets = filter(None, (leases.ipv4_subnet, leases.ipv6_subnet))
    size = min(_network(subnet).num_addresses for subnet in subnets)
    taken = {held.offset for held in leases.sandboxes.values()}
    offset = next(
        (offset for offset in _places(size, leases.bridge_bits, leases.next_offset) if offset not in taken), 0
    )
    if not offset:
        raise SandboxError(
            f"no address left in {leases.ipv4_subnet}: {len(taken - {0})} pods hold one: "
            "delete a pod or set a larger ipv4_subnet in the configuration"
        )
    granted = msgspec.structs.replace(lease, offset=offset)
    sandboxes = {**leases.sandboxes, sandbox_id: granted}
    return msgspec.structs.replace(leases, next_offset=offset + 1, sandboxes=sandboxes), granted


def _places(size: int, bridge_bits: int, next_offset: int) -> Iterator[int]:
    """The offsets of pods in a subnet, in the order in which they are tried: bridge by bridge, so that few pods do not
    spread over many bridges; on a bridge round robin, so that what was given back is used again last.

    No pod gets the first address of a bridge, nor the last, for broadcasts, nor the bridge's own.
    """
    step = min(1 << bridge_bits if bridge_bits else size, size)
    for start in range(0, size, step):
        first, end = start + _FIRST_OFFSET, start + step - 1
        begin = next_offset if first <= next_offset < end else first
        yield from range(begin, end)
        yield from range(first, begin)


def revoke(leases: Leases, sandbox_id: str) -> Leases:
    """The leases without that of `sandbox_id`, if it has one."""
    rest = {held: lease for held, lease in leases.sandboxes.items() if held != sandbox_id}
    return msgspec.structs.replace(leases, sandboxes=rest)


def check_ports(leases: Leases, sandbox_id: str, ports: tuple[PortMapping, ...]) -> None:
    """Raises SandboxError naming the pod that holds one of `ports` already.

    The rule is the scheduler's (pkg/scheduler/framework, HostPortInfo): same protocol and port, and the same address
    or one of the two without.
    """
    for held_by, lease in leases.sandboxes.items():
        if held_by == sandbox_id:
            continue
        for held in lease.ports:
            for port in ports:
                if _conflict(held, port):
                    where = f"{port.host_ip}:{port.host_port}" if port.host_ip else str(port.host_port)
                    raise SandboxError(
                        f"hostPort {where}/{port.protocol} is in use by pod {lease.pod}: "
                        "delete that pod or choose another hostPort"
                    )


def _conflict(held: PortMapping, wanted: PortMapping) -> bool:
    if (held.protocol, held.host_port) != (wanted.protocol, wanted.host_port):
        return False
    anywhere = ("", "0.0.0.0", "::")
    return held.host_ip == wanted.host_ip or held.host_ip in anywhere or wanted.host_ip in anywhere
