"""Rules for a pod as a whole, on create (layer 1, pure): pkg/registry/core/pod/strategy.go, Validate.

The pod has gone through `api.defaults`, which also does what the server does before it validates: it takes away what
is behind disabled features, and merges `matchLabelKeys` into selectors.
"""

from __future__ import annotations

from minipod.api.types import HostAlias, Pod, PodDNSConfig, PodSpec
from minipod.api.validation.check import Check, Path
from minipod.api.validation.containers import (
    Scope,
    containers,
    ephemeral_containers,
    image_is_trimmed,
    init_containers,
)
from minipod.api.validation.env import file_key_volumes
from minipod.api.validation.formats import dns_label, dns_search, dns_subdomain, ip_address
from minipod.api.validation.metadata import label_map, object_meta
from minipod.api.validation.pod_annotations import MIRROR, annotations_match_fields, pod_annotations
from minipod.api.validation.ports import host_network_ports
from minipod.api.validation.projected import tokens_have_an_account
from minipod.api.validation.resources import overhead, pod_claims, pod_resources
from minipod.api.validation.scheduling import (
    affinity,
    readiness_gates,
    scheduling_gates,
    tolerations,
    topology_spread,
)
from minipod.api.validation.security import host_name_override, host_users, pod_security
from minipod.api.validation.volumes import volumes
from minipod.api.validation.windows import host_process, operating_system

SPEC: Path = ("spec",)

RESTART_POLICIES = ("Always", "OnFailure", "Never")
DNS_POLICIES = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
PREEMPTION_POLICIES = ("PreemptLowerPriority", "Never")

NAMESERVERS_LIMIT = 3
SEARCHES_LIMIT = 32
SEARCHES_LIMIT_BYTES = 2048


def pod_on_create(check: Check, pod: Pod) -> None:
    pod_itself(check, pod)
    if pod.spec.ephemeral_containers:
        check.forbidden(SPEC, "ephemeralContainers", why="can only be added to a pod that runs")
    if pod.spec.node_name and pod.spec.scheduling_gates:
        check.forbidden(SPEC, "nodeName", why="cannot be set while there are schedulingGates")
    annotations_match_fields(check, pod, SPEC)


def pod_itself(check: Check, pod: Pod) -> None:
    """What holds for a pod on create and after each update."""
    object_meta(check, pod.metadata, namespaced=True)
    pod_annotations(check, pod.metadata.annotations, pod.spec)
    pod_spec(check, pod, SPEC)
    tokens_have_an_account(check, pod.spec, SPEC)
    for kind, group in (("containers", pod.spec.containers), ("initContainers", pod.spec.init_containers)):
        for index, container in enumerate(group):
            image_is_trimmed(check, container, (SPEC, kind, index))


def pod_spec(check: Check, pod: Pod, path: Path) -> None:
    spec = pod.spec
    if spec.termination_grace_period_seconds is None:
        check.missing(path, "terminationGracePeriodSeconds")
    usable_volumes = volumes(check, spec, pod.metadata.name, (path, "volumes"))
    claims = frozenset(claim.name for claim in spec.resource_claims if claim.name)
    pod_claims(check, spec.resource_claims, MIRROR in pod.metadata.annotations, (path, "resourceClaims"))

    scope = Scope(spec, usable_volumes, claims)
    containers(check, scope, (path, "containers"))
    init_containers(check, scope, (path, "initContainers"))
    ephemeral_containers(check, scope, (path, "ephemeralContainers"))

    pod_resources(check, spec, claims, (path, "resources"))
    if spec.overhead:
        overhead(check, spec.overhead, (path, "overhead"))
    host_network_ports(check, spec, path)
    file_key_volumes(check, spec, path)

    pod_security(check, spec, (path, "securityContext"))
    host_users(check, spec, path)
    operating_system(check, spec, path)
    host_process(check, spec, path)

    names(check, spec, path)
    policies(check, spec, path)
    dns_config(check, spec.dns_config, spec.dns_policy, (path, "dnsConfig"))
    host_aliases(check, spec.host_aliases, (path, "hostAliases"))

    label_map(check, spec.node_selector, path, "nodeSelector")
    affinity(check, spec.affinity, (path, "affinity"))
    tolerations(check, spec.tolerations, (path, "tolerations"))
    topology_spread(check, spec.topology_spread_constraints, (path, "topologySpreadConstraints"))
    readiness_gates(check, spec.readiness_gates, (path, "readinessGates"))
    scheduling_gates(check, spec.scheduling_gates, (path, "schedulingGates"))


def names(check: Check, spec: PodSpec, path: Path) -> None:
    if spec.hostname:
        check.format(spec.hostname, dns_label, path, "hostname")
    if spec.subdomain:
        check.format(spec.subdomain, dns_label, path, "subdomain")
    host_name_override(check, spec, path)
    if spec.service_account_name:
        check.format(spec.service_account_name, dns_subdomain, path, "serviceAccountName")
    if spec.node_name:
        check.format(spec.node_name, dns_subdomain, path, "nodeName")
    if spec.priority_class_name:
        check.format(spec.priority_class_name, dns_subdomain, path, "priorityClassName")
    if spec.runtime_class_name is not None:
        check.format(spec.runtime_class_name, dns_subdomain, path, "runtimeClassName")


def policies(check: Check, spec: PodSpec, path: Path) -> None:
    check.choice(spec.restart_policy, RESTART_POLICIES, path, "restartPolicy")
    check.choice(spec.dns_policy, DNS_POLICIES, path, "dnsPolicy")
    if spec.preemption_policy is not None:
        check.choice(spec.preemption_policy, PREEMPTION_POLICIES, path, "preemptionPolicy")
    if spec.active_deadline_seconds is not None:
        check.in_range(spec.active_deadline_seconds, 1, 2**31 - 1, path, "activeDeadlineSeconds")


def dns_config(check: Check, config: PodDNSConfig | None, policy: str, path: Path) -> None:
    """What ends up in resolv.conf, within the limits of the C library."""
    if policy == "None":
        if config is None:
            check.missing(path, why="dnsPolicy None needs one")
            return
        if not check.required(config.nameservers, path, "nameservers", why="dnsPolicy None needs at least one"):
            return
    if config is None:
        return
    if len(config.nameservers) > NAMESERVERS_LIMIT:
        why = f"must be at most {NAMESERVERS_LIMIT}"
        check.invalid(path, "nameservers", value=config.nameservers, why=why)
    for index, nameserver in enumerate(config.nameservers):
        check.format(nameserver, ip_address, path, "nameservers", index)
    if len(config.searches) > SEARCHES_LIMIT or len(" ".join(config.searches).encode()) > SEARCHES_LIMIT_BYTES:
        why = f"must be at most {SEARCHES_LIMIT} domains and {SEARCHES_LIMIT_BYTES} characters, spaces included"
        check.invalid(path, "searches", value=config.searches, why=why)
    for index, search in enumerate(config.searches):
        check.format(search, dns_search, path, "searches", index)
    for index, option in enumerate(config.options):
        check.required(option.name, path, "options", index, why="an option needs a name")


def host_aliases(check: Check, aliases: tuple[HostAlias, ...], path: Path) -> None:
    for index, alias in enumerate(aliases):
        check.format(alias.ip, ip_address, path, index, "ip")
        for number, hostname in enumerate(alias.hostnames):
            check.format(hostname, dns_subdomain, path, index, "hostnames", number)
