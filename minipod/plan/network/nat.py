"""Masquerading and hostPorts as operations on one nftables table of the instance's own (layer 2).

hostPorts are elements of maps, not rules: adding and removing one is one transaction, needs no handle, and a
connection is looked up in one step however many pods there are. Two maps for each key (address and port), because
libnftables' JSON knows no map to a pair before 1.0.9.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

from minipod.kernel import conntrack, nft
from minipod.plan.configs import PortMapping
from minipod.plan.operation import HostOperation

Command = dict[str, Any]

_KEY_ANY = ["inet_proto", "inet_service"]
_ADDRESS_TYPE = {4: "ipv4_addr", 6: "ipv6_addr"}
_PROTOCOL = {4: "ip", 6: "ip6"}
#: libnftables tells a protocol by its number where the host has no /etc/protocols (Debian's package netbase)
_PROTOCOL_NAMES = {6: "tcp", 17: "udp", 132: "sctp"}
_LOOPBACK = {4: ("127.0.0.0", 8), 6: ("::1", 128)}


class EnsureNat(HostOperation, frozen=True, kw_only=True):
    """The table: masquerading for the pods' subnets, the hostPort maps, the guard of the host's loopback."""

    table: str
    bridge: str
    subnets: tuple[str, ...]  # CIDR networks, one IPv4 and perhaps one IPv6

    def describe(self) -> str:
        return f"nft table inet {self.table}: masquerade {' '.join(self.subnets)} leaving other than by {self.bridge}"

    def execute(self) -> None:
        with nft.Nftables() as nftables:
            if not exists(nftables, self.table):
                nftables.run(self.commands())

    def undo(self) -> None:
        """The table with everything in it, hostPorts too. Looks first: a failing transaction waits for RCU (20 ms)."""
        with nft.Nftables() as nftables:
            if exists(nftables, self.table):
                _run_unless(nftables, [{"delete": {"table": {"family": "inet", "name": self.table}}}], errno.ENOENT)

    def commands(self) -> list[Command]:
        """The whole table as one transaction."""
        base = {"family": "inet", "table": self.table}
        commands: list[Command] = [
            {"add": {"table": {"family": "inet", "name": self.table}}},
            _chain(base, "guard", "filter", "prerouting", -300),
            _chain(base, "prerouting", "nat", "prerouting", -100),
            _chain(base, "output", "nat", "output", -100),
            _chain(base, "postrouting", "nat", "postrouting", 100),
            {"add": {"chain": {**base, "name": "hostports"}}},
        ]
        from_bridge = _match({"meta": {"key": "iifname"}}, self.bridge)
        for field in ("daddr", "saddr"):  # route_localnet makes these possible, nobody is to use them
            loopback = _match(_payload("ip", field), _prefix(*_LOOPBACK[4]))
            commands.append(_rule(base, "guard", from_bridge, loopback, {"drop": None}))
        # Linux delivers nothing from elsewhere to ::1: refused at once is better than no answer, 127.0.0.1 does work.
        commands.append(_rule(base, "output", _match(_payload("ip6", "daddr"), _LOOPBACK[6][0]), {"return": None}))
        # Only this host sends to 127.0.0.0/8, through `output`. A neighbour's packet to it is a martian, which the
        # kernel drops, but it would no longer be one once its address is translated.
        loopback = _match(_payload("ip", "daddr"), _prefix(*_LOOPBACK[4]))
        commands.append(_rule(base, "prerouting", loopback, {"return": None}))
        to_host = _match({"fib": {"result": "type", "flags": ["daddr"]}}, "local")
        for chain in ("prerouting", "output"):
            commands.append(_rule(base, chain, to_host, {"jump": {"target": "hostports"}}))
        for subnet in self.subnets:
            commands += self._for_subnet(base, subnet)
        return commands

    def _for_subnet(self, base: dict[str, str], subnet: str) -> Iterator[Command]:
        address, _, length = subnet.partition("/")
        version = ip_address(address).version
        protocol = _PROTOCOL[version]
        for bound in (True, False):
            key = [_ADDRESS_TYPE[version], *_KEY_ANY] if bound else _KEY_ANY
            for value, kind in (("address", _ADDRESS_TYPE[version]), ("port", "inet_service")):
                yield {"add": {"map": {**base, "name": _map(version, bound, value), "type": key, "map": kind}}}
            looked_up = [{"meta": {"key": "l4proto"}}, _payload("th", "dport")]
            if bound:
                looked_up.insert(0, _payload(protocol, "daddr"))
            to = {
                name: {"map": {"key": {"concat": looked_up}, "data": f"@{_map(version, bound, value)}"}}
                for name, value in (("addr", "address"), ("port", "port"))
            }
            transport = _match({"meta": {"key": "l4proto"}}, {"set": ["tcp", "udp", "sctp"]})
            family = _match({"meta": {"key": "nfproto"}}, f"ipv{version}")
            yield _rule(base, "hostports", family, transport, {"dnat": {"family": protocol, **to}})
        source = _payload(protocol, "saddr")
        outside = _match({"meta": {"key": "oifname"}}, self.bridge, "!=")
        inside = _match({"meta": {"key": "oifname"}}, self.bridge)
        translated = _match({"ct": {"key": "status"}}, "dnat", "in")
        yield _rule(base, "postrouting", outside, _match(source, _prefix(address, int(length))), {"masquerade": None})
        # A hostPort reached from a pod or from the host's own loopback: the answer has to come back through here.
        for back in ((address, int(length)), *([_LOOPBACK[4]] if version == 4 else [])):
            yield _rule(base, "postrouting", inside, translated, _match(source, _prefix(*back)), {"masquerade": None})


class AddPortMappings(HostOperation, frozen=True, kw_only=True):
    """A pod's hostPorts: what reaches the host (or `host_ip` of it) at a port goes to the pod's port."""

    table: str
    ipv4: str = ""  # of the pod, without prefix length
    ipv6: str = ""
    mappings: tuple[PortMapping, ...]

    def describe(self) -> str:
        ports = ", ".join(
            f"{mapping.protocol} {mapping.host_ip or '*'}:{mapping.host_port} -> {mapping.container_port}"
            for mapping in self.mappings
        )
        return f"nft dnat in table inet {self.table} to {' '.join(filter(None, (self.ipv4, self.ipv6)))}: {ports}"

    def execute(self) -> None:
        with nft.Nftables() as nftables:
            nftables.run([self._command("add", name, key, value) for name, key, value in self._elements()])
        self._forget_flows()

    def undo(self) -> None:
        """Only what leads to this pod: after a crash a port may have a new owner.

        One transaction for all: the kernel waits out an RCU grace period after each that deletes.
        """
        elements = list(self._elements())
        with nft.Nftables() as nftables:
            held: dict[str, set[tuple[object, ...]]] = {}
            for address_map in {_address_map(name) for name, _, _ in elements}:
                held[address_map] = _keys_of(nftables, self.table, address_map, {self.ipv4, self.ipv6})
            commands = [
                self._command("delete", name, key)
                for name, key, _ in elements
                if tuple(key) in held[_address_map(name)]
            ]
            if commands:
                _run_unless(nftables, commands, errno.ENOENT)
        self._forget_flows()

    def _forget_flows(self) -> None:
        """UDP clients that send all the time have to notice that the port has another owner."""
        for mapping in self.mappings:
            if mapping.protocol == "UDP":
                for family, address in ((socket.AF_INET, self.ipv4), (socket.AF_INET6, self.ipv6)):
                    if address:
                        conntrack.forget_udp(family, mapping.host_port)

    def _command(self, verb: str, name: str, key: list[object], value: object = None) -> Command:
        where: object = {"concat": key}
        element = where if value is None else [where, value]
        return {verb: {"element": {"family": "inet", "table": self.table, "name": name, "elem": [element]}}}

    def _elements(self) -> Iterator[tuple[str, list[object], object]]:
        """(map, key, value) of every element."""
        for mapping in self.mappings:
            bound = ip_address(mapping.host_ip) if mapping.host_ip else None
            for version, address in ((4, self.ipv4), (6, self.ipv6)):
                if not address or (bound is not None and bound.version != version):
                    continue
                key: list[object] = [mapping.protocol.lower(), mapping.host_port]
                one = bound is not None and not bound.is_unspecified
                if one:
                    key.insert(0, str(bound))
                yield _map(version, one, "address"), key, address
                yield _map(version, one, "port"), key, mapping.container_port


def exists(nftables: nft.Nftables, table: str) -> bool:
    """Whether the instance's table stands."""
    return bool(
        _run_unless(nftables, [{"list": {"chain": {"family": "inet", "table": table, "name": "guard"}}}], errno.ENOENT)
    )


def _run_unless(nftables: nft.Nftables, commands: list[Command], code: int) -> dict[str, Any]:
    try:
        return nftables.run(commands)
    except OSError as error:
        if error.errno != code:
            raise
        return {}


def _keys_of(nftables: nft.Nftables, table: str, name: str, addresses: set[str]) -> set[tuple[object, ...]]:
    """The keys in an address map that lead to one of `addresses`."""
    listing = _run_unless(nftables, [{"list": {"map": {"family": "inet", "table": table, "name": name}}}], errno.ENOENT)
    found: set[tuple[object, ...]] = set()
    for thing in listing.get("nftables", []):
        for key, value in thing.get("map", {}).get("elem", []):
            if value in addresses:
                *bound, protocol, port = key["concat"]
                found.add((*bound, _PROTOCOL_NAMES.get(protocol, protocol), port))
    return found


def _map(version: int, bound: bool, value: str) -> str:
    """hostport4_address, hostip6_port …: `bound` to one address of the host, or on all of them."""
    return f"{'hostip' if bound else 'hostport'}{version}_{value}"


def _address_map(name: str) -> str:
    """The map that says whose an element of map `name` is."""
    return name.rpartition("_")[0] + "_address"


def _chain(base: dict[str, str], name: str, kind: str, hook: str, priority: int) -> Command:
    chain = {**base, "name": name, "type": kind, "hook": hook, "prio": priority, "policy": "accept"}
    return {"add": {"chain": chain}}


def _rule(base: dict[str, str], chain: str, *expressions: dict[str, Any]) -> Command:
    return {"add": {"rule": {**base, "chain": chain, "expr": list(expressions)}}}


def _match(left: dict[str, Any], right: object, operator: str = "==") -> dict[str, Any]:
    return {"match": {"op": operator, "left": left, "right": right}}


def _payload(protocol: str, field: str) -> dict[str, Any]:
    return {"payload": {"protocol": protocol, "field": field}}


def _prefix(address: str, length: int) -> dict[str, Any]:
    return {"prefix": {"addr": address, "len": length}}
