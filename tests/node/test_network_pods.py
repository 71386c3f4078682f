"""The pods' network on the real kernel, on a host of the test's own."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from ipaddress import ip_network
from pathlib import Path

import pytest

from minipod.config import Config
from minipod.errors import HostError, SandboxError
from minipod.kernel import netlink
from minipod.paths import Paths
from minipod.plan.configs import NetworkFacts, PortMapping
from minipod.plan.network.pod_network import pod_network
from minipod.runtime.network import Network
from tests.network_fixtures import (
    FAMILIES,
    HOST,
    LOCALHOST,
    OUTSIDE,
    Cluster,
    Namespace,
    cluster,
    configure,
    host,
    ip,
    nft,
    outside,
    picture,
    sandbox,
    seen_by,
)

__all__ = ["cluster", "host", "outside"]


@FAMILIES
@pytest.mark.vm
def test_pod_reaches_itself_other_pods_the_host_and_the_outside(
    cluster: Cluster, outside: Namespace, family: socket.AddressFamily
) -> None:
    one, facts_of_one = cluster.pod("one")
    two, facts_of_two = cluster.pod("two")
    assert seen_by(one, 80, one, ip(facts_of_one, family)) == ip(facts_of_one, family)
    assert seen_by(one, 80, one, LOCALHOST[family]) == LOCALHOST[family]
    assert seen_by(two, 80, one, ip(facts_of_two, family)) == ip(facts_of_one, family)
    gateway = facts_of_one.ipv4_gateway if family == socket.AF_INET else facts_of_one.ipv6_gateway
    assert seen_by(None, 80, one, gateway) == ip(facts_of_one, family)
    assert seen_by(None, 80, one, HOST[family]) == ip(facts_of_one, family)
    assert seen_by(outside, 80, one, OUTSIDE[family]) == HOST[family]
    assert seen_by(one, 80, None, ip(facts_of_one, family)) == gateway


@pytest.mark.vm
def test_last_pod_leaves_the_host_as_it_was(host: None, paths: Paths) -> None:
    before = picture()
    cluster = Cluster(paths)
    cluster.pod("one", PortMapping(container_port=80, host_port=8080))
    cluster.pod("two")
    assert picture() != before
    cluster.delete("one")
    with netlink.Netlink() as opened:
        assert opened.link(paths.bridge(0))
    cluster.delete("two")
    assert picture() == before
    assert os.listdir(f"{paths.root}/leases") == []


@pytest.mark.vm
@FAMILIES
def test_pods_of_different_bridges_reach_each_other(
    cluster: Cluster, paths: Paths, family: socket.AddressFamily
) -> None:
    """More pods than one bridge has ports for: nobody notices, and a bridge is there as long as one of its pods."""
    one, facts_of_one = cluster.pod("one", PortMapping(container_port=80, host_port=8080))
    others = [sandbox(f"lease{number}x") for number in range(60)]
    for config in others:
        cluster.network.lease(config)
    two, facts_of_two = cluster.pod("two")
    try:
        assert (facts_of_one.bridge, facts_of_two.bridge) == (paths.bridge(0), paths.bridge(1))
        assert seen_by(two, 80, one, ip(facts_of_two, family)) == ip(facts_of_one, family)
        assert seen_by(one, 80, two, ip(facts_of_one, family)) == ip(facts_of_two, family)
        assert seen_by(one, 80, None, ip(facts_of_one, family))
        assert seen_by(two, 80, None, ip(facts_of_two, family))
        assert seen_by(one, 80, two, HOST[family], 8080) == gateway_of(facts_of_one, family)
    finally:
        for config in others:
            cluster.network.release(config.id)
    cluster.delete("two")
    assert not netlink.exists(paths.bridge(1))
    assert seen_by(one, 80, None, ip(facts_of_one, family))


def test_bridge_that_a_crash_left_goes_although_others_are_in_use(cluster: Cluster, paths: Paths) -> None:
    cluster.pod("one")
    with netlink.Netlink() as opened:
        opened.apply([netlink.new_bridge(paths.bridge(7), 1400, "02:00:00:00:00:09")])
    assert cluster.network.remove_leftovers(lambda: {sandbox("one").id}) == [f"bridge {paths.bridge(7)}"]
    assert not netlink.exists(paths.bridge(7))
    assert netlink.exists(paths.bridge(0))


@FAMILIES
def test_address_that_no_pod_has_does_not_leave_by_the_default_route(
    cluster: Cluster, family: socket.AddressFamily
) -> None:
    _, facts = cluster.pod("one")
    subnet = ip_network(facts.subnets[family == socket.AF_INET6])
    done = subprocess.run(["ip", "route", "get", str(subnet[500])], capture_output=True, text=True, check=True)
    assert f"dev {facts.bridge} " in done.stdout


@FAMILIES
def test_neighbours_are_known_and_counted_by_nobody(cluster: Cluster, family: socket.AddressFamily) -> None:
    """The kernel's table of neighbours, 1,024 of all pods together, has no place for two of each."""
    one, facts = cluster.pod("one")
    assert f"{ip(facts, family)} dev {facts.bridge} lladdr" in neighbours()
    assert f"{gateway_of(facts, family)} dev eth0 lladdr" in one(neighbours)
    cluster.delete("one")
    assert ip(facts, family) not in neighbours()


def neighbours() -> str:
    done = subprocess.run(["ip", "neighbour", "show", "nud", "permanent"], capture_output=True, text=True, check=True)
    return done.stdout


def gateway_of(facts: NetworkFacts, family: socket.AddressFamily) -> str:
    return facts.ipv4_gateway if family == socket.AF_INET else facts.ipv6_gateway


def test_interface_is_gone_when_undo_returns(cluster: Cluster) -> None:
    namespace, facts = cluster.pod("one")
    operation = pod_network(sandbox("one"), facts, namespace.path)[0]
    for _ in range(2):
        operation.undo()
        with netlink.Netlink() as opened:
            assert opened.link(facts.host_interface) is None
    with namespace(netlink.Netlink) as inside:
        assert inside.link("eth0") is None


def test_operations_may_be_executed_again(cluster: Cluster) -> None:
    namespace, facts = cluster.pod("one")
    assert cluster.network.lease(sandbox("one")) == facts
    for operation in pod_network(sandbox("one"), facts, namespace.path):
        operation.execute()
    assert seen_by(namespace, 80, None, ip(facts, socket.AF_INET))


def test_two_instances_choose_different_subnets_and_say_so(cluster: Cluster, paths: Paths) -> None:
    other = Cluster(Paths(f"{paths.root}2", paths.state))
    try:
        one, facts_of_one = cluster.pod("one")
        two, facts_of_two = other.pod("one")
        assert facts_of_one.ipv4.split(".")[:3] != facts_of_two.ipv4.split(".")[:3]
        assert facts_of_one.ipv6[:14] != facts_of_two.ipv6[:14]
        assert len(cluster.warnings) == 0
        assert len(other.warnings) == 1
        assert "is in use on this host by" in other.warnings[0]
        assert seen_by(two, 80, one, ip(facts_of_two, socket.AF_INET))
        cluster.delete("one")
        assert seen_by(two, 80, None, ip(facts_of_two, socket.AF_INET))
    finally:
        other.close()


def test_forwarding_outlives_the_instance_that_switched_it_on(
    cluster: Cluster, paths: Paths, outside: Namespace
) -> None:
    other = Cluster(Paths(f"{paths.root}2", paths.state))
    before = picture()
    cluster.pod("one")
    two, _ = other.pod("two")
    cluster.delete("one")
    assert seen_by(outside, 80, two, OUTSIDE[socket.AF_INET]) == HOST[socket.AF_INET]
    other.delete("two")
    assert picture() == before


def test_network_without_ipv6_says_so_once(host: None, paths: Paths) -> None:
    Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text("1")
    cluster = Cluster(paths)
    try:
        one, facts = cluster.pod("one")
        assert (facts.ipv6, facts.ipv6_gateway) == ("", "")
        assert seen_by(one, 80, None, ip(facts, socket.AF_INET))
        cluster.delete("one")
        cluster.pod("two")
        assert cluster.warnings == ["IPv6 is disabled on this host: pods get an IPv4 address only"]
    finally:
        cluster.close()


def test_mtu_is_that_of_the_default_route(cluster: Cluster) -> None:
    one, facts = cluster.pod("one")
    with one(netlink.Netlink) as inside:
        interface = inside.link("eth0")
    assert facts.mtu == 1400
    assert interface is not None
    assert interface.mtu == 1400


def test_configured_subnet_is_used(host: None, paths: Paths) -> None:
    cluster = Cluster(paths, Config(ipv4_subnet="10.99.0.0/24", ipv6_subnet="fd00:99::/64"))
    try:
        _, facts = cluster.pod("one")
        assert (facts.ipv4, facts.ipv4_gateway) == ("10.99.0.2/26", "10.99.0.1")
        assert (facts.ipv6, facts.ipv6_gateway) == ("fd00:99::2/122", "fd00:99::1")
    finally:
        cluster.close()


def test_configured_subnet_in_use_is_replaced_and_said(host: None, paths: Paths) -> None:
    cluster = Cluster(paths, Config(ipv4_subnet="198.51.100.0/24"))
    try:
        _, facts = cluster.pod("one")
        assert not facts.ipv4.startswith("198.51.100.")
        assert "198.51.100.0/24 is in use on this host by 198.51.100.0/24 (uplink)" in cluster.warnings[0]
    finally:
        cluster.close()


def test_flushed_ruleset_is_restored_with_the_next_pod(cluster: Cluster, outside: Namespace) -> None:
    one, _ = cluster.pod("one", PortMapping(container_port=80, host_port=8080))
    nft(f"delete table inet {cluster.paths.instance}")
    cluster.pod("two")
    assert seen_by(one, 80, outside, HOST[socket.AF_INET], 8080)
    assert seen_by(outside, 80, one, OUTSIDE[socket.AF_INET]) == HOST[socket.AF_INET]


def test_forward_chain_that_drops_is_warned_of(host: None, paths: Paths) -> None:
    nft("add table ip filter", "add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }")
    cluster = Cluster(paths)
    try:
        cluster.pod("one")
        assert "nftables chain ip filter FORWARD drops forwarded packets by default" in cluster.warnings[0]
    finally:
        cluster.close()


@pytest.mark.vm
def test_what_a_crash_left_is_found_and_removed(cluster: Cluster, paths: Paths) -> None:
    before = picture()
    namespace, facts = cluster.pod("one", PortMapping(container_port=80, host_port=8080))
    kept, facts_of_kept = cluster.pod("kept")
    found = cluster.network.remove_leftovers(lambda: {sandbox("kept").id})
    assert found == ["lease of default/one (sandbox one000000000)", f"interface {facts.host_interface}"]
    assert cluster.network.leftovers(lambda: {sandbox("kept").id}) == []
    assert seen_by(kept, 80, None, ip(facts_of_kept, socket.AF_INET))
    with pytest.raises(ConnectionRefusedError):
        seen_by(namespace, 80, None, "127.0.0.1", 8080)
    assert f"bridge {paths.bridge(0)}" in cluster.network.remove_leftovers(set)
    assert picture() == before


def test_first_pod_replaces_a_bridge_that_a_crash_left(cluster: Cluster, paths: Paths) -> None:
    with netlink.Netlink() as opened:
        opened.apply([netlink.new_bridge(paths.bridge(0), 1400, "02:00:00:00:00:09")])
        configure(opened, paths.bridge(0), "10.1.2.3/24")
    one, facts = cluster.pod("one")
    with netlink.Netlink() as opened:
        addresses = [address for index, address in opened.addresses() if index == opened.index(paths.bridge(0))]
    assert "10.1.2.3/24" not in addresses
    assert seen_by(one, 80, None, ip(facts, socket.AF_INET))


def test_pod_on_the_hosts_network_only_keeps_its_ports(cluster: Cluster) -> None:
    before = picture()
    config = sandbox("hosted", PortMapping(container_port=80, host_port=80), network="node")
    assert cluster.network.lease(config) == NetworkFacts()
    assert pod_network(config, NetworkFacts(), "/unused") == []
    assert picture() == before
    with pytest.raises(SandboxError, match="in use by pod default/hosted"):
        cluster.network.lease(sandbox("one", PortMapping(container_port=8080, host_port=80)))
    cluster.network.release(config.id)
    assert os.listdir(f"{cluster.paths.root}/leases") == []


def test_failing_set_up_leaves_nothing(host: None, paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    before = picture()
    monkeypatch.setattr("minipod.kernel.sysctl.write", _refuse)
    with pytest.raises(OSError, match="no such sysctl"):
        Network(paths, Config()).lease(sandbox("one"))
    assert picture() == before
    assert os.listdir(f"{paths.root}/leases") == []


def _refuse(values: dict[str, str], **_: bool) -> None:
    raise OSError("no such sysctl")


@pytest.mark.vm
def test_many_at_once_get_different_addresses(cluster: Cluster, paths: Paths) -> None:
    facts: list[NetworkFacts] = []
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    def lease(number: int) -> None:
        netlink.in_netns(home, lambda: facts.append(Network(paths, Config()).lease(sandbox(f"pod{number}x"))))

    threads = [threading.Thread(target=lease, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.close(home)
    assert len({fact.ipv4 for fact in facts}) == 8
    assert len({fact.host_interface for fact in facts}) == 8
    for number in range(8):
        cluster.network.release(sandbox(f"pod{number}x").id)
    with netlink.Netlink() as opened:
        assert opened.link(paths.bridge(0)) is None


def test_host_where_every_subnet_is_taken_gets_an_error_with_the_remedy(host: None, paths: Paths) -> None:
    with netlink.Netlink() as opened:
        index = opened.index("uplink")
        cidrs = ("10.86.0.1/16", "172.30.0.1/16", "192.168.224.1/19")
        opened.apply([netlink.add_address(index, cidr) for cidr in cidrs])
    with pytest.raises(HostError, match="set ipv4_subnet in the configuration"):
        Network(paths, Config()).lease(sandbox("one"))


def test_errors_name_the_operation_and_the_object(host: None) -> None:
    with netlink.Netlink() as opened:
        with pytest.raises(OSError, match=r"create bridge uplink: File exists"):
            opened.apply([netlink.new_bridge("uplink", 1500, "02:00:00:00:00:01")])
        with pytest.raises(OSError, match=r"interface nowhere: No such device"):
            opened.index("nowhere")
