"""The pods' network (layer 3): subnets, leases, the part that all pods share. `plan.network.pod_network` has the
operations.

The shared part (bridge, nftables table, forwarding) is made with the first lease and removed with the last; the leases
are its reference count, so that it is right after a crash too. All is done under the lock of the lease file.
"""

from __future__ import annotations

import logging
import os
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

import msgspec

from minipod.config import Config
from minipod.errors import HostError
from minipod.failpoint import reached
from minipod.kernel import netlink, nft
from minipod.kernel.host_lock import host_lock
from minipod.kernel.port import is_bound
from minipod.paths import Paths
from minipod.plan.configs import NetworkFacts, SandboxConfig
from minipod.plan.network.nat import AddPortMappings, exists
from minipod.plan.network.pod_network import shared_network
from minipod.plan.operation import HostOperation
from minipod.runtime.ipam import Lease, LeaseFile, Leases, address, check_ports, grant, revoke

_IPV4_PREFIX = 20  # four times what fits on a bridge, so that an address rests before it is used again
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"

Subnet = IPv4Network | IPv6Network


class Network:
    """One instance's network. Synchronous, for a thread: a call takes a few milliseconds, more where the host has many
    rules or links, and may wait for the lock of another instance. One call at a time."""

    def __init__(self, paths: Paths, config: Config, warn: Callable[[str], None] | None = None) -> None:
        """`warn` gets messages for the user, each once: another subnet was chosen, no IPv6 …"""
        self._paths = paths
        self._config = config
        self._file = LeaseFile(paths.root)
        self._warn = warn or logging.getLogger(__name__).warning
        self._warn_now = self._warn
        self._warnings: set[str] = set()
        self._generation: int | None = None  # of the host's rules, when the instance's table was last seen

    def lease(self, config: SandboxConfig, warn: Callable[[str], None] | None = None) -> NetworkFacts:
        """Addresses and an interface name for a sandbox, and the shared part in place. Idempotent.

        `warn`: replaces the constructor's for warnings about this lease.
        With the host's network only the hostPorts are noted, so that no other pod takes them; the facts are empty.
        Raises SandboxError: a hostPort is in use, no address is left; HostError: no subnet is free, no nftables.
        """
        self._warn_now = warn or self._warn
        try:
            return self._lease(config)
        finally:
            self._warn_now = self._warn

    def _lease(self, config: SandboxConfig) -> NetworkFacts:
        ports = tuple(mapping for mapping in config.port_mappings if mapping.host_port)
        wanted = Lease(pod=f"{config.namespace}/{config.name}", ports=ports)
        on_host = config.namespaces.network == "node"
        if on_host and not ports:
            return NetworkFacts()
        with self._file.locked() as leases:
            held = leases.sandboxes.get(config.id)
            if held is None:
                check_ports(leases, config.id, ports)
                if not on_host:
                    self._warn_of_loopback(wanted)
                    self._warn_of_listeners(wanted)
            if on_host:
                self._file.write(
                    msgspec.structs.replace(leases, sandboxes={**leases.sandboxes, config.id: wanted}),
                )
                return NetworkFacts()
            leases = self._with_shared(leases)
            if held is None:
                reached("network.shared")
                interface = interface_name(self._paths.instance, config.id, _interfaces(leases))
                leases, held = grant(leases, config.id, msgspec.structs.replace(wanted, interface=interface))
                self._file.write(leases)
                reached("network.leased")
            return self._facts(leases, held)

    def release(self, sandbox_id: str) -> None:
        """Release a sandbox's lease, after its operations were undone; with the last lease the shared part is removed.

        Idempotent.
        """
        if not os.path.exists(f"{self._paths.root}/leases"):
            return
        with self._file.locked() as leases:
            if sandbox_id not in leases.sandboxes:
                return
            self._drop(leases, [sandbox_id])

    def facts(self, sandbox_id: str) -> NetworkFacts | None:
        """The facts of a sandbox's lease, None without one."""
        leases = self._file.read()
        held = leases.sandboxes.get(sandbox_id)
        return self._facts(leases, held) if held is not None and held.offset else None

    def preview(self, config: SandboxConfig) -> NetworkFacts:
        """What `lease` would return, without root and without a lease: for `plan`.

        With these facts `shared_network` and `pod_network` return what would be done.
        """
        if config.namespaces.network == "node":
            return NetworkFacts()
        try:
            leases = self._file.read()
        except PermissionError:
            leases = Leases()
        leases = self._choose(leases)
        interface = interface_name(self._paths.instance, config.id, _interfaces(leases))
        leases, held = grant(leases, config.id, Lease(pod=config.name, interface=interface))
        return self._facts(leases, held)

    def leftovers(self, sandbox_ids: Callable[[], Collection[str]]) -> list[str]:
        """Resources of this instance that no sandbox owns: leases, interfaces, the shared part. For `gc`, a line each.

        `sandbox_ids` is called under the lock; it has to include sandboxes that are about to lease.
        """
        with self._file.locked() as leases:
            return self._leftovers(leases, sandbox_ids())

    def _leftovers(self, leases: Leases, sandbox_ids: Collection[str]) -> list[str]:
        found = [
            f"lease of {lease.pod} (sandbox {sandbox_id[:12]})"
            for sandbox_id, lease in leases.sandboxes.items()
            if sandbox_id not in sandbox_ids
        ]
        owned = {lease.interface for held, lease in leases.sandboxes.items() if held in sandbox_ids}
        with netlink.Netlink() as socket:
            found += [f"interface {name}" for name in self._veths(socket) if name not in owned]
            if not any(name for name in owned):
                found += [f"bridge {self._paths.bridge}"] if socket.link(self._paths.bridge) else []
                with nft.Nftables() as nftables:
                    if exists(nftables, self._paths.instance):
                        found.append(f"nftables table inet {self._paths.instance}")
        return found

    def remove_leftovers(self, sandbox_ids: Callable[[], Collection[str]]) -> list[str]:
        """Remove them. Returns the same lines."""
        with self._file.locked() as leases:
            known = sandbox_ids()
            found = self._leftovers(leases, known)
            owned = {lease.interface for held, lease in leases.sandboxes.items() if held in known}
            with netlink.Netlink() as socket:
                for name in self._veths(socket):
                    if name not in owned:
                        netlink.remove_link(name)
            stale = [held for held in leases.sandboxes if held not in known]
            self._unmap(leases, stale)
            if found:
                self._drop(leases, stale)
        return found

    def _drop(self, leases: Leases, sandbox_ids: Iterable[str]) -> None:
        rest = leases
        for sandbox_id in sandbox_ids:
            rest = revoke(rest, sandbox_id)
        if not rest.addressed:
            self._undo_shared(leases)
            reached("network.unshared")
        self._file.write(rest)
        reached("network.released")

    def _unmap(self, leases: Leases, sandbox_ids: Iterable[str]) -> None:
        """Remove the hostPorts of sandboxes whose own list of operations is lost."""
        for operation in self._mappings(leases, sandbox_ids):
            operation.undo()

    # ---- the shared part --------------------------------------------------------------------------------------------

    def _with_shared(self, leases: Leases) -> Leases:
        """The leases with subnets. Makes the shared part for the first pod, repairs it for others if need be."""
        if leases.addressed:
            self._mend(leases)
            return leases
        # No other instance chooses a subnet until the bridge exists, whose routes it then sees.
        with host_lock():
            self._undo_shared(leases)  # a crash may have left it, with other subnets
            leases = self._choose(leases)
            done: list[HostOperation] = []
            try:
                for operation in self._shared(leases):
                    done.append(operation)
                    operation.execute()
                    reached("executed", operation)
            except BaseException as error:
                _undo(done, error)
                raise
        self._warn_of_forward_policies()
        return leases

    def _mend(self, leases: Leases) -> None:
        """Restore what another program removed, as a firewall does by `flush ruleset`; hostPorts too."""
        flushed = self._is_flushed()
        if not flushed and netlink.exists(self._paths.bridge):
            return
        for operation in self._shared(leases):
            operation.execute()
        if flushed:
            for mappings in self._mappings(leases, leases.sandboxes):
                mappings.execute()

    def _is_flushed(self) -> bool:
        """Whether the table is gone; looked up only where the host's rules have changed since the last call."""
        generation = nft.generation()
        if generation == self._generation:
            return False
        with nft.Nftables() as nftables:
            found = exists(nftables, self._paths.instance)
        self._generation = generation if found else None
        return not found

    def _mappings(self, leases: Leases, sandbox_ids: Iterable[str]) -> list[AddPortMappings]:
        operations = []
        for sandbox_id in sandbox_ids:
            held = leases.sandboxes[sandbox_id]
            if held.offset and held.ports:
                facts = self._facts(leases, held)
                operations.append(
                    AddPortMappings(
                        table=facts.table,
                        ipv4=facts.ipv4.partition("/")[0],
                        ipv6=facts.ipv6.partition("/")[0],
                        mappings=held.ports,
                    )
                )
        return operations

    def _undo_shared(self, leases: Leases) -> None:
        failure: Exception | None = None
        for operation in reversed(self._shared(leases)):
            try:
                operation.undo()
                reached("undone", operation)
            except (OSError, HostError) as error:
                failure = failure or error
        if failure is not None:
            raise failure

    def _shared(self, leases: Leases) -> list[HostOperation]:
        return shared_network(self._facts(leases, Lease(pod="", offset=2)))

    def _facts(self, leases: Leases, held: Lease) -> NetworkFacts:
        return NetworkFacts(
            ipv4=address(leases.ipv4_subnet, held.offset),
            ipv4_gateway=address(leases.ipv4_subnet, 1).partition("/")[0],
            ipv6=address(leases.ipv6_subnet, held.offset),
            ipv6_gateway=address(leases.ipv6_subnet, 1).partition("/")[0],
            bridge=self._paths.bridge,
            table=self._paths.instance,
            host_interface=held.interface,
            mtu=leases.mtu,
        )

    def _veths(self, socket: netlink.Netlink) -> list[str]:
        """The outer veth ends of this instance, recognised by their names."""
        length = len(self._paths.instance) + 7
        return [
            link.name
            for link in socket.links()
            if link.kind == "veth" and len(link.name) == length and link.name.startswith(self._paths.instance)
        ]

    # ---- the subnets ------------------------------------------------------------------------------------------------

    def _choose(self, leases: Leases) -> Leases:
        """The leases with subnets that nothing on this host uses. Raises HostError if there are none."""
        if leases.addressed:
            return leases
        with netlink.Netlink() as socket:
            links, routes, addresses = socket.links(), socket.routes(), socket.addresses()
        used = _used(links, routes, addresses, self._paths.bridge)
        mtu = default_mtu(links, routes)
        ipv4 = self._pick(_ipv4_candidates(self._config.ipv4_subnet), used, "ipv4_subnet")
        ipv6 = ""
        if has_ipv6():
            ipv6 = self._pick(_ipv6_candidates(self._config.ipv6_subnet, self._paths.instance), used, "ipv6_subnet")
        else:
            self._warn_once("IPv6 is disabled on this host: pods get an IPv4 address only")
        return msgspec.structs.replace(leases, ipv4_subnet=ipv4, ipv6_subnet=ipv6, mtu=mtu)

    def _pick(self, candidates: Iterable[Subnet], used: list[tuple[Subnet, str]], key: str) -> str:
        refused: list[str] = []
        for candidate in candidates:
            user = _clash(candidate, used)
            if not user:
                if refused:
                    self._warn_once(f"pods get addresses of {candidate}: {refused[0]}")
                return str(candidate)
            refused.append(f"{candidate} is in use on this host by {user}")
        raise HostError(f"no subnet for pods is free: {'; '.join(refused[:3])} …: set {key} in the configuration")

    # ---- warnings ---------------------------------------------------------------------------------------------------

    def _warn_once(self, message: str) -> None:
        if message not in self._warnings:
            self._warnings.add(message)
            self._warn_now(message)

    def _warn_of_loopback(self, wanted: Lease) -> None:
        for port in wanted.ports:
            if port.host_ip and ip_address(port.host_ip) == ip_address("::1"):
                self._warn_once(
                    f"pod {wanted.pod}: hostPort [::1]:{port.host_port} leads nowhere: "
                    "Linux forwards nothing to ::1: use hostIP 127.0.0.1 or an address of the host"
                )

    def _warn_of_listeners(self, wanted: Lease) -> None:
        for port in wanted.ports:
            if is_bound(port.protocol, port.host_ip, port.host_port):
                self._warn_once(
                    f"pod {wanted.pod}: hostPort {port.host_port}/{port.protocol}: a process of this host listens at "
                    "that port: it gets nothing while the pod has it: choose another hostPort"
                )

    def _warn_of_forward_policies(self) -> None:
        """A table of another program whose forward chain drops by default (Docker's) also drops the pods' packets."""
        with nft.Nftables() as nftables:
            chains = nftables.forward_drops()
        for chain in chains:
            self._warn_once(
                f"nftables chain {chain} drops forwarded packets by default: pods may not reach the outside "
                f"unless it accepts them: nft insert rule {chain} iifname {self._paths.bridge} accept; "
                f"nft insert rule {chain} oifname {self._paths.bridge} accept"
            )


def has_ipv6() -> bool:
    """Whether this host has IPv6 and leaves it on."""
    for scope in ("all", "default"):
        try:
            with open(f"/proc/sys/net/ipv6/conf/{scope}/disable_ipv6", encoding="ascii") as file:
                if file.read().strip() != "0":
                    return False
        except FileNotFoundError:
            return False
    return True


def default_mtu(links: list[netlink.Link], routes: list[netlink.Route]) -> int:
    """The MTU of the link that the default route leaves by; 1500 without one."""
    defaults = [route for route in routes if route.oif and route.destination in ("0.0.0.0/0", "::/0")]
    if not defaults:
        return 1500
    best = min(defaults, key=lambda route: (":" in route.destination, route.metric))
    return next((link.mtu for link in links if link.index == best.oif), 1500)


def interface_name(instance: str, sandbox_id: str, taken: Collection[str]) -> str:
    """<instance> and seven letters or digits of the sandbox id's checksum: at most 15 bytes (IFNAMSIZ), not `taken`."""
    for salt in range(len(taken) + 1):
        number = zlib.crc32(f"{sandbox_id}{salt or ''}".encode())
        name = ""
        for _ in range(7):
            number, digit = divmod(number, 36)
            name = _DIGITS[digit] + name
        if instance + name not in taken:
            return instance + name
    raise HostError(f"no interface name is free for sandbox {sandbox_id}")


def _interfaces(leases: Leases) -> set[str]:
    return {lease.interface for lease in leases.sandboxes.values()}


def _used(
    links: list[netlink.Link], routes: list[netlink.Route], addresses: list[tuple[int, str]], own_bridge: str
) -> list[tuple[Subnet, str]]:
    """(network, by what) of every address and route of the host, without those of this instance's own bridge.

    Default routes, whole or cut in a few pieces as VPNs do, only lead elsewhere and use no addresses.
    """
    names = {link.index: link.name for link in links}
    used: list[tuple[Subnet, str]] = []
    for index, cidr in addresses:
        used.append((ip_network(cidr, strict=False), names.get(index, "")))
    for route in routes:
        network = ip_network(route.destination, strict=False)
        if network.prefixlen >= (8 if network.version == 4 else 16):
            used.append((network, names.get(route.oif, "a route")))
    return [(network, name) for network, name in used if name != own_bridge]


def _clash(candidate: Subnet, used: list[tuple[Subnet, str]]) -> str:
    """What uses a part of `candidate`; `""` if nothing does."""
    for network, name in used:
        if network.version == candidate.version and network.overlaps(candidate):
            return f"{network} ({name})"
    return ""


def _ipv4_candidates(configured: str) -> Iterator[Subnet]:
    """The configured subnet first, then private ones that neither home routers nor other engines begin with."""
    if configured:
        yield ip_network(configured)
    for block in ("10.86.0.0/16", "172.30.0.0/16", "192.168.224.0/19"):
        yield from ip_network(block).subnets(new_prefix=_IPV4_PREFIX)


def _ipv6_candidates(configured: str, instance: str) -> Iterator[Subnet]:
    """The configured subnet first, then unique local /64s (RFC 4193) made of this machine's and the instance's name."""
    if configured:
        yield ip_network(configured)
    try:
        with open("/etc/machine-id", encoding="ascii") as file:
            seed = file.read().strip() + instance
    except FileNotFoundError:
        seed = os.uname().nodename + instance
    for number in range(8):
        high, low = zlib.crc32(f"{seed}/{number}".encode()), zlib.crc32(f"{number}/{seed}".encode()) & 0xFF
        yield IPv6Network(((0xFD << 120) | (high << 88) | (low << 80), 64))


def _undo(done: list[HostOperation], error: BaseException) -> None:
    """Undo in reverse order; failures become notes of the first error."""
    for operation in reversed(done):
        try:
            operation.undo()
        except (OSError, HostError) as failure:
            error.add_note(f"cleaning up: {failure}")
