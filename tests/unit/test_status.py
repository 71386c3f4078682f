"""Phase, restart rules, QoS class and a pod's resources."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from minipod.api.status import (
    container_should_restart,
    matching_restart_rule,
    phase_of,
    pod_limits,
    pod_requests,
    qos_class,
)
from minipod.api.types import Container, ContainerStatus, Pod, PodSpec

Spec = dict[str, Any]
RUNNING: Spec = {"running": {}}
CREATING = {"waiting": {"reason": "ContainerCreating"}}
LAST = {"lastState": {"terminated": {"exitCode": 1}}}


def ended(code: int) -> Spec:
    return {"terminated": {"exitCode": code}}


def phase(states: dict[str, Any], *, policy: str = "Always", terminal: bool = False, initialized: bool = False) -> str:
    """`states`: by name; `i…` is an init container, `s…` a sidecar, anything else a main container."""
    spec: Spec = {"restartPolicy": policy, "containers": [], "initContainers": []}
    statuses = []
    for name, state in states.items():
        container: Spec = {"name": name}
        if name[0] == "s":
            container["restartPolicy"] = "Always"
        spec["initContainers" if name[0] in "is" else "containers"].append(container)
        if state is not None:
            statuses.append({"name": name, "state": state} if "state" not in state else {"name": name, **state})
    return phase_of(
        msgspec.convert(spec, PodSpec),
        msgspec.convert(statuses, list[ContainerStatus]),
        terminal=terminal,
        initialized=initialized,
    )


def test_pod_is_pending_until_every_container_was_started() -> None:
    assert phase({"a": CREATING}) == "Pending"
    assert phase({"a": RUNNING, "b": CREATING}) == "Pending"
    assert phase({"a": RUNNING, "b": RUNNING}) == "Running"


def test_pod_is_pending_while_a_container_is_unknown() -> None:
    assert phase({"a": RUNNING, "b": None}) == "Pending"


@pytest.mark.parametrize(
    ("codes", "policy", "expected"),
    [
        ((0, 0), "Never", "Succeeded"),
        ((0, 1), "Never", "Failed"),
        ((0, 0), "OnFailure", "Succeeded"),
        ((0, 1), "OnFailure", "Running"),
        ((0, 0), "Always", "Running"),
    ],
)
def test_phase_of_ended_containers_follows_the_restart_policy(
    codes: tuple[int, int], policy: str, expected: str
) -> None:
    assert phase({"a": ended(codes[0]), "b": ended(codes[1])}, policy=policy) == expected


def test_crash_loop_is_running() -> None:
    assert phase({"a": {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, **LAST}}) == "Running"


def test_pod_that_will_not_restart_is_succeeded_or_failed_whatever_its_policy() -> None:
    assert phase({"a": ended(0)}, terminal=True) == "Succeeded"
    assert phase({"a": ended(0), "b": ended(137)}, terminal=True) == "Failed"


def test_failed_init_container_fails_the_pod_only_when_it_is_not_restarted() -> None:
    assert phase({"i": ended(1), "a": CREATING}, policy="Never") == "Failed"
    assert phase({"i": ended(1), "a": CREATING}, policy="OnFailure") == "Pending"
    assert phase({"i": {"state": CREATING, **LAST}, "a": CREATING}, policy="Never") == "Failed"


def test_pod_is_pending_while_init_containers_run() -> None:
    assert phase({"i": RUNNING, "a": CREATING}) == "Pending"
    assert phase({"i": ended(0), "a": RUNNING}) == "Running"


def test_sidecar_that_is_not_started_keeps_a_new_pod_pending_but_not_an_initialized_one() -> None:
    sidecar = {"state": RUNNING, "started": False}
    assert phase({"s": sidecar, "a": RUNNING}) == "Pending"
    assert phase({"s": sidecar, "a": RUNNING}, initialized=True) == "Running"


def test_running_sidecar_keeps_the_pod_running() -> None:
    assert phase({"s": {"state": RUNNING, "started": True}, "a": ended(0)}, policy="Never") == "Running"


def test_ended_sidecar_does_not_count() -> None:
    assert phase({"s": ended(9), "a": ended(0)}, policy="Never") == "Succeeded"


def container(**more: object) -> Container:
    return msgspec.convert({"name": "c", **more}, Container)


def rule(operator: str, *codes: int, action: str = "Restart") -> Spec:
    return {"action": action, "exitCodes": {"operator": operator, "values": list(codes)}}


def test_first_matching_rule_counts() -> None:
    chosen = container(restartPolicy="Never", restartPolicyRules=[rule("In", 1), rule("NotIn", 1, 2)])
    assert [matching_restart_rule(chosen, code) is not None for code in (1, 2, 3)] == [True, False, True]


def test_rule_then_own_policy_then_the_pods() -> None:
    spec = PodSpec(restart_policy="Always")
    never = container(restartPolicy="Never", restartPolicyRules=[rule("In", 42)])
    assert container_should_restart(never, spec, 42)
    assert not container_should_restart(never, spec, 1)
    assert container_should_restart(container(), spec, 0)
    assert not container_should_restart(container(restartPolicy="OnFailure"), spec, 0)


# -- resources ---------------------------------------------------------------------------------------------------


def pod(*containers: Spec, inits: tuple[Spec, ...] = (), **spec: object) -> Pod:
    mains = [{"name": f"c{i}", "resources": resources} for i, resources in enumerate(containers)]
    first = [{"name": f"i{i}", **init} for i, init in enumerate(inits)]
    return msgspec.convert({"spec": {"containers": mains, "initContainers": first, **spec}}, Pod)


def both(cpu: str, memory: str) -> Spec:
    return {"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": cpu, "memory": memory}}


def test_pod_without_resources_is_best_effort() -> None:
    assert qos_class(pod({}, {"requests": {"ephemeral-storage": "1Gi"}})) == "BestEffort"
    assert qos_class(pod({"requests": {"cpu": "0"}})) == "BestEffort"


def test_pod_is_guaranteed_when_every_container_has_both_limits_and_they_are_the_requests() -> None:
    assert qos_class(pod(both("1", "1Gi"), both("500m", "64Mi"))) == "Guaranteed"
    assert qos_class(pod(both("1", "1Gi"), {})) == "Burstable"
    assert qos_class(pod({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1"}})) == "Burstable"


def test_init_containers_count_for_the_class() -> None:
    assert qos_class(pod(both("1", "1Gi"), inits=({},))) == "Burstable"


def test_resources_of_the_pod_itself_decide_its_class() -> None:
    assert qos_class(pod({}, resources=both("1", "1Gi"))) == "Guaranteed"
    assert qos_class(pod(both("1", "1Gi"), resources={"requests": {"cpu": "1"}})) == "Burstable"


def requests(cpu: str) -> Spec:
    return {"requests": {"cpu": cpu}}


def test_request_of_a_pod_is_the_larger_of_its_containers_together_and_each_init_container() -> None:
    assert pod_requests(pod(requests("1"), requests("1"), inits=({"resources": requests("3")},))) == {"cpu": "3"}
    assert pod_requests(pod(requests("2"), requests("2"), inits=({"resources": requests("3")},))) == {"cpu": "4"}


def test_sidecars_count_with_the_main_containers_and_the_init_containers_after_them() -> None:
    sidecar = {"resources": requests("1"), "restartPolicy": "Always"}
    assert pod_requests(pod(requests("1"), inits=(sidecar,))) == {"cpu": "2"}
    assert pod_requests(pod(requests("1"), inits=(sidecar, {"resources": requests("3")}))) == {"cpu": "4"}
    assert pod_requests(pod(requests("1"), inits=({"resources": requests("3")}, sidecar))) == {"cpu": "3"}


def test_overhead_is_added_and_the_pods_own_requests_win() -> None:
    assert pod_requests(pod(requests("1"), overhead={"cpu": "500m"})) == {"cpu": "1500m"}
    assert pod_requests(pod(requests("1"), resources=requests("7"))) == {"cpu": "7"}


def test_limit_of_a_pod_is_the_sum_of_the_limits_there_are() -> None:
    assert pod_limits(pod({"limits": {"cpu": "1"}}, {"limits": {"cpu": "2"}}, {})) == {"cpu": "3"}
