"""Rules for resources: requests, limits, claims, of containers and of the pod as a whole (layer 1, pure)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from minipod.api import quantity
from minipod.api.status import container_total
from minipod.api.types import (
    ContainerResizePolicy,
    PodResourceClaim,
    PodSpec,
    ResourceClaim,
    ResourceRequirements,
)
from minipod.api.validation.check import Check, Key, Path
from minipod.api.validation.formats import dns_label, dns_subdomain, qualified_name

COMPUTE = ("cpu", "memory")
RESIZE_POLICIES = ("NotRequired", "RestartContainer")
HUGE_PAGES = "hugepages-"

_COUNTED = frozenset(
    (
        "configmaps",
        "persistentvolumeclaims",
        "pods",
        "replicationcontrollers",
        "resourcequotas",
        "secrets",
        "services",
        "services.loadbalancers",
        "services.nodeports",
    )
)
_STANDARD = _COUNTED | {
    "cpu",
    "ephemeral-storage",
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
    "requests.storage",
    "storage",
}
_OF_CONTAINERS = frozenset(("cpu", "memory", "ephemeral-storage"))

NameRule = Callable[[Check, str, Path], None]


# What a resource is, by its name


def is_native(name: str) -> bool:
    """Kubernetes' own: without a prefix, or with one in kubernetes.io."""
    return "/" not in name or "kubernetes.io/" in name


def is_extended(name: str) -> bool:
    """Of another domain, as nvidia.com/gpu."""
    return not is_native(name) and not name.startswith("requests.") and not qualified_name(f"requests.{name}")


def can_be_overcommitted(name: str) -> bool:
    return is_native(name) and not name.startswith(HUGE_PAGES)


def container_resource(check: Check, name: str, path: Path) -> None:
    if name in _OF_CONTAINERS:
        return
    if complaint := qualified_name(name):
        check.invalid(path, value=name, why=complaint)
    elif "/" not in name:
        if not name.startswith(HUGE_PAGES):
            why = "must be cpu, memory, ephemeral-storage, hugepages-<size>, or have a prefix as in example.com/name"
            check.invalid(path, value=name, why=why)
    elif not is_native(name) and not is_extended(name):
        check.invalid(path, value=name, why="must be a name as in example.com/name, not beginning with 'requests.'")


def pod_resource(check: Check, name: str, path: Path) -> None:
    if name in COMPUTE:
        return
    if complaint := qualified_name(name):
        check.invalid(path, value=name, why=complaint)
    elif "/" not in name and name not in _STANDARD and not name.startswith((HUGE_PAGES, f"requests.{HUGE_PAGES}")):
        check.invalid(path, value=name, why="must be cpu, memory or hugepages-<size>")
    elif not name.startswith(HUGE_PAGES):
        check.unsupported(path, value=name, allowed=("cpu", "hugepages-", "memory"))


# Amounts


def amount(check: Check, name: str, value: str, *path: object) -> None:
    """Not negative, and whole where the resource is counted in pieces."""
    if quantity.sign(value) < 0:
        check.invalid(*path, value=value, why="must be 0 or more")
    if name not in _OF_CONTAINERS and quantity.millis(value) % 1000 and (name in _COUNTED or is_extended(name)):
        check.invalid(*path, value=value, why="must be a whole number")


def huge_page_amount(check: Check, name: str, value: str, path: Path) -> None:
    if not _is_multiple_of_page(name.removeprefix(HUGE_PAGES), value):
        check.invalid(path, value=value, why=f"must be a multiple of the page size of {name}")


def _is_multiple_of_page(page_size: str, value: str) -> bool:
    try:
        size = quantity.value(page_size)
        whole = quantity.sign(page_size) > 0 and quantity.millis(page_size) % 1000 == 0
    except quantity.InvalidQuantity:
        return False
    return whole and size != 0 and quantity.value(value) % size == 0


# Requests and limits


def container_resources(check: Check, resources: ResourceRequirements, claims: frozenset[str], path: Path) -> None:
    requirements(check, resources, container_resource, path)
    if resources.claims:
        claim_references(check, resources.claims, claims, (path, "claims"))


def requirements(check: Check, resources: ResourceRequirements, name_rule: NameRule, path: Path) -> None:
    limits, requests = resources.limits, resources.requests
    if not limits and not requests:
        return
    for kind, amounts in (("limits", limits), ("requests", requests)):
        for name, value in amounts.items():
            at = (path, kind, Key(name))
            name_rule(check, name, at)
            amount(check, name, value, at)
            if name.startswith(HUGE_PAGES):
                huge_page_amount(check, name, value, at)
    for name, value in requests.items():
        request_fits_limit(check, name, value, limits.get(name), path)
    names = limits.keys() | requests.keys()
    if names.isdisjoint(COMPUTE) and any(name.startswith(HUGE_PAGES) for name in names):
        check.forbidden(path, why="hugepages need cpu or memory too")


def request_fits_limit(check: Check, name: str, request: str, limit: str | None, path: Path) -> None:
    if limit is None:
        if not can_be_overcommitted(name):
            check.missing(path, "limits", why=f"{name} needs a limit equal to its request")
    elif request != limit:
        order = quantity.compare(request, limit)
        if order and not can_be_overcommitted(name):
            check.invalid(path, "requests", value=request, why=f"must equal the {name} limit of {limit}")
        elif order > 0:
            check.invalid(path, "requests", value=request, why=f"must be at most the {name} limit of {limit}")


def overhead(check: Check, amounts: dict[str, str], path: Path) -> None:
    requirements(check, ResourceRequirements(limits=amounts), container_resource, path)


# Claims of devices


def pod_claims(check: Check, claims: tuple[PodResourceClaim, ...], mirror: bool, path: Path) -> None:
    names: set[str] = set()
    for index, claim in enumerate(claims):
        if mirror:
            check.forbidden("", why="a static pod cannot have resource claims")
            continue
        at = (path, index)
        if check.required(claim.name, at, "name") and check.unique(claim.name, names, at, "name"):
            check.format(claim.name, dns_label, at, "name")
        if (claim.resource_claim_name is None) == (claim.resource_claim_template_name is None):
            check.invalid(at, value=claim, why="must have one of resourceClaimName and resourceClaimTemplateName")
        if claim.resource_claim_name is not None:
            check.format(claim.resource_claim_name, dns_subdomain, at, "resourceClaimName")
        if claim.resource_claim_template_name is not None:
            check.format(claim.resource_claim_template_name, dns_subdomain, at, "resourceClaimTemplateName")


def claim_references(check: Check, claims: tuple[ResourceClaim, ...], known: frozenset[str], path: Path) -> None:
    """A container refers to a claim as a whole, or to some of its requests, each once."""
    whole: set[str] = set()
    parts: set[tuple[str, str]] = set()
    for index, claim in enumerate(claims):
        if not check.required(claim.name, path, index):
            continue
        part = (claim.name, claim.request)
        if claim.name in whole:
            check.duplicate(path, index, value=claim.name)
        else:
            if claim.request:
                check.format(claim.request, dns_label, path, index, "request")
            if part in parts or (not claim.request and any(name == claim.name for name, _ in parts)):
                check.duplicate(path, index, value=claim.name)
        if claim.request:
            parts.add(part)
        else:
            whole.add(claim.name)
        if claim.name not in known:
            names = ", ".join(sorted(known)) or "there are none"
            check.not_found(path, index, value=claim.name, why=f"must be one of spec.resourceClaims: {names}")


# Resizing


def resize_policies(check: Check, policies: tuple[ContainerResizePolicy, ...], restart_policy: str, path: Path) -> None:
    """The server names the list in these paths, not the entry."""
    names: set[str] = set()
    for index, policy in enumerate(policies):
        check.unique(policy.resource_name, names, path, index)
        check.choice(policy.resource_name, COMPUTE, path)
        check.choice(policy.restart_policy, RESIZE_POLICIES, path)
        if restart_policy == "Never" and policy.restart_policy != "NotRequired":
            why = "must be NotRequired when the pod's restartPolicy is Never"
            check.invalid(path, value=policy.restart_policy, why=why)


# The pod as a whole


def pod_resources(check: Check, spec: PodSpec, claims: frozenset[str], path: Path) -> None:
    resources = spec.resources
    if resources is None:
        return
    if spec.os is not None and spec.os.name == "windows":
        check.forbidden(path, why="cannot be set for a Windows pod")
        return
    if resources.claims or check.is_written_empty(resources.claims, path, "claims"):
        check.forbidden(path, "claims", why="only containers can have claims")
    requirements(check, resources, pod_resource, path)
    claim_references(check, resources.claims, claims, (path, "claims"))
    containers_fit_pod(check, spec, resources, path)


def containers_fit_pod(check: Check, spec: PodSpec, resources: ResourceRequirements, path: Path) -> None:
    """What the containers need together at the worst moment fits in what the pod as a whole gets."""
    _total_fits(check, "requests", resources.requests, container_total(spec, "requests"), path)
    huge_pages = {name: value for name, value in resources.limits.items() if name.startswith(HUGE_PAGES)}
    if huge_pages:
        _total_fits(check, "limits", huge_pages, container_total(spec, "limits"), path)
    for index, container in enumerate(spec.containers):
        for name, limit in container.resources.limits.items():
            of_pod = resources.limits.get(name)
            if of_pod is not None and quantity.compare(limit, of_pod) > 0:
                at = (path, "containers", index, Key(name), "limits")
                check.invalid(at, value=limit, why=f"must be at most the pod's limit of {of_pod}")


def _total_fits(check: Check, kind: str, amounts: Mapping[str, str], needed: Mapping[str, str], path: Path) -> None:
    for name, value in amounts.items():
        if name in needed and quantity.compare(needed[name], value) > 0:
            why = f"must be at least the {kind} of the containers together, {needed[name]}"
            check.invalid(path, kind, Key(name), value=value, why=why)
