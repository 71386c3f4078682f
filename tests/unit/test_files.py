"""/etc/hosts, hostname and resolv.conf, byte for byte."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from minipod.api.types import Pod
from minipod.config import Config
from minipod.errors import SandboxError
from minipod.plan import files
from minipod.plan.configs import DNSConfig, HostAlias, HostFacts, NamespaceOptions, SandboxConfig

FACTS = HostFacts(
    node_name="node-1",
    cpus=2,
    memory_bytes=1 << 33,
    cgroup_version=2,
    resolv_conf="# by hand\nnameserver 192.0.2.53\nsearch lan. corp.example\noptions ndots:2 rotate\n",
    etc_hosts="127.0.0.1 localhost\n",
)


def pod_of(**spec: Any) -> Pod:
    return msgspec.convert({"metadata": {"name": "web", "namespace": "shop", "uid": "u"}, "spec": spec}, Pod)


def dns_of(config: Config = Config(), **spec: Any) -> tuple[DNSConfig, list[str]]:  # noqa: B008 - frozen
    dns, warnings = files.pod_dns(pod_of(**spec), config, FACTS)
    return dns, [warning.reason for warning in warnings]


def test_hosts_file_is_what_the_kubelet_writes() -> None:
    assert files.hosts_file(["10.99.1.92"], "envall", "", ()) == (
        "# Kubernetes-managed hosts file.\n"
        "127.0.0.1\tlocalhost\n"
        "::1\tlocalhost ip6-localhost ip6-loopback\n"
        "fe00::0\tip6-localnet\n"
        "fe00::0\tip6-mcastprefix\n"
        "fe00::1\tip6-allnodes\n"
        "fe00::2\tip6-allrouters\n"
        "10.99.1.92\tenvall\n"
    )


def test_hosts_file_has_the_fqdn_first_every_address_and_the_aliases() -> None:
    aliases = (HostAlias(ip="192.0.2.1", hostnames=("a", "b")), HostAlias(ip="192.0.2.2", hostnames=("c",)))
    text = files.hosts_file(["10.0.0.2", "fd00::2"], "web", "sub.shop.svc.cluster.local", aliases)
    assert text.endswith(
        "10.0.0.2\tweb.sub.shop.svc.cluster.local\tweb\n"
        "fd00::2\tweb.sub.shop.svc.cluster.local\tweb\n"
        "\n# Entries added by HostAliases.\n192.0.2.1\ta\tb\n192.0.2.2\tc\n"
    )


def test_in_the_hosts_network_the_hosts_own_file_is_shown_below_a_header() -> None:
    config = SandboxConfig(
        id="0",
        name="p",
        namespace="n",
        uid="u",
        hostname="node-1",
        log_directory="/l",
        cgroup_parent="/c",
        namespaces=NamespaceOptions(network="node"),
        host_aliases=(HostAlias(ip="192.0.2.1", hostnames=("a",)),),
    )
    assert files.sandbox_files(config, (), FACTS) == {
        "hosts": "# Kubernetes-managed hosts file (host network).\n127.0.0.1 localhost\n"
        "\n# Entries added by HostAliases.\n192.0.2.1\ta\n",
        "hostname": "node-1\n",
        "resolv.conf": "",
    }


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, ("web", "", "web")),
        ({"hostname": "h"}, ("h", "", "h")),
        ({"hostname": "h", "subdomain": "s"}, ("h", "s.shop.svc.cluster.local", "h")),
        (
            {"subdomain": "s", "setHostnameAsFQDN": True},
            ("web", "s.shop.svc.cluster.local", "web.s.shop.svc.cluster.local"),
        ),
        ({"setHostnameAsFQDN": True}, ("web", "", "web")),
        ({"hostnameOverride": "x.example", "hostname": "h", "subdomain": "s"}, ("x.example", "", "x.example")),
        ({"hostNetwork": True}, ("node-1", "", "node-1")),
    ],
)
def test_hostname_follows_the_spec(spec: dict[str, Any], expected: tuple[str, str, str]) -> None:
    found = files.pod_hostname(pod_of(**spec), Config(), FACTS)
    assert (found.hostname, found.domain, found.kernel) == expected


def test_a_long_hostname_is_cut_and_loses_trailing_dashes_and_dots() -> None:
    pod = msgspec.convert({"metadata": {"name": "a" * 62 + "-bcd", "namespace": "n"}}, Pod)
    assert files.pod_hostname(pod, Config(), FACTS).hostname == "a" * 62


def test_an_fqdn_that_the_kernel_cannot_hold_is_refused() -> None:
    with pytest.raises(SandboxError, match="setHostnameAsFQDN"):
        files.pod_hostname(pod_of(subdomain="s" * 60, setHostnameAsFQDN=True), Config(), FACTS)


def test_the_default_policy_is_the_hosts_resolver() -> None:
    expected = DNSConfig(servers=("192.0.2.53",), searches=("lan", "corp.example"), options=("ndots:2", "rotate"))
    assert dns_of(dnsPolicy="Default") == (expected, [])
    assert dns_of(dnsPolicy="ClusterFirst", hostNetwork=True) == (expected, [])


def test_cluster_first_asks_the_node_and_without_names_the_hosts_resolvers() -> None:
    dns, warnings = dns_of(dnsPolicy="ClusterFirst")
    assert (dns.answerer, dns.servers, dns.options, warnings) == (True, (), ("ndots:5",), [])
    assert dns_of(dnsPolicy="ClusterFirstWithHostNet", hostNetwork=True) == (dns, [])
    assert not dns_of(Config(cluster_dns=("10.96.0.10",)))[0].answerer
    for off, cause in ((Config(names=False), "names = false"), (Config(cluster_domain=""), 'cluster_domain = ""')):
        assert dns_of(off, dnsPolicy="ClusterFirst") == dns_of(dnsPolicy="Default")
        assert cause in files.missing_cluster_dns(off)
    assert [files.missing_cluster_dns(on) for on in (Config(), Config(cluster_dns=("10.96.0.10",), names=False))] == [
        "",
        "",
    ]


def test_the_nodes_own_address_comes_first_and_counts() -> None:
    more = {
        "nameservers": ["192.0.2.1", "192.0.2.2", "192.0.2.3"],
        "searches": ["x"],
        "options": [{"name": "ndots", "value": "1"}],
    }
    dns, warnings = dns_of(dnsConfig=more)
    assert warnings == ["DNSConfigForming"]
    assert files.resolv_conf(dns, "10.86.0.1") == (
        "search shop.svc.cluster.local svc.cluster.local cluster.local lan corp.example x\n"
        "nameserver 10.86.0.1\nnameserver 192.0.2.1\nnameserver 192.0.2.2\noptions ndots:1\n"
    )


def test_cluster_first_searches_the_namespace_before_the_hosts_domains() -> None:
    dns, warnings = dns_of(Config(cluster_dns=("10.96.0.10",)), dnsPolicy="ClusterFirst")
    assert dns == DNSConfig(
        servers=("10.96.0.10",),
        searches=("shop.svc.cluster.local", "svc.cluster.local", "cluster.local", "lan", "corp.example"),
        options=("ndots:5",),
    )
    assert warnings == []


def test_dns_config_is_appended_and_its_options_win() -> None:
    more = {
        "nameservers": ["192.0.2.53", "192.0.2.54"],
        "searches": ["corp.example", "x"],
        "options": [{"name": "ndots", "value": "3"}, {"name": "edns0"}],
    }
    dns, _ = dns_of(dnsPolicy="Default", dnsConfig=more)
    assert dns == DNSConfig(
        servers=("192.0.2.53", "192.0.2.54"),
        searches=("lan", "corp.example", "x"),
        options=("ndots:3", "rotate", "edns0"),
    )
    alone, _ = dns_of(dnsPolicy="None", dnsConfig={"nameservers": ["192.0.2.9"]})
    assert alone == DNSConfig(servers=("192.0.2.9",))


def test_what_exceeds_the_limits_is_left_out_and_reported() -> None:
    more = {
        "nameservers": [f"192.0.2.{n}" for n in range(5)],
        "searches": [f"s{n}" for n in range(40)] + ["x" * 254],
    }
    dns, warnings = dns_of(dnsPolicy="None", dnsConfig=more)
    assert len(dns.servers) == 3
    assert len(dns.searches) == 32
    assert warnings == ["DNSConfigForming", "DNSConfigForming"]
    long_ones, _ = dns_of(dnsPolicy="None", dnsConfig={"searches": [f"{n:02}" + "x" * 198 for n in range(20)]})
    assert len(" ".join(long_ones.searches)) <= 2048


def test_resolv_conf_is_written_in_containerds_order() -> None:
    dns = DNSConfig(servers=("192.0.2.1", "192.0.2.2"), searches=("a", "b"), options=("ndots:5",))
    assert files.resolv_conf(dns) == "search a b\nnameserver 192.0.2.1\nnameserver 192.0.2.2\noptions ndots:5\n"


def test_of_search_lines_the_last_wins_and_of_options_the_last_of_each_name() -> None:
    text = "search a\nsearch b . c.\noptions x:1 y\noptions x:2\n;nameserver 9\n#nameserver 8\nnameserver\n"
    assert files.parse_resolv_conf(text) == DNSConfig(searches=("b", "c"), options=("x:2", "y"))
