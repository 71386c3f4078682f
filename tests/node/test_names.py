"""Pods find each other by name: the answerer on the real kernel, asked from pods, from the host and from outside."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dns.message
import dns.rcode
import pytest

from minipod.config import Config
from minipod.names import start
from minipod.paths import Paths
from minipod.plan.configs import DNSConfig, PortMapping
from minipod.runtime import facts, names
from tests.builders import container, manifest, pod
from tests.names_client import NAME, WEB, asked, is_answered
from tests.network_fixtures import (
    HOST,
    OUTSIDE,
    Cluster,
    Namespace,
    cluster,
    host,
    nft,
    opened_in,
    outside,
    sandbox,
)
from tests.node_fixtures import Node
from tests.patience import SLOWNESS

__all__ = ["cluster", "host", "outside"]


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20 * SLOWNESS
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def pid_of(paths: Paths) -> int:
    found: list[int] = []

    def is_written() -> bool:
        for file in Path(paths.names).glob("*.running"):
            found[:] = [int(line) for line in file.read_text().splitlines()[1:]]
        return bool(found)

    until(is_written)
    return found[0]


@pytest.fixture
def resolver(outside: Namespace, host: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The host's resolv.conf, which names a resolver outside."""
    file = tmp_path / "resolv.conf"
    file.write_text(f"nameserver {OUTSIDE[socket.AF_INET]}\n")
    monkeypatch.setattr(facts, "RESOLV_CONF", str(file))
    return file


# -- on a host of its own


@pytest.mark.vm
def test_pods_and_the_host_are_answered_over_both_families_and_protocols(cluster: Cluster, outside: Namespace) -> None:
    client, found = cluster.pod("client")
    cluster.network.publish_names((WEB,), whole=True)
    assert found.names == found.ipv4_gateway
    for place in (found.ipv4_gateway, found.ipv6_gateway):
        for who in (client, None):
            for tcp in (False, True):
                assert asked(place, client=who, tcp=tcp) == ["192.0.2.7"]
                assert asked(place, kind="AAAA", client=who, tcp=tcp) == ["2001:db8::7"]
    status = Path(f"/proc/{pid_of(cluster.paths)}/status").read_text()
    assert status.splitlines()[0] == "Name:\tminipod-names"
    assert "\nUid:\t65533\t65533\t65533\t65533\n" in status
    assert "\nCapPrm:\t0000000000000000\n" in status
    assert os.readlink(f"/proc/{pid_of(cluster.paths)}/root") == cluster.paths.names


@pytest.mark.vm
def test_those_of_other_bridges_ask_the_first_ones_address(cluster: Cluster) -> None:
    first, found = cluster.pod("first")
    leased = [cluster.network.lease(sandbox(f"taken{n}x")) for n in range(61)]
    client, other = cluster.pod("client")
    assert (other.bridge, other.names) == (cluster.paths.bridge(1), found.names)
    cluster.network.publish_names((WEB,), whole=True)
    assert asked(other.names, client=client) == ["192.0.2.7"]
    for n, _ in enumerate(leased):
        cluster.network.release(sandbox(f"taken{n}x").id)
    del first


@pytest.mark.vm
def test_what_is_not_the_pods_is_asked_of_the_hosts_resolver_as_it_is_now(
    cluster: Cluster, outside: Namespace, resolver: Path
) -> None:
    client, found = cluster.pod("client")
    with opened_in(outside, socket.AF_INET, socket.SOCK_DGRAM) as upstream:
        upstream.bind((OUTSIDE[socket.AF_INET], 53))
        with opened_in(client, socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect((found.names, 53))
            query = dns.message.make_query("example.com", "A")
            sock.send(query.to_wire())
            data, place = upstream.recvfrom(512)
            assert place[0] == HOST[socket.AF_INET]
            upstream.sendto(dns.message.make_response(dns.message.from_wire(data)).to_wire(), place)
            assert query.is_response(dns.message.from_wire(sock.recv(512)))
            resolver.write_text(f"nameserver {found.names}\n")  # the answerer's own: not asked, it would be for ever
            cluster.network.publish_names((WEB,), whole=True)
            sock.send(query.to_wire())
            assert dns.message.from_wire(sock.recv(512)).rcode() == dns.rcode.SERVFAIL


@pytest.mark.vm
def test_another_dns_server_of_the_host_and_a_pods_hostport_53_change_nothing(cluster: Cluster) -> None:
    with opened_in(None, socket.AF_INET, socket.SOCK_DGRAM) as before:
        before.bind(("0.0.0.0", 53))
        client, found = cluster.pod("client")
        cluster.network.publish_names((WEB,), whole=True)
        cluster.pod("server", PortMapping(protocol="UDP", container_port=53, host_port=53))
        assert asked(found.names, client=client) == ["192.0.2.7"]
    with opened_in(None, socket.AF_INET, socket.SOCK_DGRAM) as after:
        after.bind(("0.0.0.0", 53))


def test_a_firewall_that_drops_what_is_sent_to_the_host_is_reported_with_the_remedy(host: None, paths: Paths) -> None:
    nft("add table ip filter", "add chain ip filter INPUT { type filter hook input priority 0; policy drop; }")
    made = Cluster(paths)
    try:
        client, found = made.pod("client")
        made.network.publish_names((WEB,), whole=True)
        (warning,) = made.warnings
        assert not is_answered(found.names, client)
        remedy = warning.partition("nft ")[2].partition(";")[0]
        nft(remedy.replace("'", '"'))
        assert asked(found.names, client=client) == ["192.0.2.7"]
    finally:
        made.close()


@pytest.mark.vm
def test_a_flushed_table_and_a_killed_answerer_are_mended(cluster: Cluster) -> None:
    client, found = cluster.pod("client")
    cluster.network.publish_names((WEB,), whole=True)
    assert asked(found.names, client=client) == ["192.0.2.7"]
    nft("flush ruleset")
    assert not is_answered(found.names, client)
    cluster.network.keep_names()
    assert asked(found.names, client=client) == ["192.0.2.7"]
    pid = pid_of(cluster.paths)
    os.kill(pid, signal.SIGKILL)
    until(lambda: not start.is_there(cluster.paths.names))
    cluster.network.keep_names()
    assert pid_of(cluster.paths) != pid
    assert asked(found.names, client=client) == ["192.0.2.7"]


@pytest.mark.vm
def test_a_newer_version_takes_over_and_no_question_is_lost(
    cluster: Cluster, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, found = cluster.pod("client")
    cluster.network.publish_names((WEB,), whole=True)
    assert asked(found.names, client=client) == ["192.0.2.7"]
    pid = pid_of(paths)
    with opened_in(client, socket.AF_INET, socket.SOCK_DGRAM) as sock:
        asked(found.names, client=client)
        sock.connect((found.names, 53))  # the kernel still leads its questions to the old one
        sock.send(dns.message.make_query(NAME, "A").to_wire())
        assert sock.recv(512)
        monkeypatch.setattr(names, "__version__", "9.9.9")
        later = Cluster(paths)
        later.network.publish_names((WEB,), whole=True)
        later.network.keep_names()
        sock.send(dns.message.make_query(NAME, "A").to_wire())
        assert sock.recv(512)
    assert asked(found.names, client=client) == ["192.0.2.7"]
    assert [file.name for file in Path(paths.names).glob("*.running")] == ["9.9.9.running"]
    assert pid_of(paths) != pid
    os.kill(pid, signal.SIGKILL)  # it would answer for 5 s more

    def is_gone() -> bool:
        start.reap()
        return not os.path.exists(f"/proc/{pid}")

    until(is_gone)


@pytest.mark.vm
def test_a_pod_on_the_hosts_network_keeps_the_answerer_and_the_last_one_ends_it(cluster: Cluster) -> None:
    config = sandbox("client", network="node")
    config = type(config)(
        **{**{name: getattr(config, name) for name in config.__struct_fields__}, "dns": DNSConfig(answerer=True)}
    )
    found = cluster.network.lease(config)
    assert found.names
    assert not found.ipv4
    assert cluster.network.facts(config.id) == found
    cluster.network.publish_names((WEB,), whole=True)
    assert asked(found.names) == ["192.0.2.7"]
    cluster.network.release(config.id)
    assert not os.path.exists(cluster.paths.names)


def test_switched_off_there_is_none_and_those_who_ask_one_keep_it(host: None, paths: Paths) -> None:
    off = Cluster(paths, Config(names=False))
    _, found = off.pod("one")
    assert found.names == ""
    assert not os.path.exists(paths.names)
    off.close()
    on = Cluster(paths)
    client, found = on.pod("one")
    off = Cluster(paths, Config(names=False))
    off.network.publish_names((WEB,), whole=True)
    off.network.keep_names()
    assert asked(found.names, client=client) == ["192.0.2.7"]
    on.close()


# -- by the command line


@pytest.fixture
def glibc(tmp_path: Path) -> Iterator[Path]:
    """A root directory with this host's getent and its C library."""
    root = tmp_path / "images" / "glibc"
    for program in ("/usr/bin/getent", "/bin/sleep"):
        for file in (program, *libraries(program)):
            place = Path(f"{root}{file}")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, place)
    (root / "etc").mkdir()
    (root / "etc/nsswitch.conf").write_text("hosts: files dns\n")
    yield root
    shutil.rmtree(root)


def libraries(program: str) -> list[str]:
    lines = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout.splitlines()
    return [word for line in lines for word in line.split() if word.startswith("/")]


def test_pods_find_each_other_by_name(node: Node, glibc: Path, tmp_path: Path) -> None:
    node.configure(f'image_directories = ["{glibc.parent}"]\nidle_exit_s = 60\n')
    quick: dict[str, Any] = {"terminationGracePeriodSeconds": 0}
    on_host: dict[str, Any] = {"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"}
    client = {"name": "c", "image": f"dir:{glibc}", "command": ["sleep", "1000"]}
    texts = (
        manifest(
            pod(
                "web",
                container("c", "sleep 1000"),
                hostname="web-0",
                subdomain="group",
                terminationGracePeriodSeconds=0,
            )
        ),
        manifest(pod("client", client, **quick)),
        manifest(pod("busy", container("c", "sleep 1000"), **quick, **on_host)),
    )
    file = tmp_path / "pods.yaml"
    file.write_text("\n---\n".join(texts))
    node("run", "-d", str(file))
    node("wait", "pod", "--all", "--for=condition=Ready")
    address = node("get", "pod", "web", "-o", "jsonpath={.status.podIP}").stdout
    dashed = address.replace(".", "-")
    text = node("exec", "client", "--", "getent", "ahosts", "web").stdout
    assert address in text
    text = Path(glob_one(node, "client")).read_text()
    assert text.startswith("search default.svc.cluster.local svc.cluster.local cluster.local")
    assert text.endswith("options ndots:5\n")
    for name in ("web.default", "web-0.group", "web.default.pod", f"{dashed}.default.pod.cluster.local", "group"):
        found = node("exec", "client", "--", "getent", "ahostsv4", name).stdout
        assert found.split()[0] == address, name
    assert node("exec", "client", "--", "getent", "ahosts", "nothing.default", check=False).returncode == 2
    assert address in node("exec", "busy", "--", "ping", "-4", "-c1", "-W2", "web.default.svc.cluster.local").stdout
    assert "MissingClusterDNS" not in node("events").stdout
    node("delete", "pod", "web")
    until(lambda: node("exec", "client", "--", "getent", "ahosts", "web", check=False).returncode == 2)


def glob_one(node: Node, name: str) -> str:
    (found,) = [
        folder / "files" / "resolv.conf"
        for folder in Path(node.paths.root, "sandboxes").iterdir()
        if f'"name":"{name}"' in (folder / "sandbox.json").read_text()
    ]
    return str(found)
