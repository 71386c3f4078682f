"""nft(8) as an oracle: what it makes of the rules' text is what the kernel was asked for."""

from __future__ import annotations

import errno
import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from minipod.kernel.nft import Nftables, generation
from minipod.kernel.nft_rules import Command, Delete, Rule
from minipod.plan.configs import PortMapping
from minipod.plan.network.nat import AddPortMappings, EnsureNat, exists
from tests.network_fixtures import Namespace, nft

NAME = "mp123456"
TABLE = EnsureNat(table=NAME, bridges=f"{NAME}*", subnets=("10.86.16.0/20", "fd00:1:2::/62", "fd00:9::/64"))
PORTS = AddPortMappings(
    table=NAME,
    ipv4="10.86.16.2",
    ipv6="fd00:1:2::2",
    mappings=(
        PortMapping(container_port=80, host_port=8080),
        PortMapping(container_port=53, host_port=53, protocol="UDP", host_ip="127.0.0.1"),
        PortMapping(container_port=65535, host_port=1, protocol="SCTP", host_ip="::1"),
    ),
)
COMMANDS: list[Command] = [*TABLE.commands(), *PORTS._elements()]


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    made = Namespace()
    yield made
    made.close()


def listed() -> list[dict[str, Any]]:
    """The ruleset without what differs from time to time, in an order of its own; a set's content is none."""
    things = json.loads(subprocess.check_output(["nft", "-j", "list", "ruleset"], timeout=60))["nftables"]
    for thing in things:
        for body in thing.values():
            body.pop("handle", None)
            body.get("elem", []).sort(key=str)
    return sorted((thing for thing in things if "metainfo" not in thing), key=str)


@pytest.mark.vm
def test_the_kernel_has_what_nft_makes_of_the_text(namespace: Namespace) -> None:
    other = Namespace()
    try:
        namespace(lambda: run(*COMMANDS))
        other(lambda: nft(*(f"add {command.text(NAME)}" for command in COMMANDS)))
        ours, theirs = namespace(listed), other(listed)
        assert ours == theirs
        assert sum("rule" in thing for thing in ours) == sum(isinstance(command, Rule) for command in COMMANDS)
    finally:
        other.close()


def run(*commands: Command) -> None:
    with Nftables() as nftables:
        nftables.run(NAME, commands)


@pytest.mark.vm
def test_a_table_and_host_ports_are_made_again_and_taken_away(namespace: Namespace) -> None:
    def act() -> None:
        for _ in range(2):  # what stands is left as it is
            TABLE.execute()
            PORTS.execute()
        before = generation()
        with_ports = nft(f"list table inet {NAME}")
        assert "tcp . 8080 : 10.86.16.2" in with_ports
        for _ in range(2):
            PORTS.undo()
        assert "elements" not in nft(f"list table inet {NAME}")
        assert generation() != before
        for _ in range(2):
            TABLE.undo()
        with Nftables() as nftables:
            assert not exists(nftables, NAME)
        assert nft("list ruleset") == ""

    namespace(act)


def test_a_port_that_has_another_owner_by_now_is_left_to_it(namespace: Namespace) -> None:
    def act() -> None:
        TABLE.execute()
        successor = AddPortMappings(table=NAME, ipv4="10.86.16.3", mappings=PORTS.mappings)
        successor.execute()
        PORTS.undo()
        assert "tcp . 8080 : 10.86.16.3" in nft(f"list table inet {NAME}")

    namespace(act)


def test_a_transaction_that_fails_changes_nothing_and_names_the_command(namespace: Namespace) -> None:
    def act() -> None:
        TABLE.execute()
        before = nft("list ruleset")
        taken = AddPortMappings(table=NAME, ipv4="10.86.16.3", mappings=PORTS.mappings)
        first, *rest = taken._elements()
        run(first)
        with pytest.raises(
            OSError, match=r"nftables: add element inet mp123456 hostport4_address \{ tcp . 8080 : "
        ) as caught:
            run(*rest, *PORTS._elements())
        assert caught.value.errno == errno.EEXIST
        run(Delete(first))
        assert nft("list ruleset") == before

    namespace(act)


def test_a_thousand_host_ports_are_one_transaction(namespace: Namespace) -> None:
    def act() -> None:
        TABLE.execute()
        mappings = tuple(PortMapping(container_port=80, host_port=number) for number in range(1000, 2000))
        many = AddPortMappings(table=NAME, ipv4="10.86.16.2", ipv6="fd00:1:2::2", mappings=mappings)
        many.execute()
        assert nft(f"list map inet {NAME} hostport6_port").count(" : 80") == 1000
        many.undo()
        assert "elements" not in nft(f"list table inet {NAME}")

    namespace(act)


def test_sets_that_another_nft_wrote_are_no_matter(namespace: Namespace) -> None:
    """libnftables 1.0.6, which an earlier minipod used, crashed on a set with the type of an expression."""

    def act() -> None:
        nft(
            "add table inet foreign",
            "add set inet foreign s { typeof ip saddr . ct original packets ; }",
            "add chain inet foreign forward { type filter hook forward priority 0; policy drop; }",
        )
        TABLE.execute()
        with Nftables() as nftables:
            assert nftables.drops("forward") == ["inet foreign forward"]
            assert exists(nftables, NAME)
        TABLE.undo()

    namespace(act)
