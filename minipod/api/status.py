"""What follows from a pod's spec and its containers' states (layer 1, pure): phase, restarts, QoS, resources.

The rules are the kubelet's. Makes no status (that is `lifecycle`) and prints nothing (that is `api.columns`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from minipod.api import quantity
from minipod.api.types import Container, ContainerRestartRule, ContainerStatus, Pod, PodSpec, ResourceRequirements

TERMINAL_PHASES = ("Succeeded", "Failed")
RESTARTING_ALL_CONTAINERS = "RestartingAllContainers"
_QOS_RESOURCES = ("cpu", "memory")


# -- containers of a spec ----------------------------------------------------------------------------------------


def is_sidecar(container: Container) -> bool:
    """An init container that keeps running: restartPolicy Always. Call it for init containers only."""
    return container.restart_policy == "Always"


def matching_restart_rule(container: Container, exit_code: int) -> ContainerRestartRule | None:
    """The first of restartPolicyRules whose exit codes match (pkg/api/v1/pod/util.go)."""
    for rule in container.restart_policy_rules:
        if rule.exit_codes is None:
            continue
        found = exit_code in rule.exit_codes.values
        if (rule.exit_codes.operator == "In" and found) or (rule.exit_codes.operator == "NotIn" and not found):
            return rule
    return None


def container_should_restart(container: Container, spec: PodSpec, exit_code: int) -> bool:
    """Whether a container that ended so is started again: its rules, then its policy, then the pod's."""
    policy = spec.restart_policy
    if container.restart_policy is not None:
        rule = matching_restart_rule(container, exit_code)
        if rule is not None and rule.action in ("Restart", "RestartAllContainers"):
            return True
        policy = container.restart_policy
    if policy == "Never":
        return False
    return policy != "OnFailure" or exit_code != 0


def all_containers_could_restart(spec: PodSpec) -> bool:
    """Whether any container has a rule with the action RestartAllContainers."""
    containers = (*spec.init_containers, *spec.containers)
    return any(rule.action == "RestartAllContainers" for c in containers for rule in c.restart_policy_rules)


# -- phase -------------------------------------------------------------------------------------------------------


class _Count:
    """How many containers are how, as getPhase counts them."""

    def __init__(self) -> None:
        self.pending_init = self.pending_sidecars = self.failed_init = 0
        self.unknown = self.running = self.waiting = self.stopped = self.stopped_for_good = self.succeeded = 0

    def init(self, container: Container, status: ContainerStatus | None, spec: PodSpec) -> None:
        if status is None:
            self.pending_init += 1
            return
        ended = status.state.terminated
        if status.state.waiting is not None:
            ended = status.last_state.terminated
        if status.state.running is not None or ended is None:
            self.pending_init += 1
        elif ended.exit_code != 0 and not _restartable(container, spec, ended.exit_code, ended.reason):
            self.failed_init += 1

    def sidecar(self, status: ContainerStatus | None) -> None:
        if status is None:
            self.unknown += 1
        elif status.state.running is not None:
            self.pending_sidecars += not status.started
            self.running += 1
        elif status.state.waiting is not None:
            if status.last_state.terminated is None:
                self.pending_sidecars += 1
                self.waiting += 1
        elif status.state.terminated is None:
            self.pending_sidecars += 1
            self.unknown += 1

    def main(self, container: Container, status: ContainerStatus | None, spec: PodSpec) -> None:
        if status is None:
            self.unknown += 1
        elif status.state.running is not None:
            self.running += 1
        elif status.state.waiting is not None and status.last_state.terminated is None:
            self.waiting += 1
        else:
            ended = status.last_state.terminated if status.state.waiting is not None else status.state.terminated
            if ended is None:
                self.unknown += 1
                return
            self.stopped += 1
            self.stopped_for_good += not _restartable(container, spec, ended.exit_code, ended.reason)
            self.succeeded += status.state.terminated is not None and ended.exit_code == 0


def _restartable(container: Container, spec: PodSpec, exit_code: int, reason: str) -> bool:
    return container_should_restart(container, spec, exit_code) or reason == RESTARTING_ALL_CONTAINERS


def phase_of(
    spec: PodSpec, statuses: Iterable[ContainerStatus], *, terminal: bool = False, initialized: bool = False
) -> str:
    """The phase that follows from the container states (kubelet_pods.go getPhase).

    `statuses`: of main and init containers, in any order. `terminal`: nothing will be restarted any more.
    `initialized`: a main container of the present sandbox has been started.
    """
    by_name = {status.name: status for status in statuses}
    count = _Count()
    for container in spec.init_containers:
        if is_sidecar(container):
            count.sidecar(by_name.get(container.name))
        else:
            count.init(container, by_name.get(container.name), spec)
    for container in spec.containers:
        count.main(container, by_name.get(container.name), spec)

    if count.failed_init:
        return "Failed"
    if count.pending_init or (count.pending_sidecars and not initialized) or count.waiting:
        return "Pending"
    if count.running and not count.unknown:
        return "Running"
    if not count.running and count.stopped and not count.unknown:
        if not terminal and count.stopped != count.stopped_for_good:
            return "Running"
        return "Succeeded" if count.stopped == count.succeeded else "Failed"
    return "Pending"


# -- QoS and resources ---------------------------------------------------------------------------------------------


def _positive(resources: Mapping[str, str]) -> dict[str, str]:
    """cpu and memory, where they are more than zero."""
    return {
        name: resources[name] for name in _QOS_RESOURCES if name in resources and quantity.sign(resources[name]) > 0
    }


def _add(to: dict[str, str], more: Mapping[str, str]) -> None:
    for name, amount in more.items():
        to[name] = quantity.add(to[name], amount) if name in to else amount


def _raise(to: dict[str, str], other: Mapping[str, str]) -> None:
    for name, amount in other.items():
        to[name] = quantity.largest(to[name], amount) if name in to else amount


def qos_class(pod: Pod) -> str:
    """Guaranteed | Burstable | BestEffort (pkg/apis/core/helper/qos/qos.go), from the spec only.

    Init containers count, ephemeral ones do not; resources of the pod itself win over its containers'.
    """
    if pod.spec.resources is not None:
        everything: tuple[ResourceRequirements, ...] = (pod.spec.resources,)
        limits_needed = bool(pod.spec.resources.limits)
    else:
        everything = tuple(c.resources for c in (*pod.spec.containers, *pod.spec.init_containers))
        limits_needed = True
    requests: dict[str, str] = {}
    limits: dict[str, str] = {}
    guaranteed = True
    for resources in everything:
        _add(requests, _positive(resources.requests))
        found = _positive(resources.limits)
        _add(limits, found)
        guaranteed = guaranteed and (len(found) == len(_QOS_RESOURCES) or not limits_needed)
    if not requests and not limits:
        return "BestEffort"
    same = all(name in limits and quantity.equal(limits[name], amount) for name, amount in requests.items())
    return "Guaranteed" if guaranteed and same and len(requests) == len(limits) else "Burstable"


def pod_requests(pod: Pod) -> dict[str, str]:
    """What the pod asks for as a whole (component-helpers/resource/helpers.go PodRequests): the larger of what runs
    together and of what each init container needs with the sidecars before it; the pod's own wins; plus overhead."""
    return _aggregate(pod, "requests")


def pod_limits(pod: Pod) -> dict[str, str]:
    """The sum of the limits that there are, by the same rule (PodLimits)."""
    return _aggregate(pod, "limits")


def container_total(spec: PodSpec, which: str) -> dict[str, str]:
    """What the containers need together, of `requests` or `limits` (AggregateContainerRequests)."""
    total: dict[str, str] = {}
    for container in spec.containers:
        _add(total, getattr(container.resources, which))
    sidecars: dict[str, str] = {}
    peak: dict[str, str] = {}
    for container in spec.init_containers:
        own: Mapping[str, str] = getattr(container.resources, which)
        if is_sidecar(container):
            _add(total, own)
            _add(sidecars, own)
            _raise(peak, sidecars)
        else:
            needed = dict(sidecars)
            _add(needed, own)
            _raise(peak, needed)
    _raise(total, peak)
    return total


def _aggregate(pod: Pod, which: str) -> dict[str, str]:
    total = container_total(pod.spec, which)
    if pod.spec.resources is not None:
        total.update(getattr(pod.spec.resources, which))
    if pod.spec.overhead:
        for name, amount in pod.spec.overhead.items():
            if which == "requests" or name in total:
                _add(total, {name: amount})
    return total
