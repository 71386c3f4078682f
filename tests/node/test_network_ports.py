"""hostPorts on the real kernel: from where they are reached, and from where not."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from minipod.errors import SandboxError
from minipod.plan.configs import PortMapping
from tests.network_fixtures import (
    FAMILIES,
    HOST,
    LOCALHOST,
    OUTSIDE,
    TIMEOUT_S,
    Cluster,
    Namespace,
    cluster,
    datagram_seen_by,
    host,
    ip,
    opened_in,
    outside,
    seen_by,
)

__all__ = ["cluster", "host", "outside"]


@FAMILIES
@pytest.mark.vm
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


@pytest.mark.vm
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


@pytest.mark.parametrize(
    ("protocol", "kind", "family", "address"),
    [
        ("TCP", socket.SOCK_STREAM, socket.AF_INET, "127.0.0.1"),
        ("TCP", socket.SOCK_STREAM, socket.AF_INET6, "::"),
        ("UDP", socket.SOCK_DGRAM, socket.AF_INET, "0.0.0.0"),
    ],
)
def test_host_port_at_which_a_process_of_the_host_listens_is_warned_of(
    cluster: Cluster, protocol: str, kind: socket.SocketKind, family: socket.AddressFamily, address: str
) -> None:
    with opened_in(None, family, kind) as taken:
        taken.bind((address, 0))
        if protocol == "TCP":
            taken.listen()
        port = taken.getsockname()[1]
        cluster.pod("one", PortMapping(protocol=protocol, container_port=80, host_port=port))
    assert [f"hostPort {port}/{protocol}: a process of this host" in warning for warning in cluster.warnings] == [True]


@FAMILIES
def test_udp_client_that_keeps_sending_follows_the_port_to_its_next_owner(
    cluster: Cluster, outside: Namespace, family: socket.AddressFamily
) -> None:
    port = PortMapping(protocol="UDP", container_port=53, host_port=5353)
    cluster.pod("other")
    with opened_in(outside, family, socket.SOCK_DGRAM) as client:
        client.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", 9999))
        for name in ("nobody", "first", "second"):
            listening = opened_in(None, family, socket.SOCK_DGRAM)
            if name != "nobody":
                namespace, _ = cluster.pod(name, port)
                listening.close()
                listening = opened_in(namespace, family, socket.SOCK_DGRAM)
            with listening:
                listening.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", 5353 if name == "nobody" else 53))
                client.sendto(name.encode(), (HOST[family], 5353))
                assert listening.recv(100) == name.encode()
            if name != "nobody":
                cluster.delete(name)


@pytest.mark.vm
def test_host_port_of_sctp_is_mapped(cluster: Cluster) -> None:
    one, _ = cluster.pod("one", PortMapping(protocol="SCTP", container_port=80, host_port=8080))
    try:
        client = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP)
    except OSError:
        pytest.skip("this kernel has no SCTP sockets")
    with client, one(lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP)) as listening:
        listening.bind(("0.0.0.0", 80))
        listening.listen()
        client.settimeout(TIMEOUT_S)
        client.connect((HOST[socket.AF_INET], 8080))


@pytest.mark.parametrize("switch", ["0", "1"])
def test_host_ports_work_whether_bridged_packets_pass_netfilter_or_not(cluster: Cluster, switch: str) -> None:
    filtered = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    if not filtered.exists():
        pytest.skip("br_netfilter is not loaded")
    filtered.write_text(switch)
    one, _ = cluster.pod("one", PortMapping(container_port=80, host_port=8080))
    two, facts = cluster.pod("two")
    for client in (None, one, two):
        assert seen_by(one, 80, client, HOST[socket.AF_INET], 8080)
    assert seen_by(two, 80, one, ip(facts, socket.AF_INET))
