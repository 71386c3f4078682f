"""What the API server fills in (layer 1, pure): `defaulted(pod)` is the pod as it would be stored.

The rules are those of pkg/apis/core/v1/{defaults,zz_generated.defaults,conversion}.go and, for what creation adds,
pkg/registry/core/pod/strategy.go (PrepareForCreate) with 1.36's feature gates. One function per type; each returns
its argument where nothing is to be filled in.
"""

from __future__ import annotations

from typing import Any, TypeVar

from msgspec.structs import replace

from minipod.api import defaults_volumes, status, types
from minipod.api.defaults_volumes import each, field_selector, rounded
from minipod.api.kinds import kind_of

O = TypeVar("O", bound=types.Object)  # noqa: E741 - an object

DEFAULT_NAMESPACE = "default"
_POD_LEVEL = ("cpu", "memory")
_APPARMOR_ANNOTATION = "container.apparmor.security.beta.kubernetes.io/"


def defaulted(manifest: O, namespace: str = DEFAULT_NAMESPACE, now: str | None = None) -> O:
    """The object as the API server would store it on creation, before it is validated.

    `namespace`: for objects that name none. `now`: an RFC 3339 time, written where creation writes a time.
    """
    kind = kind_of(manifest)
    result: Any = manifest
    if kind.namespaced and not result.metadata.namespace:
        result = replace(result, metadata=replace(result.metadata, namespace=namespace))
    filled: O = result if kind.defaults is None else kind.defaults(result, now)
    return filled


# --- Pod ---


def pod(pod: types.Pod, now: str | None) -> types.Pod:
    spec = _pod_spec(pod.spec)
    spec = _without_disabled_features(spec)
    spec = _merged_label_keys(spec, pod.metadata.labels)
    metadata = replace(pod.metadata, generation=1)
    pod = replace(pod, metadata=metadata, spec=spec)
    if any(key.startswith(_APPARMOR_ANNOTATION) for key in metadata.annotations):
        pod = replace(pod, spec=_apparmor_from_annotations(pod))
    return replace(pod, status=_first_status(pod, now))


def _first_status(pod: types.Pod, now: str | None) -> types.PodStatus:
    conditions: tuple[types.PodCondition, ...] = ()
    if pod.spec.scheduling_gates:
        gated = types.PodCondition(
            type="PodScheduled",
            status="False",
            reason="SchedulingGated",
            message="Scheduling is blocked due to non-empty scheduling gates",
            last_transition_time=now,
        )
        conditions = (gated,)
    return types.PodStatus(phase="Pending", qos_class=status.qos_class(pod), conditions=conditions)


def _pod_spec(spec: types.PodSpec) -> types.PodSpec:
    host_network = spec.host_network
    account = spec.service_account_name or spec.service_account
    grace = 30 if spec.termination_grace_period_seconds is None else spec.termination_grace_period_seconds
    unrounded = replace(
        spec,
        containers=each(_with_requests, spec.containers),
        init_containers=each(_with_requests, spec.init_containers),
    )
    if spec.resources is not None:
        unrounded = _pod_level_resources(unrounded)
        unrounded = replace(unrounded, resources=_resources(unrounded.resources))  # type: ignore[arg-type]  # set above
    if host_network:
        unrounded = replace(
            unrounded,
            containers=each(_with_host_ports, unrounded.containers),
            init_containers=each(_with_host_ports, unrounded.init_containers),
        )
    return replace(
        unrounded,
        containers=each(_container, unrounded.containers),
        init_containers=each(_container, unrounded.init_containers),
        ephemeral_containers=each(_container, spec.ephemeral_containers),
        volumes=each(defaults_volumes.volume, spec.volumes),
        overhead=rounded(spec.overhead),
        dns_policy=spec.dns_policy or "ClusterFirst",
        restart_policy=spec.restart_policy or "Always",
        scheduler_name=spec.scheduler_name or "default-scheduler",
        security_context=types.PodSecurityContext() if spec.security_context is None else spec.security_context,
        termination_grace_period_seconds=1 if grace < 0 else grace,
        enable_service_links=True if spec.enable_service_links is None else spec.enable_service_links,
        service_account_name=account,
        service_account=account,
    )


def _with_requests(container: types.Container) -> types.Container:
    """A resource with a limit and no request is requested up to its limit."""
    limits, requests = container.resources.limits, container.resources.requests
    if limits.keys() <= requests.keys():
        return container
    return replace(container, resources=replace(container.resources, requests={**limits, **requests}))


def _with_host_ports(container: types.Container) -> types.Container:
    ports = tuple(replace(port, host_port=port.host_port or port.container_port) for port in container.ports)
    return replace(container, ports=ports)


def _is_pod_level(name: str) -> bool:
    return name in _POD_LEVEL or name.startswith("hugepages-")


def _pod_level_resources(spec: types.PodSpec) -> types.PodSpec:
    """Requests and hugepage limits of the pod, where it has some of its own (KEP-2837)."""
    resources = spec.resources
    if resources is None or not (resources.limits or resources.requests):
        return spec
    limits = dict(resources.limits)
    for name, amount in status.container_total(spec, "limits").items():
        if name.startswith("hugepages-") and name not in resources.requests:
            limits.setdefault(name, amount)
    requests = dict(resources.requests)
    if limits:
        for name, amount in status.container_total(spec, "requests").items():
            if name in _POD_LEVEL:
                requests.setdefault(name, amount)
        for name, amount in limits.items():
            if _is_pod_level(name):
                requests.setdefault(name, amount)
    return replace(spec, resources=replace(resources, limits=limits, requests=requests))


def _resources(resources: types.ResourceRequirements) -> types.ResourceRequirements:
    if not resources.limits and not resources.requests:
        return resources
    return replace(resources, limits=rounded(resources.limits), requests=rounded(resources.requests))


# --- containers ---

C = TypeVar("C", types.Container, types.EphemeralContainer)


def _container(container: C) -> C:
    changes: dict[str, Any] = {}
    if not container.image_pull_policy:
        changes["image_pull_policy"] = pull_policy(container.image)
    if not container.termination_message_path:
        changes["termination_message_path"] = "/dev/termination-log"
    if not container.termination_message_policy:
        changes["termination_message_policy"] = "File"
    if container.ports:
        changes["ports"] = each(_port, container.ports)
    if container.env:
        changes["env"] = each(_env, container.env)
    if container.resources.limits or container.resources.requests:
        changes["resources"] = _resources(container.resources)
    if container.liveness_probe is not None:
        changes["liveness_probe"] = _probe(container.liveness_probe)
    if container.readiness_probe is not None:
        changes["readiness_probe"] = _probe(container.readiness_probe)
    if container.startup_probe is not None:
        changes["startup_probe"] = _probe(container.startup_probe)
    if container.lifecycle is not None:
        changes["lifecycle"] = _lifecycle(container.lifecycle)
    return replace(container, **changes) if changes else container


def pull_policy(image: str) -> str:
    """Always for the tag latest, else IfNotPresent; also for what is no image reference."""
    return defaults_volumes.pull_policy(image)


def _port(port: types.ContainerPort) -> types.ContainerPort:
    return port if port.protocol else replace(port, protocol="TCP")


def _env(variable: types.EnvVar) -> types.EnvVar:
    source = variable.value_from
    if source is None:
        return variable
    if source.field_ref is not None:
        source = replace(source, field_ref=field_selector(source.field_ref))
    if source.file_key_ref is not None and source.file_key_ref.optional is None:
        source = replace(source, file_key_ref=replace(source.file_key_ref, optional=False))
    return replace(variable, value_from=source)


def _probe(probe: types.Probe) -> types.Probe:
    grpc = probe.grpc
    return replace(
        probe,
        timeout_seconds=probe.timeout_seconds or 1,
        period_seconds=probe.period_seconds or 10,
        success_threshold=probe.success_threshold or 1,
        failure_threshold=probe.failure_threshold or 3,
        http_get=_http_get(probe.http_get),
        grpc=replace(grpc, service="") if grpc is not None and grpc.service is None else grpc,
    )


def _http_get(action: types.HTTPGetAction | None) -> types.HTTPGetAction | None:
    if action is None:
        return None
    return replace(action, path=action.path or "/", scheme=action.scheme or "HTTP")


def _lifecycle(lifecycle: types.Lifecycle) -> types.Lifecycle:
    def handler(hook: types.LifecycleHandler | None) -> types.LifecycleHandler | None:
        return hook if hook is None or hook.http_get is None else replace(hook, http_get=_http_get(hook.http_get))

    return replace(lifecycle, post_start=handler(lifecycle.post_start), pre_stop=handler(lifecycle.pre_stop))


# --- what else creation does ---


def _without_disabled_features(spec: types.PodSpec) -> types.PodSpec:
    """Without the fields of features that 1.36 has switched off: their values are dropped silently.

    lifecycle.stopSignal (ContainerStopSignals), schedulingGroup (GenericWorkload), the projected sources
    clusterTrustBundle and podCertificate.
    """
    if spec.scheduling_group is not None:
        spec = replace(spec, scheduling_group=None)
    if any(c.lifecycle is not None and c.lifecycle.stop_signal for c in _every_container(spec)):
        spec = replace(
            spec,
            containers=each(_without_stop_signal, spec.containers),
            init_containers=each(_without_stop_signal, spec.init_containers),
            ephemeral_containers=each(_without_stop_signal, spec.ephemeral_containers),
        )
    if any(volume.projected is not None for volume in spec.volumes):
        spec = replace(spec, volumes=each(defaults_volumes.without_disabled_projections, spec.volumes))
    return spec


def _every_container(spec: types.PodSpec) -> tuple[types.Container | types.EphemeralContainer, ...]:
    return (*spec.init_containers, *spec.containers, *spec.ephemeral_containers)


def _without_stop_signal(container: C) -> C:
    if container.lifecycle is None or container.lifecycle.stop_signal is None:
        return container
    lifecycle = replace(container.lifecycle, stop_signal=None)
    empty = lifecycle.post_start is None and lifecycle.pre_stop is None
    return replace(container, lifecycle=None if empty else lifecycle)


def _merged_label_keys(spec: types.PodSpec, labels: dict[str, str]) -> types.PodSpec:
    """matchLabelKeys and mismatchLabelKeys become expressions of the selector next to them."""
    if spec.affinity is not None:
        affinity = replace(
            spec.affinity,
            pod_affinity=_affinity_terms(spec.affinity.pod_affinity, labels),
            pod_anti_affinity=_affinity_terms(spec.affinity.pod_anti_affinity, labels),
        )
        spec = replace(spec, affinity=affinity)
    if spec.topology_spread_constraints:
        spread = each(
            lambda item: replace(
                item, label_selector=_with_keys(item.label_selector, item.match_label_keys, (), labels)
            ),
            spec.topology_spread_constraints,
        )
        spec = replace(spec, topology_spread_constraints=spread)
    return spec


A = TypeVar("A", types.PodAffinity, types.PodAntiAffinity)


def _affinity_terms(affinity: A | None, labels: dict[str, str]) -> A | None:
    if affinity is None:
        return None

    def completed(term: types.PodAffinityTerm) -> types.PodAffinityTerm:
        selector = _with_keys(term.label_selector, term.match_label_keys, term.mismatch_label_keys, labels)
        return replace(term, label_selector=selector)

    def weighted(term: types.WeightedPodAffinityTerm) -> types.WeightedPodAffinityTerm:
        return replace(term, pod_affinity_term=completed(term.pod_affinity_term))

    return replace(
        affinity,
        required_during_scheduling_ignored_during_execution=each(
            completed, affinity.required_during_scheduling_ignored_during_execution
        ),
        preferred_during_scheduling_ignored_during_execution=each(
            weighted, affinity.preferred_during_scheduling_ignored_during_execution
        ),
    )


def _with_keys(
    selector: types.LabelSelector | None, match: tuple[str, ...], mismatch: tuple[str, ...], labels: dict[str, str]
) -> types.LabelSelector | None:
    if selector is None or not (match or mismatch):
        return selector
    wanted = [(key, "In") for key in match] + [(key, "NotIn") for key in mismatch]
    added = tuple(
        types.LabelSelectorRequirement(key=key, operator=operator, values=(labels[key],))
        for key, operator in wanted
        if key in labels
    )
    return replace(selector, match_expressions=selector.match_expressions + added) if added else selector


def _apparmor_from_annotations(pod: types.Pod) -> types.PodSpec:
    """The annotations of before 1.30 become fields, where a container has none (KEP-24)."""
    spec = pod.spec
    if spec.os is not None and spec.os.name == "windows":
        return spec
    pod_profile = spec.security_context.app_armor_profile if spec.security_context else None

    def fill(container: C) -> C:
        security = container.security_context
        annotation = pod.metadata.annotations.get(_APPARMOR_ANNOTATION + container.name)
        if annotation is None or (security is not None and security.app_armor_profile is not None):
            return container
        profile = _apparmor_profile(annotation)
        if profile is None or profile == pod_profile:
            return container
        security = replace(security or types.SecurityContext(), app_armor_profile=profile)
        return replace(container, security_context=security)

    return replace(
        spec,
        containers=each(fill, spec.containers),
        init_containers=each(fill, spec.init_containers),
        ephemeral_containers=each(fill, spec.ephemeral_containers),
    )


def _apparmor_profile(annotation: str) -> types.AppArmorProfile | None:
    if annotation == "unconfined":
        return types.AppArmorProfile(type="Unconfined")
    if annotation == "runtime/default":
        return types.AppArmorProfile(type="RuntimeDefault")
    name = annotation.removeprefix("localhost/")
    if name != annotation and name and name.strip() == name and len(name) <= 4095:
        return types.AppArmorProfile(type="Localhost", localhost_profile=name)
    return None


# --- the other kinds ---


def secret(secret: types.Secret, now: str | None) -> types.Secret:
    data = {**secret.data, **{key: text.encode() for key, text in secret.string_data.items()}}
    return replace(secret, type=secret.type or "Opaque", data=data, string_data={})


def persistent_volume(volume: types.PersistentVolume, now: str | None) -> types.PersistentVolume:
    spec = defaults_volumes.plugin_defaults(volume.spec)
    spec = replace(
        spec,
        capacity=rounded(spec.capacity),
        persistent_volume_reclaim_policy=spec.persistent_volume_reclaim_policy or "Retain",
        volume_mode=spec.volume_mode or "Filesystem",
    )
    return replace(
        volume, spec=spec, status=types.PersistentVolumeStatus(phase="Pending", last_phase_transition_time=now)
    )


def persistent_volume_claim(claim: types.PersistentVolumeClaim, now: str | None) -> types.PersistentVolumeClaim:
    spec = defaults_volumes.data_sources(defaults_volumes.claim_spec(claim.spec))
    return replace(claim, spec=spec, status=types.PersistentVolumeClaimStatus(phase="Pending"))


def namespace(namespace: types.Namespace, now: str | None) -> types.Namespace:
    metadata = namespace.metadata
    if metadata.name:
        metadata = replace(metadata, labels={**metadata.labels, "kubernetes.io/metadata.name": metadata.name})
    finalizers = namespace.spec.finalizers
    if "kubernetes" not in finalizers:
        finalizers = (*finalizers, "kubernetes")
    spec = replace(namespace.spec, finalizers=finalizers)
    return replace(namespace, metadata=metadata, spec=spec, status=types.NamespaceStatus(phase="Active"))


def node(node: types.Node, now: str | None) -> types.Node:
    capacity = rounded(node.status.capacity)
    allocatable = rounded(node.status.allocatable) or capacity
    return replace(node, status=replace(node.status, capacity=capacity, allocatable=allocatable))
