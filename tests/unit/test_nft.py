"""What nftables is asked, byte for byte where it matters, and what is made of its answers. Needs no root."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable

import pytest

from minipod.kernel import nft
from minipod.kernel.netlink_messages import attribute
from minipod.kernel.nft_rules import (
    IP6_SADDR,
    IP_SADDR,
    NFPROTO,
    OIFNAME,
    Chain,
    Delete,
    Element,
    Map,
    Match,
    Rule,
    Table,
    Verdict,
    nested,
)
from minipod.plan.configs import PortMapping
from minipod.plan.network.nat import AddPortMappings, EnsureNat

TABLE = """\
table inet mp
chain inet mp guard { type filter hook prerouting priority -300; policy accept; }
chain inet mp prerouting { type nat hook prerouting priority -100; policy accept; }
chain inet mp output { type nat hook output priority -100; policy accept; }
chain inet mp postrouting { type nat hook postrouting priority 100; policy accept; }
chain inet mp hostports
rule inet mp guard iifname mp* ip daddr 127.0.0.0/8 drop
rule inet mp guard iifname mp* ip saddr 127.0.0.0/8 drop
rule inet mp output ip6 daddr ::1 return
rule inet mp prerouting ip daddr 127.0.0.0/8 return
rule inet mp postrouting oifname lo return
rule inet mp prerouting fib daddr type local jump hostports
rule inet mp output fib daddr type local jump hostports
map inet mp hostip4_address { type ipv4_addr . inet_proto . inet_service : ipv4_addr; }
map inet mp hostip4_port { type ipv4_addr . inet_proto . inet_service : inet_service; }
rule inet mp hostports meta nfproto ipv4 meta l4proto { tcp, udp, sctp } dnat ip to \
ip daddr . meta l4proto . th dport map @hostip4_address:ip daddr . meta l4proto . th dport map @hostip4_port
map inet mp hostport4_address { type inet_proto . inet_service : ipv4_addr; }
map inet mp hostport4_port { type inet_proto . inet_service : inet_service; }
rule inet mp hostports meta nfproto ipv4 meta l4proto { tcp, udp, sctp } dnat ip to \
meta l4proto . th dport map @hostport4_address:meta l4proto . th dport map @hostport4_port
rule inet mp postrouting oifname != mp* ip saddr 10.0.0.0/20 masquerade
rule inet mp postrouting oifname mp* ct status dnat ip saddr 10.0.0.0/20 masquerade
rule inet mp postrouting oifname mp* ct status dnat ip saddr 127.0.0.0/8 masquerade
"""


class Kernel:
    """A netlink socket without a kernel: keeps what was sent, answers with what the test has for it."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.answers: list[bytes] = []
        self.is_closed = False

    def setsockopt(self, *_: object) -> None: ...

    def send(self, data: bytes) -> None:
        self.sent.append(data)

    def recv(self, size: int, flags: int = 0) -> bytes:
        if not self.answers:
            assert flags & socket.MSG_DONTWAIT, "would wait for ever"
            raise BlockingIOError
        return self.answers.pop(0)

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel()
    monkeypatch.setattr(socket, "socket", lambda *_: made)
    return made


def messages(data: bytes) -> list[tuple[int, int, int, bytes]]:
    """(type, flags, number, attributes) of each; the lengths have to add up."""
    found = []
    while data:
        length, kind, flags, sequence = struct.unpack_from("=IHHI", data)
        assert length % 4 == 0
        assert 20 <= length <= len(data)
        found.append((kind, flags, sequence, data[20:length]))
        data = data[length:]
    return found


def failure(sequence: int, code: int, words: str = "") -> bytes:
    """NLMSG_ERROR about the message with this number; `words`: the extended ack's."""
    request = struct.pack("=IHHII", 20, 0, 0, sequence, 0)
    body = struct.pack("=i", -code) + request + (attribute(1, words.encode() + b"\0") if words else b"")
    flags = 0x200 if words else 0
    return struct.pack("=IHHII", 16 + len(body), 2, flags, sequence, 0) + body


def message(kind: int, attributes: bytes, family: int = 1, flags: int = 0) -> bytes:
    length = 20 + len(attributes)
    return struct.pack("=IHHIIBBH", length, kind, flags, 1, 0, family, 0, 0) + attributes


def expressions(rule: Match) -> str:
    return rule.expressions().hex()


def test_the_table_is_written_as_nft_writes_it() -> None:
    commands = EnsureNat(table="mp", bridges="mp*", subnets=("10.0.0.0/20",)).commands()
    assert "\n".join(command.text("mp") for command in commands) + "\n" == TABLE


def test_a_transaction_is_one_numbered_batch(kernel: Kernel) -> None:
    commands = EnsureNat(table="mp", bridges="mp*", subnets=("10.0.0.0/20", "fd00::/64")).commands()
    with nft.Nftables() as nftables:
        nftables.run("mp", commands)
    (data,) = kernel.sent
    sent = messages(data)
    assert [kind for kind, *_ in sent[:3]] == [16, 10 << 8 | 0, 10 << 8 | 3]
    assert sent[-1][0] == 17
    assert [sequence for _, _, sequence, _ in sent] == list(range(len(sent)))
    assert all(attributes.startswith(attribute(1, b"mp\0")) for _, _, _, attributes in sent[1:-1])


def test_whole_bytes_of_a_network_are_compared_without_a_mask() -> None:
    assert "62697477697365" not in expressions(Match(IP_SADDR, "127.0.0.0/8"))  # bitwise
    assert "62697477697365" not in expressions(Match(IP6_SADDR, "fd00::/64"))
    assert "fffff000" in expressions(Match(IP_SADDR, "10.86.0.0/20"))
    assert "fffffffffffffffc" + "00" * 8 in expressions(Match(IP6_SADDR, "fd00::/62"))


def test_a_rule_about_an_address_asks_for_its_family_first() -> None:
    rule = Rule("c", (Match(OIFNAME, "x"), Match(IP_SADDR, "10.0.0.1"), Match(IP_SADDR, "10.0.0.2"), Verdict("drop")))
    (made,) = rule.messages(1)
    ipv4 = Match(NFPROTO, "ipv4").expressions()
    assert made.attributes.count(ipv4) == 1
    assert made.attributes.index(ipv4) < made.attributes.index(socket.inet_aton("10.0.0.1"))


@pytest.mark.parametrize(("words", "more"), [("", ""), ("chain is no base chain", ": chain is no base chain")])
def test_a_failure_names_the_command_and_the_kernels_words(kernel: Kernel, words: str, more: str) -> None:
    kernel.answers = [failure(2, errno.ENOENT, words) + failure(3, errno.EEXIST)]
    with nft.Nftables() as nftables, pytest.raises(FileNotFoundError) as caught:
        nftables.run("mp", [Table(), Chain("c"), Rule("c", (Verdict("drop"),))])
    assert caught.value.strerror == f"nftables: add chain inet mp c: {os.strerror(errno.ENOENT)}{more}"
    assert kernel.answers == []


def test_the_failure_of_a_rules_own_set_is_the_rules(kernel: Kernel) -> None:
    commands = EnsureNat(table="mp", bridges="mp*", subnets=("10.0.0.0/20",)).commands()
    place = next(n for n, command in enumerate(commands) if "{ tcp, udp, sctp }" in command.text("mp"))
    kernel.answers = [failure(1 + place, errno.ENOMEM)]
    with nft.Nftables() as nftables, pytest.raises(OSError, match="add rule inet mp hostports meta nfproto ipv4"):
        nftables.run("mp", commands)


def test_what_the_kernel_does_not_say_of_a_transaction_is_success(kernel: Kernel) -> None:
    kernel.answers = [failure(1, 0)]
    with nft.Nftables() as nftables:
        nftables.run("mp", [Delete(Table())])


def element_of(address: str) -> bytes:
    """The answer about an element of an address map."""
    data = nested(1, nested(1, attribute(1, bytes(8))), nested(2, attribute(1, socket.inet_aton(address))))
    return message(10 << 8 | 12, attribute(1, b"mp\0") + attribute(2, b"m\0") + nested(3, data))


def test_a_host_port_is_closed_where_it_leads_to_this_pod_only(kernel: Kernel) -> None:
    ports = tuple(PortMapping(container_port=80, host_port=number) for number in (8080, 8081, 8082))
    kernel.answers = [element_of("10.0.0.2"), element_of("10.0.0.3"), failure(1, errno.ENOENT)]
    AddPortMappings(table="mp", ipv4="10.0.0.2", mappings=ports).undo()
    batch = messages(kernel.sent[-1])
    assert [kind for kind, *_ in batch] == [16, 10 << 8 | 14, 10 << 8 | 14, 17]
    assert all(struct.pack(">H", 8080) in attributes for _, _, _, attributes in batch[1:-1])


def test_other_failures_of_a_question_are_reported(kernel: Kernel) -> None:
    element = Element(Map("m", (), IP_SADDR.type), (), "10.0.0.2")
    with nft.Nftables() as nftables:
        questions: list[Callable[[], object]] = [
            lambda: nftables.exists("mp", "guard"),
            lambda: nftables.holds("mp", element),
            lambda: nftables.drops("forward"),
        ]
        for ask in questions:
            kernel.answers = [failure(1, errno.EPERM)]
            with pytest.raises(PermissionError):
                ask()


def chain(table: str, name: str, hook: int | None, policy: int, family: int, flags: int = 2) -> bytes:
    attributes = attribute(1, table.encode() + b"\0") + attribute(3, name.encode() + b"\0")
    if hook is not None:
        place = attribute(1, struct.pack(">I", hook)) + attribute(2, bytes(4))
        attributes += nested(4, place) + attribute(5, struct.pack(">I", policy))
    return message(10 << 8 | 3, attributes, family, flags)


DONE = struct.pack("=IHHIIi", 20, 3, 2, 1, 0, 0)


def test_chains_that_drop_forwarded_packets_are_found_whatever_else_there_is(kernel: Kernel) -> None:
    kernel.answers = [
        chain("filter", "FORWARD", 2, 0, 2) + chain("filter", "INPUT", 1, 0, 2) + chain("f", "plain", None, 0, 2),
        chain("fw", "forward", 2, 1, 1) + chain("fw6", "forward", 2, 0, 10) + chain("b", "forward", 2, 0, 7),
        DONE,
    ]
    with nft.Nftables() as nftables:
        answers = list(kernel.answers)
        assert nftables.drops("forward") == ["ip filter FORWARD", "ip6 fw6 forward"]
        kernel.answers = answers
        assert nftables.drops("input") == ["ip filter INPUT"]


def test_a_dump_during_which_the_rules_changed_is_made_anew(kernel: Kernel) -> None:
    kernel.answers = [
        chain("a", "x", 2, 0, 1, flags=0x12) + DONE,
        chain("b", "x", 2, 0, 1) + DONE,
    ]
    with nft.Nftables() as nftables:
        assert nftables.drops("forward") == ["inet b x"]
    assert len(kernel.sent) == 2
