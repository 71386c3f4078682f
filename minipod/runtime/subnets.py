"""Which subnets the pods of an instance get (layer 3): the first that nothing on this host uses."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network, ip_network

import msgspec

from minipod.config import Config
from minipod.errors import HostError
from minipod.kernel import netlink
from minipod.plan.network.forwarding import is_bridge
from minipod.runtime.ipam import BRIDGE_BITS, Leases

_IPV4_PREFIX = 20  # twice what a host can run, so that an address rests before it is used again

Subnet = IPv4Network | IPv6Network


def choose(leases: Leases, config: Config, instance: str, warn: Callable[[str], None]) -> Leases:
    """The leases with subnets; those they have, while a pod has an address. Raises HostError if none is free.

    `warn` gets messages for the user: another subnet than the first was chosen, no IPv6.
    """
    if leases.is_addressed:
        return leases
    with netlink.Netlink() as socket:
        links, routes, addresses = socket.links(), socket.routes(), socket.addresses()
    used = _used(links, routes, addresses, instance)
    ipv4 = _pick(ipv4_candidates(config.ipv4_subnet), used, "ipv4_subnet", warn)
    ipv6 = ""
    if has_ipv6():
        ipv6 = _pick(ipv6_candidates(config.ipv6_subnet, instance), used, "ipv6_subnet", warn)
    else:
        warn("IPv6 is disabled on this host: pods get an IPv4 address only")
    return msgspec.structs.replace(
        leases, ipv4_subnet=ipv4, ipv6_subnet=ipv6, bridge_bits=BRIDGE_BITS, mtu=default_mtu(links, routes)
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


def _pick(candidates: Iterable[Subnet], used: list[tuple[Subnet, str]], key: str, warn: Callable[[str], None]) -> str:
    refused: list[str] = []
    for candidate in candidates:
        user = clash(candidate, used)
        if not user:
            if refused:
                warn(f"pods get addresses of {candidate}: {refused[0]}")
            return str(candidate)
        refused.append(f"{candidate} is in use on this host by {user}")
    raise HostError(f"no subnet for pods is free: {'; '.join(refused[:3])} …: set {key} in the configuration")


def _used(
    links: list[netlink.Link], routes: list[netlink.Route], addresses: list[tuple[int, str]], instance: str
) -> list[tuple[Subnet, str]]:
    """(network, by what) of every address and route of the host, without those of this instance's own bridges.

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
    return [(network, name) for network, name in used if not is_bridge(instance, name)]


def clash(candidate: Subnet, used: list[tuple[Subnet, str]]) -> str:
    """What uses a part of `candidate`; `""` if nothing does."""
    for network, name in used:
        if network.version == candidate.version and network.overlaps(candidate):
            return f"{network} ({name})"
    return ""


def ipv4_candidates(configured: str) -> Iterator[Subnet]:
    """The configured subnet first, then private ones that neither home routers nor other engines begin with."""
    if configured:
        yield ip_network(configured)
    for block in ("10.86.0.0/16", "172.30.0.0/16", "192.168.224.0/19"):
        yield from ip_network(block).subnets(new_prefix=_IPV4_PREFIX)


def ipv6_candidates(configured: str, instance: str) -> Iterator[Subnet]:
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
