"""The pod's network as operations (layer 2): bridges, veth pair, addresses, NAT, hostPorts. Decides no address.

Three lists. `shared_network` stands while any pod of the instance has an address, `bridge_network` while one of its
pods has: `runtime.network` makes them with the first and takes them away with the last. `pod_network` is one pod's own
and is undone with its sandbox. The pod's network namespace itself is made by the sandbox's plan, before these run.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from ipaddress import ip_address, ip_interface, ip_network

from minipod.kernel import netlink, sysctl
from minipod.plan.configs import NetworkFacts, SandboxConfig
from minipod.plan.network.forwarding import EnableForwarding
from minipod.plan.network.nat import AddPortMappings, EnsureNat
from minipod.plan.operation import HostOperation

INTERFACE = "eth0"  # what every pod calls its own end


def shared_network(facts: NetworkFacts) -> list[HostOperation]:
    """What all pods of an instance share, in the order in which it is made.

    `facts`: of a pod of the first bridge, which stands as long as any pod. The table comes before it: it keeps pods off
    the host's 127.0.0.0/8 from the bridge's first moment.
    """
    return [
        EnsureNat(table=facts.table, bridges=f"{facts.table}*", subnets=facts.subnets),
        bridge_network(facts),
        EnableForwarding(instance=facts.table, ipv6=bool(facts.ipv6)),
    ]


def bridge_network(facts: NetworkFacts) -> EnsureBridge:
    """What the pods of one bridge share.

    The first one has the prefixes of the whole subnets, which the others' are more specific than: so another instance
    sees all of them in use, and nothing that is sent to an address without a pod leaves the host by its default route.
    """
    return EnsureBridge(name=facts.bridge, addresses=_bridge_addresses(facts), mtu=facts.mtu)


def pod_network(config: SandboxConfig, facts: NetworkFacts, netns: str) -> list[HostOperation]:
    """One pod's own operations; `netns` is the path of its namespace. None at all with the host's network."""
    if config.namespaces.network == "node":
        return []
    published = tuple(mapping for mapping in config.port_mappings if mapping.host_port)
    operations: list[HostOperation] = [
        CreateVeth(
            netns=netns,
            name=facts.host_interface,
            bridge=facts.bridge,
            mtu=facts.mtu,
            address=mac_address(facts.ipv4 or facts.ipv6),
            hairpin=bool(published),
            neighbours=tuple(address.partition("/")[0] for address in (facts.ipv4, facts.ipv6) if address),
        ),
        ConfigureInterface(
            netns=netns,
            addresses=tuple(address for address in (facts.ipv4, facts.ipv6) if address),
            gateways=tuple(gateway for gateway in (facts.ipv4_gateway, facts.ipv6_gateway) if gateway),
            gateway_address=mac_address(facts.ipv4_gateway or facts.ipv6_gateway),
        ),
    ]
    if published:
        operations.append(
            AddPortMappings(
                table=facts.table,
                ipv4=facts.ipv4.partition("/")[0],
                ipv6=facts.ipv6.partition("/")[0],
                mappings=published,
            )
        )
    return operations


def mac_address(address: str) -> str:
    """A locally administered MAC address made of the last four bytes of an IP address.

    So an address that is used again belongs to the same MAC, and no neighbour's cache is ever wrong.
    """
    return ":".join(f"{byte:02x}" for byte in (0x0A, 0x58, *ip_interface(address).ip.packed[-4:]))


def _bridge_addresses(facts: NetworkFacts) -> tuple[str, ...]:
    """The bridge's own addresses in CIDR form: the gateways of its pods."""
    whole = dict(zip((ip_network(subnet)[1] for subnet in facts.subnets), facts.subnets, strict=True))
    pairs = ((facts.ipv4_gateway, facts.ipv4), (facts.ipv6_gateway, facts.ipv6))
    return tuple(
        f"{gateway}/{whole.get(ip_address(gateway), own).partition('/')[2]}" for gateway, own in pairs if gateway
    )


class EnsureBridge(HostOperation, frozen=True, kw_only=True):
    """A bridge whose ports are pods. It keeps its MAC address while ports come and go."""

    name: str
    addresses: tuple[str, ...]  # CIDR
    mtu: int

    def describe(self) -> str:
        return f"bridge {self.name} mtu {self.mtu} address {' '.join(self.addresses)} stp off forward-delay 0 up"

    def execute(self) -> None:
        with netlink.Netlink() as socket:
            try:
                index = socket.index(self.name)
            except OSError:
                socket.apply([netlink.new_bridge(self.name, self.mtu, mac_address(self.addresses[0]))])
                index = socket.index(self.name)
            self._set_sysctls()
            requests = [netlink.add_address(index, address) for address in self.addresses]
            socket.apply([*requests, netlink.set_up(index)])

    def _set_sysctls(self) -> None:
        # hostPorts on 127.0.0.1 leave by the bridge; the table's first chain drops what pods send to 127.0.0.0/8
        sysctl.write({f"net/ipv4/conf/{self.name}/route_localnet": "1"})
        _set_up_sysctls(self.name, self.addresses)

    def undo(self) -> None:
        netlink.remove_link(self.name)


class CreateVeth(HostOperation, frozen=True, kw_only=True):
    """The veth pair, both ends made where they belong: moving one later would cost an RCU grace period."""

    netns: str
    name: str
    bridge: str
    mtu: int
    address: str  # of the inner end
    hairpin: bool = False  # br_netfilter bridges a pod's way to its own hostPort back to its own port
    neighbours: tuple[str, ...] = ()  # IP addresses that the host need not ask for

    def describe(self) -> str:
        port = " hairpin" if self.hairpin else ""
        return (
            f"veth {self.name} master {self.bridge}{port} up neighbour {' '.join(self.neighbours)}, "
            f"peer {INTERFACE} address {self.address} in netns {self.netns}, mtu {self.mtu}"
        )

    def execute(self) -> None:
        netns_fd = os.open(self.netns, os.O_RDONLY | os.O_CLOEXEC)
        try:
            with netlink.Netlink() as socket:
                bridge = socket.index(self.bridge)
                try:
                    socket.apply([self._request(bridge, netns_fd)])
                except OSError as error:
                    if error.errno != errno.EEXIST:
                        raise
                    if not self._stands(socket, netns_fd):
                        socket.apply([netlink.delete_link(self.name), self._request(bridge, netns_fd)])
                self._set_up(socket, bridge)
        finally:
            os.close(netns_fd)

    def _request(self, bridge: int, netns_fd: int) -> netlink.Request:
        return netlink.new_veth(
            self.name,
            mtu=self.mtu,
            master=bridge,
            netns_fd=netns_fd,
            peer=INTERFACE,
            peer_address=self.address,
        )

    def _set_up(self, socket: netlink.Netlink, bridge: int) -> None:
        """A bridge's port has no use for an address; those of all pods would be looked through with each that goes."""
        sysctl.write({f"net/ipv6/conf/{self.name}/disable_ipv6": "1"}, missing_ok=True)  # a kernel without IPv6
        index = socket.index(self.name)
        hairpin = [netlink.set_hairpin(index)] if self.hairpin else []
        neighbours = [netlink.add_neighbour(bridge, address, self.address) for address in self.neighbours]
        socket.apply([*hairpin, netlink.set_up(index), *neighbours])

    def _stands(self, socket: netlink.Netlink, netns_fd: int) -> bool:
        """Whether the pair of an earlier execute() is there, whole."""
        outer = socket.link(self.name)
        with netlink.Netlink(netns_fd) as inside:
            inner = inside.link(INTERFACE)
        return (
            outer is not None
            and inner is not None
            and inner.address == self.address
            and (outer.peer, inner.peer) == (inner.index, outer.index)
        )

    def undo(self) -> None:
        """Both ends are gone when this returns; deleting the namespace would do it too, but some time later."""
        netlink.remove_link(self.name)
        with netlink.Netlink() as socket, suppress(OSError):  # where the bridge is gone already
            bridge = socket.index(self.bridge)
            socket.apply([netlink.delete_neighbour(bridge, address) for address in self.neighbours])


class ConfigureInterface(HostOperation, frozen=True, kw_only=True):
    """Addresses and default routes inside; goes with the namespace, so there is nothing to undo."""

    netns: str
    addresses: tuple[str, ...]  # CIDR
    gateways: tuple[str, ...]
    gateway_address: str = ""  # MAC

    def describe(self) -> str:
        routes = ", ".join(f"default via {gateway}" for gateway in self.gateways)
        return f"{INTERFACE} address {' '.join(self.addresses)} up, {routes} in netns {self.netns}"

    def execute(self) -> None:
        with netlink.in_netns(self.netns, self._open) as socket:
            index = socket.index(INTERFACE)
            socket.apply(
                [
                    *(netlink.add_address(index, address) for address in self.addresses),
                    netlink.set_up(index),
                    *self._neighbours(index),
                    *(netlink.add_default_route(index, gateway) for gateway in self.gateways),
                ]
            )

    def _neighbours(self, index: int) -> list[netlink.Request]:
        """The host's tables count the neighbours of all pods together, permanent ones excepted (gc_thresh3: 1,024)."""
        if not self.gateway_address:
            return []
        return [netlink.add_neighbour(index, gateway, self.gateway_address) for gateway in self.gateways]

    def _open(self) -> netlink.Netlink:
        _set_up_sysctls(INTERFACE, self.addresses)
        return netlink.Netlink()


def _set_up_sysctls(interface: str, addresses: tuple[str, ...]) -> None:
    """No pod is the others' router, nor the host's (CVE-2020-10749), also where only link-local IPv6 is spoken.

    No duplicate addresses are looked for, of the link-local address neither: a bridge port in hairpin mode would answer
    the pod's own question.
    """
    names = ["ipv4/conf/{}/accept_redirects", "ipv6/conf/{}/accept_redirects", "ipv6/conf/{}/accept_ra"]
    names += ["ipv6/conf/{}/accept_dad"] if any(":" in address for address in addresses) else []
    sysctl.write({f"net/{name.format(interface)}": "0" for name in names}, missing_ok=True)  # a kernel without IPv6
