"""What an nftables table is made of, as values (layer 1): nft(8)'s text of each, and the kernel's attributes. Pure.

The vocabulary is what this project's table needs, no more. Text and attributes come from the same value: the text is
in errors and is what a test has nft(8) read; the attributes (linux/netfilter/nf_tables.h) are what the kernel gets.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from minipod.kernel.netlink_messages import attribute

NESTED = 0x8000
_ETH_NAME_BYTES = 16

_HOOKS = {"prerouting": 0, "input": 1, "forward": 2, "output": 3, "postrouting": 4}
_NF_ACCEPT, _NF_DROP, _NFT_RETURN, _NFT_JUMP = 1, 0, -5, -3
_NFPROTO = {"ipv4": 2, "ipv6": 10}
PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}

_NFT_REG_VERDICT, _NFT_REG_1 = 0, 1
_NFT_CMP_EQ, _NFT_CMP_NEQ = 0, 1
_NFT_SET_ANONYMOUS, _NFT_SET_CONSTANT, _NFT_SET_MAP = 0x1, 0x2, 0x8
_NFT_NAT_DNAT, _NF_NAT_RANGE_PROTO_SPECIFIED = 1, 2
_ANONYMOUS = "__set%d"  # the kernel fills in a number
_CONCATENATED_BITS = 6  # a type of several types is their numbers, six bits each

Attributes = bytes


def nested(kind: int, *attributes: bytes) -> bytes:
    return attribute(kind | NESTED, b"".join(attributes))


def string(kind: int, text: str) -> bytes:
    return attribute(kind, text.encode() + b"\0")


def number(kind: int, value: int) -> bytes:
    """NLA_BE32; also of what is negative."""
    return attribute(kind, struct.pack(">I", value & 0xFFFFFFFF))


class Type(msgspec.Struct, frozen=True):
    """A data type of nft(8), `describe` prints them; `number` is what the kernel stores for the reader."""

    name: str
    number: int
    size: int  # bytes

    def encode(self, text: str) -> bytes:
        """Raises ValueError, OSError for what is no value of this type."""
        if self.name == "ifname":
            return text.encode().ljust(_ETH_NAME_BYTES, b"\0")
        if self.name in ("ipv4_addr", "ipv6_addr"):
            return socket.inet_pton(socket.AF_INET if self.size == 4 else socket.AF_INET6, text)
        if self.name == "inet_service":
            return struct.pack(">H", int(text))
        return struct.pack("=I", _NUMBERS[self.name][text])[: self.size]


_NUMBERS: Mapping[str, Mapping[str, int]] = {
    "inet_proto": PROTOCOLS,
    "nf_proto": _NFPROTO,
    "fib_addrtype": {"local": 2},  # RTN_LOCAL
    "ct_status": {"dnat": 1 << 5},  # IPS_DST_NAT
}
IFNAME = Type("ifname", 41, _ETH_NAME_BYTES)
IPV4_ADDR, IPV6_ADDR = Type("ipv4_addr", 7, 4), Type("ipv6_addr", 8, 16)
INET_PROTO, INET_SERVICE = Type("inet_proto", 12, 1), Type("inet_service", 13, 2)
_NF_PROTO, _FIB_ADDRTYPE, _CT_STATUS = Type("nf_proto", 38, 1), Type("fib_addrtype", 42, 4), Type("ct_status", 36, 4)


class Selector(msgspec.Struct, frozen=True):
    """Something of a packet. `load`: the expression that puts it into a register, with its numbers by attribute."""

    name: str
    type: Type
    load: str
    numbers: Mapping[int, int]
    register: int = 1  # the attribute that says where to
    family: str = ""  # only packets of this one have it

    def into(self, register: int, size: int = 0) -> bytes:
        """Its first `size` bytes, where it is a part of the packet; all of it otherwise."""
        numbers = {**self.numbers, self.register: register}
        if size:
            numbers[_PAYLOAD_LEN] = size
        return expression(self.load, *(number(kind, value) for kind, value in numbers.items()))


_PAYLOAD_BASE, _PAYLOAD_OFFSET, _PAYLOAD_LEN = 2, 3, 4
_NETWORK_HEADER, _TRANSPORT_HEADER = 1, 2
_KEY = 2  # NFTA_META_KEY, NFTA_CT_KEY


def _payload(base: int, offset: int, size: int) -> Mapping[int, int]:
    return {_PAYLOAD_BASE: base, _PAYLOAD_OFFSET: offset, _PAYLOAD_LEN: size}


IIFNAME = Selector("iifname", IFNAME, "meta", {_KEY: 6})
OIFNAME = Selector("oifname", IFNAME, "meta", {_KEY: 7})
NFPROTO = Selector("meta nfproto", _NF_PROTO, "meta", {_KEY: 15})
L4PROTO = Selector("meta l4proto", INET_PROTO, "meta", {_KEY: 16})
IP_SADDR = Selector("ip saddr", IPV4_ADDR, "payload", _payload(_NETWORK_HEADER, 12, 4), family="ipv4")
IP_DADDR = Selector("ip daddr", IPV4_ADDR, "payload", _payload(_NETWORK_HEADER, 16, 4), family="ipv4")
IP6_SADDR = Selector("ip6 saddr", IPV6_ADDR, "payload", _payload(_NETWORK_HEADER, 8, 16), family="ipv6")
IP6_DADDR = Selector("ip6 daddr", IPV6_ADDR, "payload", _payload(_NETWORK_HEADER, 24, 16), family="ipv6")
DPORT = Selector("th dport", INET_SERVICE, "payload", _payload(_TRANSPORT_HEADER, 2, 2))
FIB_DADDR_TYPE = Selector("fib daddr type", _FIB_ADDRTYPE, "fib", {2: 3, 3: 2})  # NFT_FIB_RESULT_ADDRTYPE of the daddr
CT_STATUS = Selector("ct status", _CT_STATUS, "ct", {_KEY: 2})


def expression(name: str, *attributes: bytes) -> bytes:
    """NFTA_LIST_ELEM with NFTA_EXPR_NAME and NFTA_EXPR_DATA."""
    return nested(1, string(1, name), nested(2, *attributes))


def _data(kind: int, value: bytes) -> bytes:
    return nested(kind, attribute(1, value))  # NFTA_DATA_VALUE


def _compare(value: bytes, operator: int = _NFT_CMP_EQ) -> bytes:
    return expression("cmp", number(1, _NFT_REG_1), number(2, operator), _data(3, value))


def _masked(mask: bytes) -> bytes:
    size = number(3, len(mask))
    return expression(
        "bitwise", number(1, _NFT_REG_1), number(2, _NFT_REG_1), size, _data(4, mask), _data(5, bytes(len(mask)))
    )


class Match(msgspec.Struct, frozen=True):
    """Packets of which `selector` is `value`: an address also with a prefix length, the name of an interface also by
    its beginning (`minipod*`). Others leave the rule.
    """

    selector: Selector
    value: str
    negated: bool = False

    def text(self) -> str:
        return f"{self.selector.name} {'!= ' if self.negated else ''}{self.value}"

    def expressions(self) -> bytes:
        address, _, length = self.value.partition("/")
        value = self.selector.type.encode(address)
        if self.selector.type is IFNAME and self.value.endswith("*"):
            value = self.value[:-1].encode()
        if self.selector is CT_STATUS:  # one bit of several
            unset = _compare(bytes(len(value)), _NFT_CMP_NEQ)
            return self.selector.into(_NFT_REG_1) + _masked(value) + unset
        operator = _NFT_CMP_NEQ if self.negated else _NFT_CMP_EQ
        if not length:
            return self.selector.into(_NFT_REG_1) + _compare(value, operator)
        size, bits = divmod(int(length), 8)
        if not bits:  # whole bytes need no mask
            return self.selector.into(_NFT_REG_1, size) + _compare(value[:size], operator)
        mask = ((1 << 8 * len(value)) - (1 << 8 * len(value) - int(length))).to_bytes(len(value), "big")
        return self.selector.into(_NFT_REG_1) + _masked(mask) + _compare(value, operator)


class MatchAny(msgspec.Struct, frozen=True):
    """Packets of which `selector` is one of `values`: an anonymous set of the rule's own."""

    selector: Selector
    values: tuple[str, ...]

    def text(self) -> str:
        return f"{self.selector.name} {{ {', '.join(self.values)} }}"

    def expressions(self, set_id: int) -> bytes:
        return self.selector.into(_NFT_REG_1) + _lookup(_ANONYMOUS, _NFT_REG_1, set_id=set_id)

    def messages(self, set_id: int) -> Iterator[Message]:
        """The set and its elements, before the rule that uses them."""
        kind = self.selector.type
        yield Message(
            _NEWSET,
            string(2, _ANONYMOUS)
            + number(3, _NFT_SET_ANONYMOUS | _NFT_SET_CONSTANT)
            + number(4, kind.number)
            + number(5, kind.size)
            + number(10, set_id)
            + nested(9, number(1, len(self.values))),
        )
        elements = (nested(n, _data(1, kind.encode(value))) for n, value in enumerate(self.values, 1))
        yield Message(_NEWSETELEM, string(2, _ANONYMOUS) + number(4, set_id) + nested(3, *elements))


class Verdict(msgspec.Struct, frozen=True):
    """`drop`, `return` or, with a chain, `jump`."""

    name: str
    chain: str = ""

    def text(self) -> str:
        return f"{self.name} {self.chain}".rstrip()

    def expressions(self) -> bytes:
        code = {"drop": _NF_DROP, "return": _NFT_RETURN, "jump": _NFT_JUMP}[self.name]
        target = [string(2, self.chain)] if self.chain else []
        verdict = nested(2, nested(2, number(1, code), *target))  # NFTA_IMMEDIATE_DATA, NFTA_DATA_VERDICT
        return expression("immediate", number(1, _NFT_REG_VERDICT), verdict)


class Masquerade(msgspec.Struct, frozen=True):
    """The packet leaves with this host's address."""

    def text(self) -> str:
        return "masquerade"

    def expressions(self) -> bytes:
        return expression("masq")


class Dnat(msgspec.Struct, frozen=True):
    """The packet goes to the address and port that two maps have for the same key, if any."""

    version: int  # 4 or 6
    key: tuple[Selector, ...]
    address_map: str
    port_map: str

    def text(self) -> str:
        key = " . ".join(selector.name for selector in self.key)
        family = "ip" if self.version == 4 else "ip6"
        return f"dnat {family} to {key} map @{self.address_map}:{key} map @{self.port_map}"

    def expressions(self) -> bytes:
        family = _NFPROTO[f"ipv{self.version}"]
        parts = []
        for word, name in ((0, self.address_map), (4, self.port_map)):
            register = _register(word)
            for selector in self.key:
                parts.append(selector.into(_register(word)))
                word += -(-selector.type.size // 4)
            parts.append(_lookup(name, register, into=register))
        address, port = number(3, _register(0)), number(5, _register(4))
        flags = number(7, _NF_NAT_RANGE_PROTO_SPECIFIED)
        parts.append(expression("nat", number(1, _NFT_NAT_DNAT), number(2, family), address, port, flags))
        return b"".join(parts)


def _register(word: int) -> int:
    """The register that begins at this 32-bit word: NFT_REG_1 … 4 of four words each, NFT_REG32_00 … of one."""
    return 8 + word if word % 4 else 1 + word // 4


def _lookup(name: str, register: int, *, into: int = 0, set_id: int = 0) -> bytes:
    more = [number(3, into)] if into else []
    return expression("lookup", number(2, register), *more, string(1, name), *([number(4, set_id)] if set_id else []))


Statement = Match | MatchAny | Verdict | Masquerade | Dnat


class Message(msgspec.Struct, frozen=True):
    """One message of a batch: NFT_MSG_*, the attributes after that of the table, flags besides NLM_F_REQUEST."""

    kind: int
    attributes: bytes
    flags: int = 0x400  # NLM_F_CREATE


_NEWTABLE, _DELTABLE, _NEWCHAIN, _NEWRULE, _NEWSET, _NEWSETELEM, _DELSETELEM = 0, 2, 3, 6, 9, 12, 14
_NLM_F_APPEND = 0x800


class Table(msgspec.Struct, frozen=True):
    """The table itself, of the family inet."""

    def text(self, table: str) -> str:
        return f"table inet {table}"

    def messages(self, set_id: int) -> Iterator[Message]:
        yield Message(_NEWTABLE, number(2, 0), flags=0)

    def deletion(self) -> Message:
        return Message(_DELTABLE, b"", flags=0)


class Chain(msgspec.Struct, frozen=True):
    """A chain; with a hook it sees packets by itself, and accepts those that it has no verdict for."""

    name: str
    type: str = ""
    hook: str = ""
    priority: int = 0

    def text(self, table: str) -> str:
        hook = f"type {self.type} hook {self.hook} priority {self.priority}; policy accept;"
        return f"chain inet {table} {self.name}" + (f" {{ {hook} }}" if self.hook else "")

    def messages(self, set_id: int) -> Iterator[Message]:
        attributes = string(3, self.name)
        if self.hook:
            place = nested(4, number(1, _HOOKS[self.hook]), number(2, self.priority))
            attributes += string(7, self.type) + number(5, _NF_ACCEPT) + place
        yield Message(_NEWCHAIN, attributes)


class Rule(msgspec.Struct, frozen=True):
    """Statements, one after the other, at the end of a chain."""

    chain: str
    statements: tuple[Statement, ...]

    def text(self, table: str) -> str:
        return f"rule inet {table} {self.chain} " + " ".join(statement.text() for statement in self.statements)

    def messages(self, set_id: int) -> Iterator[Message]:
        parts, family = [], ""
        for statement in self.statements:
            if isinstance(statement, MatchAny):
                yield from statement.messages(set_id)
                parts.append(statement.expressions(set_id))
                continue
            if isinstance(statement, Match):
                wanted = statement.selector.family
                if wanted and wanted != family:  # nft adds this itself: what an offset means depends on the protocol
                    parts.append(Match(NFPROTO, wanted).expressions())
                family = wanted or (statement.value if statement.selector is NFPROTO else family)
            parts.append(statement.expressions())
        yield Message(_NEWRULE, string(2, self.chain) + nested(4, *parts), flags=0x400 | _NLM_F_APPEND)


class Map(msgspec.Struct, frozen=True):
    """A named map from a key of several values to one."""

    name: str
    key: tuple[Type, ...]
    value: Type

    def text(self, table: str) -> str:
        key = " . ".join(kind.name for kind in self.key)
        return f"map inet {table} {self.name} {{ type {key} : {self.value.name}; }}"

    def messages(self, set_id: int) -> Iterator[Message]:
        kind = 0
        for part in self.key:
            kind = kind << _CONCATENATED_BITS | part.number
        yield Message(
            _NEWSET,
            string(2, self.name)
            + number(3, _NFT_SET_MAP)
            + number(4, kind)
            + number(5, sum(-(-part.size // 4) * 4 for part in self.key))
            + number(6, self.value.number)
            + number(7, self.value.size)
            + number(10, set_id),
        )

    def encode_key(self, key: Sequence[str]) -> bytes:
        """Each value at a multiple of four bytes."""
        parts = (kind.encode(value) for kind, value in zip(self.key, key, strict=True))
        return b"".join(part + bytes(-len(part) % 4) for part in parts)


class Element(msgspec.Struct, frozen=True):
    """An element of a map."""

    map: Map
    key: tuple[str, ...]
    value: str

    def text(self, table: str) -> str:
        return f"element inet {table} {self.map.name} {{ {' . '.join(self.key)} : {self.value} }}"

    def key_attributes(self) -> bytes:
        """The set and this element's key, as a request names it."""
        return string(2, self.map.name) + nested(3, nested(1, self._key()))

    def encoded_value(self) -> bytes:
        return self.map.value.encode(self.value)

    def messages(self, set_id: int) -> Iterator[Message]:
        value = _data(2, self.encoded_value())
        yield Message(_NEWSETELEM, string(2, self.map.name) + nested(3, nested(1, self._key(), value)))

    def deletion(self) -> Message:
        return Message(_DELSETELEM, self.key_attributes(), flags=0)

    def _key(self) -> bytes:
        return _data(1, self.map.encode_key(self.key))


class Delete(msgspec.Struct, frozen=True):
    """The removal of a table, with everything in it, or of an element."""

    thing: Table | Element

    def text(self, table: str) -> str:
        return self.thing.text(table)

    def messages(self, set_id: int) -> Iterator[Message]:
        yield self.thing.deletion()


Command = Table | Chain | Rule | Map | Element | Delete
