"""Fixtures of the network's tests: `host`, a network namespace that plays the host, with an `outside` behind it."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from minipod.config import Config
from minipod.kernel import netlink
from minipod.kernel.process import setns, unshare
from minipod.paths import Paths
from minipod.plan.configs import NamespaceOptions, NetworkFacts, PortMapping, SandboxConfig
from minipod.plan.network.pod_network import pod_network
from minipod.plan.operation import HostOperation
from minipod.runtime.network import Network
from tests.leaks import nft_tables
from tests.patience import SLOWNESS

T = TypeVar("T")

TIMEOUT_S = 5 * SLOWNESS
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
            # its link-local address would appear at some later moment, and belongs to nobody
            Path("/proc/sys/net/ipv6/conf/wire/disable_ipv6").write_text("1")
            here.apply([netlink.set_up(here.index("wire"))])
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


def nft(*commands: str) -> str:
    """What nft(8) answers in the network namespace of this thread."""
    done = subprocess.run(["nft", "-f", "-"], input="\n".join(commands), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


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
    tables = nft_tables()
    namespace = os.stat("/proc/thread-self/ns/net").st_ino  # other namespaces' records are other people's
    records = sorted(str(file) for file in Path("/run").glob(f"minipod-forwarding-{namespace}*"))
    return {"links": links, "routes": routes, "addresses": addresses, "sysctls": sysctls, "nft": tables, "run": records}
