"""Masquerading and hostPorts as operations on one nftables table of the instance's own (layer 2).

hostPorts are elements of maps, not rules: adding and removing one is one transaction, needs no handle, and a
connection is looked up in one step however many pods there are. Two maps for each key (address and port), because
nft(8) of Debian 12 cannot print a map to a pair (docs/decisions/031).
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from ipaddress import ip_address

from minipod.kernel import conntrack, nft
from minipod.kernel.nft_rules import (
    CT_STATUS,
    DPORT,
    FIB_DADDR_TYPE,
    IIFNAME,
    INET_PROTO,
    INET_SERVICE,
    IP6_DADDR,
    IP6_SADDR,
    IP_DADDR,
    IP_SADDR,
    IPV4_ADDR,
    IPV6_ADDR,
    L4PROTO,
    NFPROTO,
    OIFNAME,
    PROTOCOLS,
    Chain,
    Command,
    Delete,
    Dnat,
    Element,
    Map,
    Masquerade,
    Match,
    MatchAny,
    Rule,
    Statement,
    Table,
    Verdict,
)
from minipod.plan.configs import PortMapping
from minipod.plan.operation import HostOperation

_ADDRESS = {4: IPV4_ADDR, 6: IPV6_ADDR}
_SOURCE, _DESTINATION = {4: IP_SADDR, 6: IP6_SADDR}, {4: IP_DADDR, 6: IP6_DADDR}
_LOOPBACK = {4: "127.0.0.0/8", 6: "::1"}
_GUARD = "guard"  # the first of the chains; it stands as long as the table


class EnsureNat(HostOperation, frozen=True, kw_only=True):
    """The table: masquerading for the pods' subnets, the hostPort maps, the guard of the host's loopback."""

    table: str
    bridges: str  # what the names of the pods' bridges have in common, with an asterisk: minipod*
    subnets: tuple[str, ...]  # CIDR networks, one IPv4 and perhaps one IPv6

    def describe(self) -> str:
        return f"nft table inet {self.table}: masquerade {' '.join(self.subnets)} leaving other than by {self.bridges}"

    def execute(self) -> None:
        with nft.Nftables() as nftables:
            if not exists(nftables, self.table):
                nftables.run(self.table, self.commands())

    def undo(self) -> None:
        """The table with everything in it, hostPorts too. Looks first: a failing transaction waits for RCU (20 ms)."""
        with nft.Nftables() as nftables:
            if exists(nftables, self.table):
                _delete(nftables, self.table, [Delete(Table())])

    def commands(self) -> list[Command]:
        """The whole table as one transaction."""
        from_bridge = Match(IIFNAME, self.bridges)
        to_host = Match(FIB_DADDR_TYPE, "local")
        to_loopback = Match(IP_DADDR, _LOOPBACK[4])
        commands: list[Command] = [
            Table(),
            Chain(_GUARD, "filter", "prerouting", -300),
            Chain("prerouting", "nat", "prerouting", -100),
            Chain("output", "nat", "output", -100),
            Chain("postrouting", "nat", "postrouting", 100),
            Chain("hostports"),
            # route_localnet makes these possible; they must not be used
            _rule(_GUARD, from_bridge, to_loopback, Verdict("drop")),
            _rule(_GUARD, from_bridge, Match(IP_SADDR, _LOOPBACK[4]), Verdict("drop")),
            # Linux delivers nothing from elsewhere to ::1: refused at once is better than no answer, 127.0.0.1 works.
            _rule("output", Match(IP6_DADDR, _LOOPBACK[6]), Verdict("return")),
            # Only this host sends to 127.0.0.0/8, through `output`. A neighbour's packet to it is a martian, which the
            # kernel drops, but it would no longer be one once its address is translated.
            _rule("prerouting", to_loopback, Verdict("return")),
            # What the host sends to a bridge's address keeps its own: the answerer serves the pods' subnets only.
            _rule("postrouting", Match(OIFNAME, "lo"), Verdict("return")),
            _rule("prerouting", to_host, Verdict("jump", "hostports")),
            _rule("output", to_host, Verdict("jump", "hostports")),
        ]
        for subnet in self.subnets:
            commands += self._for_subnet(subnet)
        return commands

    def _for_subnet(self, subnet: str) -> Iterator[Command]:
        version = ip_address(subnet.partition("/")[0]).version
        for bound in (True, False):
            maps = [_map(version, bound, value) for value in ("address", "port")]
            yield from maps
            key = (*([_DESTINATION[version]] if bound else []), L4PROTO, DPORT)
            transport = MatchAny(L4PROTO, tuple(PROTOCOLS))
            translate = Dnat(version, key, *(each.name for each in maps))
            yield _rule("hostports", Match(NFPROTO, f"ipv{version}"), transport, translate)
        outside, inside = Match(OIFNAME, self.bridges, negated=True), Match(OIFNAME, self.bridges)
        yield _rule("postrouting", outside, Match(_SOURCE[version], subnet), Masquerade())
        # A hostPort reached from a pod or from the host's own loopback: the answer has to come back through here.
        for back in (subnet, *([_LOOPBACK[4]] if version == 4 else [])):
            source = Match(_SOURCE[version], back)
            yield _rule("postrouting", inside, Match(CT_STATUS, "dnat"), source, Masquerade())


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
            nftables.run(self.table, list(self._elements()))
        self._forget_flows()

    def undo(self) -> None:
        """Only what leads to this pod: after a crash a port may have a new owner.

        One transaction for all: the kernel waits out an RCU grace period after each that deletes.
        """
        with nft.Nftables() as nftables:
            found: list[Command] = []
            for address, port in zip(*[iter(self._elements())] * 2, strict=True):
                if nftables.holds(self.table, address):
                    found += [Delete(address), Delete(port)]
            if found:
                _delete(nftables, self.table, found)
        self._forget_flows()

    def replace(self) -> None:
        """As `execute`, where the ports may lead elsewhere yet: in one transaction."""
        with nft.Nftables() as nftables:
            there = {element: nftables.value(self.table, element) for element in self._elements()}
            other = [element for element, value in there.items() if value != element.encoded_value()]
            replaced = [Delete(element) for element in other if there[element] is not None]
            if other:
                nftables.run(self.table, [*replaced, *other])
        if replaced:  # flows are looked for among all of the host's: not where there are none yet
            self._forget_flows()

    def _forget_flows(self) -> None:
        """UDP clients that send all the time have to notice that the port has another owner."""
        for mapping in self.mappings:
            if mapping.protocol == "UDP":
                for family, address in ((socket.AF_INET, self.ipv4), (socket.AF_INET6, self.ipv6)):
                    if address:
                        conntrack.forget_udp(family, mapping.host_port)

    def _elements(self) -> Iterator[Element]:
        """Two for each mapping and family: its address, its port."""
        for mapping in self.mappings:
            bound = ip_address(mapping.host_ip) if mapping.host_ip else None
            for version, address in ((4, self.ipv4), (6, self.ipv6)):
                if not address or (bound is not None and bound.version != version):
                    continue
                is_bound = bound is not None and not bound.is_unspecified
                key = (*([str(bound)] if is_bound else []), mapping.protocol.lower(), str(mapping.host_port))
                yield Element(_map(version, is_bound, "address"), key, address)
                yield Element(_map(version, is_bound, "port"), key, str(mapping.container_port))


def exists(nftables: nft.Nftables, table: str) -> bool:
    """Whether the instance's table exists."""
    return nftables.exists(table, _GUARD)


def _delete(nftables: nft.Nftables, table: str, commands: list[Command]) -> None:
    """Runs commands of deletion. Objects that another process has removed already are no error."""
    try:
        nftables.run(table, commands)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise


def _map(version: int, bound: bool, value: str) -> Map:
    """hostport4_address, hostip6_port …: `bound` to one address of the host, or on all of them."""
    key = (*([_ADDRESS[version]] if bound else []), INET_PROTO, INET_SERVICE)
    kind = _ADDRESS[version] if value == "address" else INET_SERVICE
    return Map(f"{'hostip' if bound else 'hostport'}{version}_{value}", key, kind)


def _rule(chain: str, *statements: Statement) -> Rule:
    return Rule(chain, statements)
