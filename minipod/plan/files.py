"""The pod's own files (layer 2, pure): hostname, /etc/hosts and resolv.conf as the kubelet and containerd write them.

Writes nothing. Rules: pkg/kubelet/kubelet_pods.go (hosts, hostname), pkg/kubelet/network/dns/dns.go (resolv.conf).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from minipod.api.types import Pod, PodDNSConfig
from minipod.config import Config
from minipod.errors import SandboxError
from minipod.plan.configs import DNSConfig, HostAlias, HostFacts, SandboxConfig

HOSTNAME_MAX = 63  # a DNS label; the kernel's limit is HOST_NAME_MAX, 64
KERNEL_HOSTNAME_MAX = 64
MAX_NAMESERVERS = 3
MAX_SEARCHES = 32
MAX_SEARCH_CHARS = 2048
MAX_SEARCH_PATH_CHARS = 253

_HEADER = "# Kubernetes-managed hosts file.\n"
_HEADER_HOST_NETWORK = "# Kubernetes-managed hosts file (host network).\n"
_LOCAL = (
    "127.0.0.1\tlocalhost\n"
    "::1\tlocalhost ip6-localhost ip6-loopback\n"
    "fe00::0\tip6-localnet\n"
    "fe00::0\tip6-mcastprefix\n"
    "fe00::1\tip6-allnodes\n"
    "fe00::2\tip6-allrouters\n"
)


class PlanWarning(msgspec.Struct, frozen=True):
    """What the user has to know although the pod runs; becomes an event of this reason (type Warning)."""

    reason: str
    message: str


class PodHostname(msgspec.Struct, frozen=True):
    """`kernel` is what gethostname(2) returns in the pod; /etc/hosts has `<hostname>.<domain>` and `hostname`."""

    hostname: str
    domain: str = ""
    kernel: str = ""


def pod_hostname(pod: Pod, config: Config, facts: HostFacts) -> PodHostname:
    """GeneratePodHostNameAndDomain and GetNodenameForKernel. Raises SandboxError for an FQDN that is too long."""
    spec = pod.spec
    if spec.host_network:
        return PodHostname(facts.node_name, "", facts.node_name)
    if spec.hostname_override is not None:
        hostname = _truncated(spec.hostname_override)
        return PodHostname(hostname, "", hostname)
    hostname = _truncated(spec.hostname or pod.metadata.name)
    domain = f"{spec.subdomain}.{pod.metadata.namespace}.svc.{config.cluster_domain}" if spec.subdomain else ""
    kernel = hostname
    if spec.set_hostname_as_fqdn and domain:
        kernel = f"{hostname}.{domain}"
        if len(kernel) > KERNEL_HOSTNAME_MAX:
            raise SandboxError(
                f"spec.setHostnameAsFQDN: the FQDN {kernel} has {len(kernel)} characters, the kernel takes "
                f"{KERNEL_HOSTNAME_MAX}; shorten hostname, subdomain or namespace"
            )
    return PodHostname(hostname, domain, kernel)


def name_in_subdomain(pod: Pod) -> str:
    """HOSTNAME in HOSTNAME.SUBDOMAIN: also of a pod that has the host's network, and so the host's hostname."""
    return _truncated(pod.spec.hostname or pod.metadata.name)


def _truncated(hostname: str) -> str:
    return hostname if len(hostname) <= HOSTNAME_MAX else hostname[:HOSTNAME_MAX].rstrip("-.")


def hosts_file(ips: Iterable[str], hostname: str, domain: str, aliases: Sequence[HostAlias]) -> str:
    """/etc/hosts of a pod with a network of its own; `ips` without prefix length, IPv4 first."""
    names = f"{hostname}.{domain}\t{hostname}" if domain else hostname
    return _HEADER + _LOCAL + "".join(f"{ip}\t{names}\n" for ip in ips) + _aliases(aliases)


def host_network_hosts_file(etc_hosts: str, aliases: Sequence[HostAlias]) -> str:
    """/etc/hosts of a pod in the host's network: the host's own text below a header."""
    return _HEADER_HOST_NETWORK + etc_hosts + _aliases(aliases)


def _aliases(aliases: Sequence[HostAlias]) -> str:
    if not aliases:
        return ""
    lines = (f"{alias.ip}\t" + "\t".join(alias.hostnames) + "\n" for alias in aliases)
    return "\n# Entries added by HostAliases.\n" + "".join(lines)


def hostname_file(kernel_hostname: str) -> str:
    return f"{kernel_hostname}\n"


def resolv_conf(dns: DNSConfig, answerer: str = "") -> str:
    """The text of resolv.conf, in containerd's order: search, nameservers, options. `answerer`: its address."""
    text = f"search {' '.join(dns.searches)}\n" if dns.searches else ""
    text += "".join(f"nameserver {server}\n" for server in _unique((*filter(None, [answerer]), *dns.servers)))
    return text + (f"options {' '.join(dns.options)}\n" if dns.options else "")


def parse_resolv_conf(text: str) -> DNSConfig:
    """Nameservers add up, the last search line wins, options are merged by name; comments and the rest are ignored."""
    servers: list[str] = []
    searches: list[str] = []
    options: dict[str, str] = {}
    for line in text.split("\n"):
        keyword, *values = line.split() or [""]
        if keyword == "nameserver" and values:
            servers.append(values[0])
        elif keyword == "search":
            searches = [value.removesuffix(".") for value in values if value != "."]
        elif keyword == "options":
            options.update((value.split(":")[0], value) for value in values)
    return DNSConfig(servers=tuple(servers), searches=tuple(searches), options=tuple(options.values()))


def pod_dns(pod: Pod, config: Config, facts: HostFacts) -> tuple[DNSConfig, tuple[PlanWarning, ...]]:
    """What the pod's resolv.conf holds, and what did not fit (GetPodDNS).

    ClusterFirst is the node's own answerer, or the cluster DNS of the configuration. Without either it falls back to
    Default, the host's own, as in the kubelet; that is said once, by `check` and in the agent's log.
    """
    warnings: list[PlanWarning] = []
    policy = pod.spec.dns_policy or "ClusterFirst"
    if policy == "ClusterFirst" and pod.spec.host_network:
        policy = "Default"
    dns = parse_resolv_conf(facts.resolv_conf)
    if policy == "None":
        dns = DNSConfig()
    elif policy in ("ClusterFirst", "ClusterFirstWithHostNet") and (config.cluster_dns or config.answers_names):
        dns = _cluster_first(dns, pod.metadata.namespace, config)
    if pod.spec.dns_config is not None:
        dns = _appended(dns, pod.spec.dns_config)
    return _fitted(dns, warnings), tuple(warnings)


def missing_cluster_dns(config: Config) -> str:
    """What the kubelet says of each pod (MissingClusterDNS), once for all; empty where ClusterFirst means something."""
    if config.cluster_dns or config.answers_names:
        return ""
    cause = "names = false" if not config.names else 'cluster_domain = ""'
    return (
        f"pods with dnsPolicy ClusterFirst have the host's resolvers and do not find each other by name: the "
        f"configuration has {cause} and no cluster_dns"
    )


def _cluster_first(host: DNSConfig, namespace: str, config: Config) -> DNSConfig:
    domain = config.cluster_domain
    own = (f"{namespace}.svc.{domain}", f"svc.{domain}", domain) if domain else ()
    return DNSConfig(
        answerer=not config.cluster_dns,
        servers=config.cluster_dns,
        searches=_unique(own + host.searches),
        options=("ndots:5",),
    )


def _appended(dns: DNSConfig, more: PodDNSConfig) -> DNSConfig:
    options = {option.partition(":")[0]: option.partition(":")[2] for option in dns.options}
    options.update((option.name, option.value or "") for option in more.options)
    return DNSConfig(
        answerer=dns.answerer,
        servers=_unique(dns.servers + more.nameservers),
        searches=_unique(dns.searches + more.searches),
        options=tuple(f"{name}:{value}" if value else name for name, value in options.items()),
    )


def _fitted(dns: DNSConfig, warnings: list[PlanWarning]) -> DNSConfig:
    """The limits of the kubelet's validation and of old resolvers; the event DNSConfigForming reports what is cut."""
    servers = dns.servers[: MAX_NAMESERVERS - dns.answerer]
    if servers != dns.servers:
        warnings.append(
            PlanWarning(
                "DNSConfigForming",
                "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: "
                + " ".join((*["the node's own"] * dns.answerer, *servers)),
            )
        )
    kept = [search for search in dns.searches[:MAX_SEARCHES] if len(search) <= MAX_SEARCH_PATH_CHARS]
    while len(" ".join(kept)) > MAX_SEARCH_CHARS:
        kept.pop()
    searches = tuple(kept)
    if searches != dns.searches:
        warnings.append(
            PlanWarning(
                "DNSConfigForming",
                "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: "
                + " ".join(searches),
            )
        )
    return DNSConfig(answerer=dns.answerer, servers=servers, searches=searches, options=dns.options)


def _unique(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))


def sandbox_files(config: SandboxConfig, ips: Iterable[str], facts: HostFacts, answerer: str = "") -> dict[str, str]:
    """File name in the sandbox's directory -> text: `hosts`, `hostname`, `resolv.conf`.

    `ips`: the pod's addresses without prefix length, IPv4 first; not looked at in the host's network. `answerer`: where
    a pod asks whose resolv.conf begins with the node's own.
    """
    if config.namespaces.network == "node":
        hosts = host_network_hosts_file(facts.etc_hosts, config.host_aliases)
    else:
        hosts = hosts_file(ips, config.hostname, config.domain, config.host_aliases)
    return {
        "hosts": hosts,
        "hostname": hostname_file(config.kernel_hostname or config.hostname),
        "resolv.conf": resolv_conf(config.dns, answerer if config.dns.answerer else ""),
    }
