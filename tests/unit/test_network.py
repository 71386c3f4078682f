"""The network's pure part: which operations for which pod, names, subnets, nftables as data."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import msgspec
import pytest

from minipod.kernel import netlink, sysctl
from minipod.plan.configs import NamespaceOptions, NetworkFacts, PortMapping, SandboxConfig
from minipod.plan.network import forwarding
from minipod.plan.network.forwarding import EnableForwarding
from minipod.plan.network.nat import AddPortMappings, EnsureNat
from minipod.plan.network.pod_network import (
    ConfigureInterface,
    CreateVeth,
    EnsureBridge,
    bridge_network,
    mac_address,
    pod_network,
    shared_network,
)
from minipod.plan.operation import HostOperation
from minipod.runtime import network, subnets

NETNS = "/run/netns/web"
FACTS = NetworkFacts(
    subnets=("10.86.0.0/20", "fd12::/64"),
    ipv4="10.86.0.2/26",
    ipv4_gateway="10.86.0.1",
    ipv6="fd12::2/122",
    ipv6_gateway="fd12::1",
    bridge="minipod0",
    table="minipod",
    host_interface="minipodabc1234",
    mtu=1400,
)
OTHER = msgspec.structs.replace(
    FACTS,
    ipv4="10.86.0.66/26",
    ipv4_gateway="10.86.0.65",
    ipv6="fd12::42/122",
    ipv6_gateway="fd12::41",
    bridge="minipod1",
)


def sandbox(*ports: PortMapping, network: str = "pod") -> SandboxConfig:
    return SandboxConfig(
        id="a" * 64, name="web", namespace="default", uid="u", hostname="web", log_directory="", cgroup_parent="",
        port_mappings=ports, namespaces=NamespaceOptions(network=network),
    )  # fmt: skip


def test_pod_gets_a_veth_pair_and_addresses_and_nothing_else() -> None:
    operations = pod_network(sandbox(PortMapping(container_port=80, host_port=0)), FACTS, NETNS)
    veth = "veth minipodabc1234 master minipod0 up neighbour 10.86.0.2 fd12::2"
    assert [operation.describe() for operation in operations] == [
        f"{veth}, peer eth0 address 0a:58:0a:56:00:02 in netns /run/netns/web, mtu 1400",
        "eth0 address 10.86.0.2/26 fd12::2/122 up, default via 10.86.0.1, default via fd12::1 in netns /run/netns/web",
    ]


def test_pod_with_host_ports_gets_a_mapping_and_a_hairpin_port() -> None:
    ports = (
        PortMapping(container_port=80, host_port=8080),
        PortMapping(container_port=53, host_port=53, protocol="UDP", host_ip="127.0.0.1"),
    )
    veth, _, mappings = pod_network(sandbox(*ports), FACTS, NETNS)
    assert isinstance(veth, CreateVeth)
    assert veth.hairpin
    assert mappings.describe() == (
        "nft dnat in table inet minipod to 10.86.0.2 fd12::2: TCP *:8080 -> 80, UDP 127.0.0.1:53 -> 53"
    )


def test_pod_on_the_hosts_network_needs_nothing() -> None:
    assert pod_network(sandbox(PortMapping(container_port=80, host_port=80), network="node"), FACTS, NETNS) == []


def test_table_with_the_loopback_guard_comes_before_the_bridge() -> None:
    operations = shared_network(FACTS)
    assert [type(operation) for operation in operations] == [EnsureNat, EnsureBridge, EnableForwarding]
    assert [operation.describe() for operation in [*operations[:2], bridge_network(OTHER)]] == [
        "nft table inet minipod: masquerade 10.86.0.0/20 fd12::/64 leaving other than by minipod*",
        "bridge minipod0 mtu 1400 address 10.86.0.1/20 fd12::1/64 stp off forward-delay 0 up",
        "bridge minipod1 mtu 1400 address 10.86.0.65/26 fd12::41/122 stp off forward-delay 0 up",
    ]


def test_network_without_ipv6_mentions_none() -> None:
    facts = msgspec.structs.replace(FACTS, subnets=FACTS.subnets[:1], ipv6="", ipv6_gateway="")
    ports = PortMapping(container_port=80, host_port=8080)
    text = " ".join(
        operation.describe() for operation in (*shared_network(facts), *pod_network(sandbox(ports), facts, NETNS))
    )
    assert "fd12" not in text
    assert "IPv6" not in text
    assert "  " not in text


def test_operations_survive_being_saved() -> None:
    operations = [
        *shared_network(FACTS),
        *pod_network(sandbox(PortMapping(container_port=80, host_port=80)), FACTS, NETNS),
    ]
    shared = EnsureNat | EnsureBridge | EnableForwarding
    own = CreateVeth | ConfigureInterface | AddPortMappings
    assert msgspec.json.decode(msgspec.json.encode(operations), type=list[shared | own]) == operations
    assert all(isinstance(operation, HostOperation) for operation in operations)


def test_every_rule_of_the_table_is_in_its_own_table() -> None:
    commands = EnsureNat(table="mp123456", bridges="mp123456*", subnets=("10.0.0.0/20", "fd00::/64")).commands()
    for command in commands:
        kind, family, table = command.text("mp123456").split()[:3]
        assert kind in ("table", "chain", "map", "rule")
        assert (family, table) == ("inet", "mp123456")


def test_host_port_without_address_is_mapped_for_both_families() -> None:
    mappings = AddPortMappings(
        table="minipod", ipv4="10.0.0.2", ipv6="fd00::2", mappings=(PortMapping(container_port=80, host_port=8080),)
    )
    assert [element.text("minipod") for element in mappings._elements()] == [
        "element inet minipod hostport4_address { tcp . 8080 : 10.0.0.2 }",
        "element inet minipod hostport4_port { tcp . 8080 : 80 }",
        "element inet minipod hostport6_address { tcp . 8080 : fd00::2 }",
        "element inet minipod hostport6_port { tcp . 8080 : 80 }",
    ]


@pytest.mark.parametrize(
    ("host_ip", "maps"),
    [
        ("127.0.0.1", {"hostip4": ("127.0.0.1", "sctp", "8080")}),
        ("2001:DB8::1", {"hostip6": ("2001:db8::1", "sctp", "8080")}),
        ("0.0.0.0", {"hostport4": ("sctp", "8080")}),
        ("::", {"hostport6": ("sctp", "8080")}),
    ],
)
def test_host_port_with_address_is_mapped_for_its_family_only(host_ip: str, maps: dict[str, tuple[str, ...]]) -> None:
    port = PortMapping(container_port=80, host_port=8080, protocol="SCTP", host_ip=host_ip)
    mappings = AddPortMappings(table="minipod", ipv4="10.0.0.2", ipv6="fd00::2", mappings=(port,))
    wanted = {f"{name}_{value}": key for name, key in maps.items() for value in ("address", "port")}
    assert {element.map.name: element.key for element in mappings._elements()} == wanted


def test_mac_address_follows_the_address() -> None:
    assert mac_address("10.86.1.2/20") == "0a:58:0a:56:01:02"
    assert mac_address("fd00::1:2") == "0a:58:00:01:00:02"


@pytest.mark.parametrize("instance", ["minipod", "mpabcdef"])
def test_interface_names_fit_the_kernel_and_never_repeat(instance: str) -> None:
    names: set[str] = set()
    for number in range(1000):
        names.add(network.interface_name(instance, f"{number:064x}", names))
    assert len(names) == 1000
    assert {len(name) for name in names} == {len(instance) + 7}
    assert max(map(len, names)) <= 15


def test_interface_name_in_use_is_not_given_twice() -> None:
    first = network.interface_name("minipod", "a", set())
    assert network.interface_name("minipod", "a", set()) == first
    assert network.interface_name("minipod", "a", {first}) != first


def test_ipv4_candidates_begin_with_the_configured_one() -> None:
    assert str(next(subnets.ipv4_candidates(""))) == "10.86.0.0/20"
    assert [str(candidate) for candidate in list(subnets.ipv4_candidates("10.1.0.0/24"))[:2]] == [
        "10.1.0.0/24",
        "10.86.0.0/20",
    ]


def test_ipv6_candidates_are_unique_local_and_different_for_each_instance() -> None:
    one, other = list(subnets.ipv6_candidates("", "minipod")), list(subnets.ipv6_candidates("", "mp123456"))
    assert all(candidate.prefixlen == 64 and candidate.subnet_of(ip_network("fd00::/8")) for candidate in one)  # type: ignore[arg-type]
    assert not set(one) & set(other)
    assert len(set(one)) == len(one)


def test_default_routes_use_no_subnet_but_specific_ones_do() -> None:
    used = [(ip_network("10.0.0.0/8"), "vpn0")]
    assert subnets.clash(ip_network("10.86.0.0/20"), used) == "10.0.0.0/8 (vpn0)"
    assert subnets.clash(ip_network("172.30.0.0/20"), used) == ""
    assert subnets.clash(ip_network("fd00::/64"), used) == ""


class Sysctls:
    """A /proc/sys of files, and /run beside it."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = tmp_path
        monkeypatch.setattr(sysctl, "SYSCTLS", str(tmp_path))
        monkeypatch.setattr(forwarding, "_record_path", lambda netns: str(tmp_path / f"record-{netns}"))

    def set(self, **values: dict[str, dict[str, str]]) -> None:
        for family, interfaces in values.items():
            for name, settings in interfaces.items():
                for key, value in settings.items():
                    file = self.root / "net" / family / "conf" / name / key
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_text(value)

    def get(self) -> dict[str, str]:
        return {
            str(file.relative_to(self.root)): file.read_text() for file in self.root.glob("net/**/*") if file.is_file()
        }


@pytest.fixture
def sysctls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sysctls:
    return Sysctls(tmp_path, monkeypatch)


FORWARD = EnableForwarding(instance="minipod", ipv6=True)


def test_forwarding_leaves_the_global_switches_alone(sysctls: Sysctls) -> None:
    off = {"forwarding": "0", "force_forwarding": "0"}
    sysctls.set(ipv4={name: {"forwarding": "0"} for name in ("all", "default", "lo", "eth0", "minipod0")})
    sysctls.set(ipv6=dict.fromkeys(("all", "default", "lo", "eth0", "minipod0"), off))
    before = sysctls.get()
    FORWARD.execute()
    changed = {name for name, value in sysctls.get().items() if value == "1"}
    names = ("default", "eth0", "minipod0")
    assert changed == {f"net/ipv4/conf/{name}/forwarding" for name in names} | {
        f"net/ipv6/conf/{name}/force_forwarding" for name in names
    }
    FORWARD.execute()
    FORWARD.undo()
    after = sysctls.get()
    assert {name: value for name, value in after.items() if "minipod0" not in name} == {
        name: value for name, value in before.items() if "minipod0" not in name
    }
    assert not list(sysctls.root.glob("record-*"))
    FORWARD.undo()


def test_old_kernels_forward_ipv6_globally_and_keep_what_routers_advertised(sysctls: Sysctls) -> None:
    sysctls.set(
        ipv4={name: {"forwarding": "1"} for name in ("default", "eth0")},
        ipv6={
            "all": {"forwarding": "0", "accept_ra": "1"},
            "default": {"forwarding": "0", "accept_ra": "1"},
            "eth0": {"forwarding": "1", "accept_ra": "1"},
            "eth1": {"forwarding": "0", "accept_ra": "0"},
        },
    )
    before = sysctls.get()
    FORWARD.execute()
    after = sysctls.get()
    assert after["net/ipv6/conf/all/forwarding"] == "1"
    assert after["net/ipv6/conf/eth0/accept_ra"] == "2"
    assert after["net/ipv6/conf/eth1/accept_ra"] == "0"
    FORWARD.undo()
    assert sysctls.get() == before


def test_forwarding_that_another_program_switched_on_stays(sysctls: Sysctls) -> None:
    sysctls.set(ipv4={name: {"forwarding": "0"} for name in ("default", "eth0")})
    (sysctls.root / "net/ipv4/ip_forward").write_text("0")
    operation = EnableForwarding(instance="minipod", ipv6=False)
    operation.execute()
    (sysctls.root / "net/ipv4/ip_forward").write_text("1")
    operation.undo()
    assert sysctls.get()["net/ipv4/conf/eth0/forwarding"] == "1"


def test_forwarding_stays_while_another_instance_needs_it(sysctls: Sysctls) -> None:
    sysctls.set(ipv4={name: {"forwarding": "0"} for name in ("default", "eth0", "minipod0", "mp1234560")})
    one = EnableForwarding(instance="minipod", ipv6=False)
    other = EnableForwarding(instance="mp123456", ipv6=False)
    one.execute()
    other.execute()
    one.undo()
    assert sysctls.get()["net/ipv4/conf/eth0/forwarding"] == "1"
    other.undo()
    assert sysctls.get()["net/ipv4/conf/eth0/forwarding"] == "0"


def test_instance_that_was_wiped_away_does_not_hold_forwarding_for_ever(sysctls: Sysctls) -> None:
    sysctls.set(ipv4={name: {"forwarding": "0"} for name in ("default", "eth0", "minipod0")})
    EnableForwarding(instance="mp123456", ipv6=False).execute()
    one = EnableForwarding(instance="minipod", ipv6=False)
    one.execute()
    one.undo()
    assert sysctls.get()["net/ipv4/conf/eth0/forwarding"] == "0"


def test_netlink_loads_its_messages_without_the_rest_of_pyroute2() -> None:
    """The agent's cold start cannot pay 200 ms for modules that nobody uses."""
    script = """
import json, sys
from minipod.kernel import netlink
netlink.add_address(1, "10.0.0.1/8")
light = sorted(name for name in sys.modules if name.startswith("pyroute2"))
import pyroute2
print(json.dumps([light, hasattr(pyroute2, "IPRoute")]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    light, whole = json.loads(done.stdout)
    assert "pyroute2.netlink.rtnl.ifinfmsg" in light
    assert not {"pyroute2", "pyroute2.ndb", "pyroute2.ipdb", "pyroute2.iproute"} & set(light)
    assert whole


def test_links_that_go_at_the_same_time_take_a_bounded_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's answer takes long after the link is gone; a thousand pods may be deleted at once."""
    release, gone, most = threading.Event(), set[str](), [0]

    class Slow:
        def __enter__(self) -> Slow:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def apply(self, requests: list[Any]) -> None:
            gone.add(requests[0])
            most[0] = max(most[0], threading.active_count() - before)
            release.wait(10)

    before = threading.active_count()
    monkeypatch.setattr(netlink, "Netlink", Slow)
    monkeypatch.setattr(netlink, "delete_link", lambda name: name)
    monkeypatch.setattr(netlink, "exists", lambda name: name not in gone)
    for number in range(16):
        netlink.remove_link(f"v{number}")
    last = threading.Thread(target=netlink.remove_link, args=("last",))
    last.start()
    last.join(0.05)
    assert last.is_alive()  # it waits for one of them
    assert "last" not in gone
    release.set()
    last.join(10)
    assert "last" in gone
    assert most[0] <= 17
