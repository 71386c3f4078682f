"""The pods' network on the real kernel, on a host of the test's own: a network namespace with an outside behind it."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from minipod.config import Config
from minipod.errors import HostError, SandboxError
from minipod.kernel import netlink, nft
from minipod.kernel.process import setns, unshare
from minipod.paths import Paths
from minipod.plan.configs import NamespaceOptions, NetworkFacts, PortMapping, SandboxConfig
from minipod.plan.network import pod_network
from minipod.plan.operation import HostOperation
from minipod.runtime.network import Network

T = TypeVar("T")

TIMEOUT_S = 5
OUTSIDE = {socket.AF_INET: "198.51.100.1", socket.AF_INET6: "2001:db8::1"}
HOST = {socket.AF_INET: "198.51.100.2", socket.AF_INET6: "2001:db8::2"}
LOCALHOST = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}
FAMILIES = pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["ipv4", "ipv6"])


class Namespace:
    """A network namespace without a name; `fd` keeps it, `path` leads to it."""

    def __init__(self) -> None:
        self.fd = _on_a_thread(_new_netns)
        self.path = f"/proc/{os.getpid()}/fd/{self.fd}"

    def __call__(self, act: Callable[[], T]) -> T:
        return netlink.in_netns(self.fd, act)

    def close(self) -> None:
        os.close(self.fd)


def _on_a_thread(act: Callable[[], T]) -> T:
    made: list[T] = []
    thread = threading.Thread(target=lambda: made.append(act()))
    thread.start()
    thread.join()
    return made[0]


def _new_netns() -> int:
    unshare(netlink.CLONE_NEWNET)
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def configure(socket_: netlink.Netlink, name: str, *addresses: str) -> None:
    index = socket_.index(name)
    socket_.apply([*(netlink.add_address(index, address) for address in addresses), netlink.set_up(index)])


@pytest.fixture
def outside(leak_check: None) -> Iterator[Namespace]:
    """The world behind the host. It knows no route to the pods: they have to be masqueraded."""
    made = Namespace()
    yield made
    made.close()


@pytest.fixture
def host(outside: Namespace) -> Iterator[None]:
    """The test's thread on a host of its own: lo, and eth0 with a default route to the outside."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    unshare(netlink.CLONE_NEWNET)
    try:
        Path("/proc/sys/net/ipv4/ip_forward").write_text("0")
        with netlink.Netlink() as here, netlink.Netlink(outside.fd) as there:
            here.apply([netlink.new_bridge("uplink", 1400, "02:00:00:00:00:01"), netlink.set_up(here.index("lo"))])
            configure(here, "uplink", f"{HOST[socket.AF_INET]}/24", f"{HOST[socket.AF_INET6]}/64")
            here.apply(
                [
                    netlink.new_veth(
                        "wire", mtu=1400, master=here.index("uplink"), netns_fd=outside.fd, peer="eth0",
                        peer_address="02:00:00:00:00:02",
                    )
                ]
            )  # fmt: skip
            configure(there, "eth0", f"{OUTSIDE[socket.AF_INET]}/24", f"{OUTSIDE[socket.AF_INET6]}/64")
            uplink = here.index("uplink")
            here.apply([netlink.add_default_route(uplink, address) for address in OUTSIDE.values()])
        yield
    finally:
        setns(home, netlink.CLONE_NEWNET)
        os.close(home)


class Cluster:
    """One instance's network and its pods."""

    def __init__(self, paths: Paths, config: Config | None = None) -> None:
        self.paths = paths
        self.warnings: list[str] = []
        self.network = Network(paths, config or Config(), self.warnings.append)
        self._pods: dict[str, tuple[Namespace, list[HostOperation]]] = {}

    def pod(self, name: str, *ports: PortMapping) -> tuple[Namespace, NetworkFacts]:
        config = sandbox(name, *ports)
        facts = self.network.lease(config)
        namespace = Namespace()
        with namespace(netlink.Netlink) as inside:
            inside.apply([netlink.set_up(inside.index("lo"))])
        operations = pod_network(config, facts, namespace.path)
        self._pods[config.id] = (namespace, operations)
        for operation in operations:
            operation.execute()
        return namespace, facts

    def delete(self, name: str) -> None:
        sandbox_id = sandbox(name).id
        namespace, operations = self._pods.pop(sandbox_id)
        for operation in reversed(operations):
            operation.undo()
        self.network.release(sandbox_id)
        namespace.close()

    def close(self) -> None:
        for sandbox_id in list(self._pods):
            self.delete(sandbox_id.rstrip("0"))


def sandbox(name: str, *ports: PortMapping, network: str = "pod") -> SandboxConfig:
    return SandboxConfig(
        id=name.ljust(64, "0"),
        name=name,
        namespace="default",
        uid=name,
        hostname=name,
        log_directory="",
        cgroup_parent="",
        port_mappings=ports,
        namespaces=NamespaceOptions(network=network),
    )


@pytest.fixture
def cluster(host: None, paths: Paths) -> Iterator[Cluster]:
    made = Cluster(paths)
    yield made
    made.close()


def ip(facts: NetworkFacts, family: socket.AddressFamily) -> str:
    return (facts.ipv4 if family == socket.AF_INET else facts.ipv6).partition("/")[0]


def opened_in(namespace: Namespace | None, family: int, kind: int = socket.SOCK_STREAM) -> socket.socket:
    made = socket.socket(family, kind) if namespace is None else namespace(lambda: socket.socket(family, kind))
    made.settimeout(TIMEOUT_S)
    return made


def seen_by(
    namespace: Namespace | None, port: int, client: Namespace | None, address: str, to: int | None = None
) -> str:
    """Connect from `client` to `address` (`to`, else `port`): the client as a server in `namespace` sees it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with opened_in(namespace, family) as listening, opened_in(client, family) as calling:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", port))
        listening.listen()
        calling.connect((address, to or port))
        accepted, peer = listening.accept()
        with accepted:
            accepted.sendall(b"hello")
            assert calling.recv(5) == b"hello"
        return str(peer[0])


def datagram_seen_by(namespace: Namespace, port: int, client: Namespace | None, address: str, to: int) -> str:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with (
        opened_in(namespace, family, socket.SOCK_DGRAM) as listening,
        opened_in(client, family, socket.SOCK_DGRAM) as calling,
    ):
        listening.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", port))
        calling.connect((address, to))
        calling.send(b"question")
        data, peer = listening.recvfrom(100)
        listening.sendto(data[::-1], peer)
        assert calling.recv(100) == b"noitseuq"
        return str(peer[0])


def picture() -> dict[str, object]:
    """All that a network may change on the host."""
    with netlink.Netlink() as opened:
        links = {link.name for link in opened.links()}
        routes = {(route.destination, route.oif, route.gateway) for route in opened.routes()}
        addresses = set(opened.addresses())
    sysctls = {
        str(file): file.read_text()
        for family in ("ipv4", "ipv6")
        for name in ("forwarding", "force_forwarding", "accept_ra", "accept_redirects", "route_localnet", "accept_dad")
        for file in Path(f"/proc/sys/net/{family}/conf").glob(f"*/{name}")
    }
    tables = [thing for thing in nft.run([{"list": {"tables": {}}}])["nftables"] if "table" in thing]
    records = sorted(str(file) for file in Path("/run").glob("minipod-forwarding-*"))
    return {"links": links, "routes": routes, "addresses": addresses, "sysctls": sysctls, "nft": tables, "run": records}


@FAMILIES
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


@FAMILIES
def test_host_port_is_reached_from_everywhere(
    cluster: Cluster, outside: Namespace, family: socket.AddressFamily
) -> None:
    one, _ = cluster.pod("one", PortMapping(container_port=80, host_port=8080))
    two, _ = cluster.pod("two")
    assert seen_by(one, 80, outside, HOST[family], 8080) == OUTSIDE[family]
    for client in (None, one, two):
        assert seen_by(one, 80, client, HOST[family], 8080)
    assert seen_by(one, 80, None, LOCALHOST[socket.AF_INET], 8080)


@FAMILIES
def test_host_port_of_udp_is_reached_from_everywhere(
    cluster: Cluster, outside: Namespace, family: socket.AddressFamily
) -> None:
    one, _ = cluster.pod("one", PortMapping(protocol="UDP", container_port=53, host_port=5353))
    assert datagram_seen_by(one, 53, outside, HOST[family], 5353) == OUTSIDE[family]
    for client in (None, one):
        assert datagram_seen_by(one, 53, client, HOST[family], 5353)
    assert datagram_seen_by(one, 53, None, LOCALHOST[socket.AF_INET], 5353)


def test_host_port_with_host_ip_is_reached_at_that_address_only(cluster: Cluster) -> None:
    one, _ = cluster.pod("one", PortMapping(container_port=80, host_port=8080, host_ip="127.0.0.1"))
    assert seen_by(one, 80, None, "127.0.0.1", 8080)
    with pytest.raises(ConnectionRefusedError):
        seen_by(one, 80, None, HOST[socket.AF_INET], 8080)
    with pytest.raises(ConnectionRefusedError):
        seen_by(one, 80, None, "::1", 8080)


def test_host_port_on_ipv6_loopback_is_refused_at_once_and_warned_of(cluster: Cluster) -> None:
    one, _ = cluster.pod("one", PortMapping(container_port=80, host_port=8080))
    with pytest.raises(ConnectionRefusedError):
        seen_by(one, 80, None, "::1", 8080)
    assert cluster.warnings == []
    cluster.pod("two", PortMapping(container_port=80, host_port=8081, host_ip="::1"))
    assert "hostPort [::1]:8081 leads nowhere" in cluster.warnings[0]


def test_two_pods_may_have_the_same_host_port_at_different_addresses(cluster: Cluster) -> None:
    one, _ = cluster.pod("one", PortMapping(container_port=80, host_port=8080, host_ip="127.0.0.1"))
    two, _ = cluster.pod("two", PortMapping(container_port=81, host_port=8080, host_ip=HOST[socket.AF_INET]))
    assert seen_by(one, 80, None, "127.0.0.1", 8080)
    assert seen_by(two, 81, None, HOST[socket.AF_INET], 8080)


def test_host_port_of_a_deleted_pod_is_closed_and_free(cluster: Cluster) -> None:
    cluster.pod("one", PortMapping(container_port=80, host_port=8080))
    cluster.pod("other")
    cluster.delete("one")
    two, _ = cluster.pod("two", PortMapping(container_port=81, host_port=8080))
    assert seen_by(two, 81, None, "127.0.0.1", 8080)


def test_host_port_in_use_names_the_pod_that_has_it(cluster: Cluster) -> None:
    cluster.pod("one", PortMapping(container_port=80, host_port=8080))
    with pytest.raises(SandboxError, match=r"hostPort 127\.0\.0\.1:8080/TCP is in use by pod default/one: "):
        cluster.pod("two", PortMapping(container_port=80, host_port=8080, host_ip="127.0.0.1"))
    cluster.pod("three", PortMapping(protocol="UDP", container_port=80, host_port=8080))


def test_pod_cannot_send_to_what_listens_on_the_hosts_loopback_only(cluster: Cluster) -> None:
    one, _ = cluster.pod("one")

    def attacker() -> socket.socket:
        Path("/proc/sys/net/ipv4/conf/eth0/route_localnet").write_text("1")
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
        return made

    with opened_in(None, socket.AF_INET, socket.SOCK_DGRAM) as listening, one(attacker) as sending:
        listening.bind(("127.0.0.1", 81))
        sending.sendto(b"attack", ("127.0.0.1", 81))
        with opened_in(None, socket.AF_INET, socket.SOCK_DGRAM) as friend:
            friend.sendto(b"friend", ("127.0.0.1", 81))
        assert listening.recv(100) == b"friend"


def test_last_pod_leaves_the_host_as_it_was(host: None, paths: Paths) -> None:
    before = picture()
    cluster = Cluster(paths)
    cluster.pod("one", PortMapping(container_port=80, host_port=8080))
    cluster.pod("two")
    assert picture() != before
    cluster.delete("one")
    with netlink.Netlink() as opened:
        assert opened.link(paths.bridge)
    cluster.delete("two")
    assert picture() == before
    assert os.listdir(f"{paths.root}/leases") == []


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
        assert (facts.ipv4, facts.ipv4_gateway) == ("10.99.0.2/24", "10.99.0.1")
        assert (facts.ipv6, facts.ipv6_gateway) == ("fd00:99::2/64", "fd00:99::1")
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
    nft.run([{"delete": {"table": {"family": "inet", "name": cluster.paths.instance}}}])
    cluster.pod("two")
    assert seen_by(one, 80, outside, HOST[socket.AF_INET], 8080)
    assert seen_by(outside, 80, one, OUTSIDE[socket.AF_INET]) == HOST[socket.AF_INET]


def test_forward_chain_that_drops_is_warned_of(host: None, paths: Paths) -> None:
    chain = {"family": "ip", "table": "filter", "name": "FORWARD", "type": "filter", "hook": "forward", "prio": 0}
    nft.run([{"add": {"table": {"family": "ip", "name": "filter"}}}, {"add": {"chain": {**chain, "policy": "drop"}}}])
    cluster = Cluster(paths)
    try:
        cluster.pod("one")
        assert "nftables chain ip filter FORWARD drops forwarded packets by default" in cluster.warnings[0]
    finally:
        cluster.close()


def test_what_a_crash_left_is_found_and_removed(cluster: Cluster, paths: Paths) -> None:
    before = picture()
    namespace, facts = cluster.pod("one", PortMapping(container_port=80, host_port=8080))
    kept, facts_of_kept = cluster.pod("kept")
    found = cluster.network.remove_leftovers({sandbox("kept").id})
    assert found == ["lease of default/one (sandbox one000000000)", f"interface {facts.host_interface}"]
    assert cluster.network.leftovers({sandbox("kept").id}) == []
    assert seen_by(kept, 80, None, ip(facts_of_kept, socket.AF_INET))
    with pytest.raises(ConnectionRefusedError):
        seen_by(namespace, 80, None, "127.0.0.1", 8080)
    assert f"bridge {paths.bridge}" in cluster.network.remove_leftovers(set())
    assert picture() == before


def test_first_pod_replaces_a_bridge_that_a_crash_left(cluster: Cluster, paths: Paths) -> None:
    with netlink.Netlink() as opened:
        opened.apply([netlink.new_bridge(paths.bridge, 1400, "02:00:00:00:00:09")])
        configure(opened, paths.bridge, "10.1.2.3/24")
    one, facts = cluster.pod("one")
    with netlink.Netlink() as opened:
        addresses = [address for index, address in opened.addresses() if index == opened.index(paths.bridge)]
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
    monkeypatch.setattr("minipod.plan.network.write_sysctl", _refuse)
    with pytest.raises(OSError, match="no such sysctl"):
        Network(paths, Config()).lease(sandbox("one"))
    assert picture() == before
    assert os.listdir(f"{paths.root}/leases") == []


def _refuse(name: str, value: str) -> None:
    raise OSError("no such sysctl")


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
        assert opened.link(paths.bridge) is None


def test_host_where_every_subnet_is_taken_is_told_what_to_do(host: None, paths: Paths) -> None:
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
    with pytest.raises(FileNotFoundError, match=r"nftables: delete table inet nothing: .*No such file or directory"):
        nft.run([{"delete": {"table": {"family": "inet", "name": "nothing"}}}])
    with pytest.raises(OSError, match=r"nftables: add nonsense"):
        nft.run([{"add": {"nonsense": {}}}])
