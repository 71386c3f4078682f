"""Section I of the catalogue: what a pod, or a neighbour of the host, reaches through the network."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from minipod.kernel import netlink
from minipod.kernel.launcher import Call
from minipod.paths import Paths
from minipod.plan.configs import PortMapping
from tests.attacks.conftest import AttackedNode
from tests.attacks.evil import EvilImages, program
from tests.builders import container, manifest, pod
from tests.layouts import entry
from tests.network_fixtures import (
    HOST,
    Cluster,
    Namespace,
    cluster,
    host,
    opened_in,
    outside,
    seen_by,
)
from tests.volume_pods import wait_for

__all__ = ["cluster", "host", "outside"]

LOOPBACK = "127.0.0.1"


# ---- 48. the host's loopback


def from_eth0(kind: int) -> Callable[[], socket.socket]:
    """A socket whose packets to 127.0.0.1 leave by eth0, whoever is behind it."""

    def made() -> socket.socket:
        Path("/proc/sys/net/ipv4/conf/eth0/route_localnet").write_text("1")
        opened = socket.socket(socket.AF_INET, kind)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
        opened.settimeout(1)
        return opened

    return made


def route_by_the_host(neighbour: Namespace) -> None:
    with neighbour(netlink.Netlink) as there:
        there.apply([netlink.add_default_route(there.index("eth0"), HOST[socket.AF_INET])])


@pytest.mark.attack(row=48)
@pytest.mark.vm
def test_neither_pods_nor_neighbours_send_to_what_listens_on_the_hosts_loopback_only(
    cluster: Cluster, outside: Namespace
) -> None:
    """CVE-2020-8558: route_localnet of the bridge, and no other interface's."""
    one, _ = cluster.pod("one")
    route_by_the_host(outside)
    with opened_in(None, socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind((LOOPBACK, 81))
        for attacker in (one, outside):
            with attacker(from_eth0(socket.SOCK_DGRAM)) as sending:
                sending.sendto(b"attack", (LOOPBACK, 81))
        with opened_in(None, socket.AF_INET, socket.SOCK_DGRAM) as friend:
            friend.sendto(b"friend", (LOOPBACK, 81))
        assert listening.recv(100) == b"friend"
    names = Path("/proc/sys/net/ipv4/conf").glob("*/route_localnet")
    assert [name.parent.name for name in names if name.read_text() == "1\n"] == [cluster.paths.bridge(0)]


@pytest.mark.attack(row=48)
@pytest.mark.vm
@pytest.mark.parametrize("bound", [LOOPBACK, ""], ids=["bound", "unbound"])
def test_a_host_port_on_the_loopback_is_the_hosts_alone(cluster: Cluster, outside: Namespace, bound: str) -> None:
    """Addresses are translated before a packet is judged to be a martian: a neighbour's to 127.0.0.1 would pass."""
    one, _ = cluster.pod("one", PortMapping(container_port=80, host_port=8080, host_ip=bound))
    two, _ = cluster.pod("two")
    route_by_the_host(outside)
    with opened_in(one, socket.AF_INET) as listening:
        listening.bind(("0.0.0.0", 80))
        listening.listen()
        for attacker in (outside, two):
            with attacker(from_eth0(socket.SOCK_STREAM)) as calling, pytest.raises(OSError, match=r"timed out|refused"):
                calling.connect((LOOPBACK, 8080))
    assert seen_by(one, 80, None, LOOPBACK, 8080)  # the host itself does


# ---- 49. a pod that plays the router


BAD_PREFIX = socket.inet_pton(socket.AF_INET6, "2001:db8:bad::")
#: RFC 4861, 4.2 and 4.6.2: a router for half an hour, and a prefix to make addresses of; the kernel adds the sum
ADVERTISEMENT = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + struct.pack(
    "!BBBBIII16s", 3, 4, 64, 0xC0, 7200, 7200, 0, BAD_PREFIX
)
IPV6_HOPS_ALWAYS = 255


def advertise(attacker: Namespace) -> None:
    """A router's advertisement to all nodes on the bridge."""

    def opened() -> tuple[socket.socket, int]:
        return socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6), socket.if_nametoindex("eth0")

    sending, index = attacker(opened)
    with sending:
        sending.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, IPV6_HOPS_ALWAYS)
        try:
            sending.sendto(ADVERTISEMENT, ("ff02::1", 0, 0, index))
        except OSError:  # its link-local address is tentative still
            return


def believes(interface: str) -> bool:
    """Whether the calling thread's namespace has an address of the bad prefix, or a router of its neighbourhood."""
    folder = Path("/proc/thread-self/net")
    addresses = (folder / "if_inet6").read_text().splitlines()
    routes = [line.split() for line in (folder / "ipv6_route").read_text().splitlines()]
    routers = [route for route in routes if route[1] == "00" and route[4].startswith("fe80") and route[9] == interface]
    return bool(routers) or any(line.startswith(BAD_PREFIX.hex()[:16]) and interface in line for line in addresses)


@pytest.mark.attack(row=49)
@pytest.mark.vm
@pytest.mark.parametrize("family", ["dual-stack", "ipv4"])
def test_nobody_believes_a_pod_that_says_it_is_a_router(host: None, paths: Paths, family: str) -> None:
    """CVE-2020-10749. A pod that does believe shows that the advertisement was there to be believed."""
    if family == "ipv4":  # of the host alone: in a namespace that is made later it is on
        Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text("1")
    made = Cluster(paths)
    try:
        attacker, victim, witness = (made.pod(name)[0] for name in ("attacker", "victim", "witness"))
        bridge = paths.bridge(0)
        for interface in ("all", bridge):  # as an administrator may do later
            Path(f"/proc/sys/net/ipv6/conf/{interface}/disable_ipv6").write_text("0")
        witness(lambda: Path("/proc/sys/net/ipv6/conf/eth0/accept_ra").write_text("2"))

        def has_believed() -> bool:
            advertise(attacker)
            return witness(lambda: believes("eth0"))

        wait_for(has_believed)
        assert not victim(lambda: believes("eth0"))
        assert not believes(bridge)
        for name in ("ipv4/conf/{}/accept_redirects", "ipv6/conf/{}/accept_redirects", "ipv6/conf/{}/accept_ra"):
            assert Path("/proc/sys/net", name.format(bridge)).read_text() == "0\n"
            assert victim(Path("/proc/sys/net", name.format("eth0")).read_text) == "0\n"
    finally:
        made.close()


@pytest.mark.attack(row=49)
@pytest.mark.vm
def test_without_net_raw_a_pod_forges_no_packet(node: AttackedNode, evil: EvilImages) -> None:
    """ARP and addresses of neighbours can be forged with it (docs/networking.md); who drops it cannot."""
    kinds = {"packet": (17, 3, 0x300), "inet": (2, 3, 1), "inet6": (10, 3, 58)}  # family, SOCK_RAW, protocol
    tries = [entry(name, program(Call("socket", numbers)), mode=0o755) for name, numbers in kinds.items()]
    image = evil("raw", *tries)
    script = "for kind in packet inet inet6; do /$kind && echo $kind; done; exit 0"
    dropped = {"capabilities": {"drop": ["NET_RAW"]}}
    ordinary = container("c", script, image=image)
    assert node("run", "-", input=manifest(pod("p", ordinary))).stdout == "packet\ninet\ninet6\n"
    assert node("run", "-", input=manifest(pod("q", {**ordinary, "securityContext": dropped}))).stdout == ""


# ---- 50. sockets in the host's network namespace


def sockets_of(*pids: int) -> set[str]:
    """The inodes of their sockets."""
    found = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            try:
                target = str(link.readlink())
            except FileNotFoundError:
                continue
            if target.startswith("socket:["):
                found.add(target[8:-1])
    return found


@pytest.mark.attack(row=50)
@pytest.mark.vm
def test_a_pod_in_the_hosts_network_finds_no_socket_of_minipods(node: AttackedNode) -> None:
    """CVE-2020-15257: abstract sockets have no mode; neither agent nor spawner has one, nor a port."""
    busy = container("c", "exec sleep 100000", readinessProbe={"exec": {"command": ["true"]}, "periodSeconds": 1})
    node("run", "-d", "-", input=manifest(pod("p", busy, hostNetwork=True)))
    agent = psutil.Process(node.agent_pid())
    ours = sockets_of(agent.pid, *(child.pid for child in agent.children(recursive=True)))
    assert ours
    seen = node(
        "exec", "p", "--", "cat", *(f"/proc/net/{name}" for name in ("unix", "tcp", "tcp6", "udp", "udp6", "raw"))
    )
    lines = [line.split() for line in seen.stdout.splitlines()]
    unix = {
        fields[6]: fields[7] for fields in lines if len(fields) > 7 and fields[0].endswith(":") and "@" in fields[7]
    }
    internet = {fields[9] for fields in lines if len(fields) > 9 and fields[0].rstrip(":").isdigit()}
    assert ours.isdisjoint(unix)
    assert ours.isdisjoint(internet)
    assert node("exec", "p", "--", "ls", node.paths.root, check=False).returncode != 0


@pytest.mark.attack(row=50)
def test_every_socket_of_minipods_is_roots_alone(node: AttackedNode) -> None:
    node("run", "-d", "-", input=manifest(pod("p", container("c", "exec sleep 100000"))))
    places = [path for path in Path(node.paths.root).rglob("*") if path.is_socket()]
    assert len(places) >= 2  # the agent's and the spawner's
    assert [oct(path.stat().st_mode & 0o777) for path in places] == ["0o600"] * len(places)
