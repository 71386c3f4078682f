"""Which pods the only node takes: the scheduler's words before a pod is assigned, the kubelet's after."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from minipod.api.types import Node, NodeSpec, NodeStatus, ObjectMeta, Pod, Taint
from minipod.lifecycle.admission import Used, demand_of, refusal, unschedulable

LABELS = {"kubernetes.io/hostname": "here", "disk": "ssd", "cpus": "8"}
CAPACITY = {"cpu": "2", "memory": "1Gi", "ephemeral-storage": "10Gi", "hugepages-2Mi": "0", "pods": "3"}
NO_VICTIMS = "No preemption victims found for incoming pod"
NOT_HELPFUL = "Preemption is not helpful for scheduling"
AFFINITY = "node(s) didn't match Pod's node affinity/selector"


def node(*taints: str, **capacity: str) -> Node:
    made = [Taint(key=t.split("=")[0], value=t.split("=")[1].split(":")[0], effect=t.split(":")[1]) for t in taints]
    return Node(
        metadata=ObjectMeta(name="here", labels=LABELS),
        spec=NodeSpec(taints=tuple(made)),
        status=NodeStatus(allocatable={**CAPACITY, **capacity}),
    )


def pod(name: str = "p", labels: dict[str, str] | None = None, **spec: Any) -> Pod:
    containers = [{"name": "c", "image": "i", **spec.pop("container", {})}]
    data = {"metadata": {"name": name, "namespace": "default", "labels": labels or {}}}
    return msgspec.convert({**data, "spec": {"containers": containers, **spec}}, Pod)


def asking(**requests: str) -> dict[str, Any]:
    return {"container": {"resources": {"requests": {name.replace("_", "-"): text for name, text in requests.items()}}}}


def required(*terms: dict[str, Any]) -> dict[str, Any]:
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}
    return {"affinity": {"nodeAffinity": required}}


def expression(key: str, operator: str, *values: str, kind: str = "matchExpressions") -> dict[str, Any]:
    return {kind: [{"key": key, "operator": operator, "values": list(values)}]}


def near(which: str, app: str, **more: Any) -> dict[str, Any]:
    term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": app}}, **more}
    return {"affinity": {which: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}}


DISK = "ephemeral-storage"
IDLE = Used({}, 0)
BUSY = Used({"cpu": 1500, "memory": 1 << 29}, 2)


@pytest.mark.parametrize(
    ("spec", "used", "reasons", "preemption"),
    [
        ({}, BUSY, "", ""),
        (asking(cpu="500m", memory="512Mi"), BUSY, "", ""),
        (asking(cpu="501m"), BUSY, "1 Insufficient cpu", NO_VICTIMS),
        (asking(cpu="999", memory="999Gi"), IDLE, "1 Insufficient cpu, 1 Insufficient memory", NOT_HELPFUL),
        (asking(ephemeral_storage="11Gi"), IDLE, "1 Insufficient ephemeral-storage", NOT_HELPFUL),
        (asking(**{"nvidia.com/gpu": "1"}), IDLE, "1 Insufficient nvidia.com/gpu", NOT_HELPFUL),
        (asking(**{"hugepages-2Mi": "2Mi"}), IDLE, "1 Insufficient hugepages-2Mi", NOT_HELPFUL),
        ({}, Used({}, 3), "1 Too many pods", NO_VICTIMS),
        ({"overhead": {"cpu": "2001m"}}, IDLE, "1 Insufficient cpu", NOT_HELPFUL),
        ({"nodeSelector": {"disk": "ssd"}}, IDLE, "", ""),
        ({"nodeSelector": {"disk": "hdd"}}, IDLE, f"1 {AFFINITY}", NOT_HELPFUL),
        (required(expression("disk", "NotIn", "ssd"), expression("cpus", "Gt", "7")), IDLE, "", ""),
        (required(expression("cpus", "Lt", "8")), IDLE, f"1 {AFFINITY}", NOT_HELPFUL),
        (required(expression("gpu", "Exists")), IDLE, f"1 {AFFINITY}", NOT_HELPFUL),
        (required(expression("gpu", "DoesNotExist")), IDLE, "", ""),
        (required({}), IDLE, f"1 {AFFINITY}", NOT_HELPFUL),
        (required(expression("metadata.name", "In", "here", kind="matchFields")), IDLE, "", ""),
    ],
)
def test_the_scheduler_says_what_is_missing_as_on_a_cluster(
    spec: dict[str, Any], used: Used, reasons: str, preemption: str
) -> None:
    wanted = pod(**spec)
    found = unschedulable(wanted, node(), demand_of(wanted), used)
    if not reasons:
        assert found is None
        return
    assert found is not None
    assert found.hopeless is (preemption == NOT_HELPFUL)
    assert found.message == (
        f"0/1 nodes are available: {reasons}. no new claims to deallocate, "
        f"preemption: 0/1 nodes are available: 1 {preemption}."
    )


def test_the_numbers_are_in_the_hint() -> None:
    wanted = pod(**asking(cpu="1", memory="1Gi"))
    found = unschedulable(wanted, node(), demand_of(wanted), BUSY)
    assert found is not None
    assert found.hint == "cpu: 1 requested, 1500m of 2 in use; memory: 1Gi requested, 512Mi of 1Gi in use"


def test_init_containers_and_sidecars_count_by_the_schedulers_formula() -> None:
    def one(cpu: str, **more: str) -> dict[str, Any]:
        return {"name": f"c{cpu}", "image": "i", "resources": {"requests": {"cpu": cpu}}, **more}

    inits = [one("900m"), one("200m", restartPolicy="Always"), one("1500m")]
    assert demand_of(pod(initContainers=inits, container=one("500m"), overhead={"cpu": "50m"})) == {"cpu": 1750}


@pytest.mark.parametrize(
    ("taint", "tolerations", "tolerated"),
    [
        ("a=b:NoSchedule", [], False),
        ("a=b:PreferNoSchedule", [], True),
        ("a=b:NoSchedule", [{"key": "a", "value": "b"}], True),
        ("a=b:NoSchedule", [{"key": "a", "operator": "Equal", "value": "c"}], False),
        ("a=b:NoSchedule", [{"key": "a", "operator": "Exists", "effect": "NoExecute"}], False),
        ("a=b:NoExecute", [{"operator": "Exists"}], True),
        ("a=5:NoExecute", [{"key": "a", "operator": "Gt", "value": "4"}], False),  # the gate is off
    ],
)
def test_taints_and_tolerations(taint: str, tolerations: list[dict[str, str]], tolerated: bool) -> None:
    wanted = pod(tolerations=tolerations, nodeName="here")
    found = unschedulable(wanted, node(taint), {}, IDLE)
    assert (found is None) is tolerated
    if found is not None:
        assert "1 node(s) had untolerated taint(s). " in found.message
    refused = refusal(wanted, node(taint), {}, IDLE)  # a kubelet is interested in NoExecute alone
    expected = "TaintToleration" if not tolerated and taint.endswith("NoExecute") else ""
    assert (refused.reason if refused else "") == expected


OTHERS = (pod("db", {"app": "db"}), pod("jealous", {"app": "x"}, **near("podAntiAffinity", "web")))


@pytest.mark.parametrize(
    ("labels", "spec", "reason"),
    [
        ({}, near("podAffinity", "db"), ""),
        ({}, near("podAffinity", "cache"), "didn't match pod affinity rules"),
        ({"app": "cache"}, near("podAffinity", "cache"), ""),  # the first of its kind
        ({}, near("podAffinity", "db", namespaces=["other"]), "didn't match pod affinity rules"),
        ({}, near("podAffinity", "db", namespaceSelector={}), ""),
        ({}, near("podAffinity", "db", namespaceSelector={"matchLabels": {"team": "a"}}), ""),
        ({}, near("podAffinity", "db", namespaceSelector={"matchLabels": {"team": "b"}}), "pod affinity rules"),
        ({}, near("podAffinity", "db", topologyKey="zone"), "didn't match pod affinity rules"),
        ({}, near("podAntiAffinity", "db"), "didn't match pod anti-affinity rules"),
        ({}, near("podAntiAffinity", "db", topologyKey="zone"), ""),
        ({}, near("podAntiAffinity", "cache"), ""),
        ({"app": "web"}, {}, "didn't satisfy existing pods anti-affinity rules"),
    ],
)
def test_pods_that_want_others_near_or_away(labels: dict[str, str], spec: dict[str, Any], reason: str) -> None:
    used = Used({}, len(OTHERS), OTHERS, {"default": {"team": "a"}})
    capacity = {"pods": "9"}
    found = unschedulable(pod(labels=labels, **spec), node(**capacity), {}, used)
    assert (found is None) if not reason else (found is not None and reason in found.message)


def test_a_claim_that_is_missing_is_said_before_everything_else() -> None:
    found = unschedulable(pod(**asking(cpu="99")), node(), {"cpu": 99_000}, IDLE, 'persistentvolumeclaim "x" not found')
    assert found is not None
    assert found.message.startswith('0/1 nodes are available: persistentvolumeclaim "x" not found. ')


def enough(resource: str, requested: int, used: int, capacity: int) -> str:
    return f"Node didn't have enough resource: {resource}, requested: {requested}, used: {used}, capacity: {capacity}"


@pytest.mark.parametrize(
    ("spec", "used", "reason", "message"),
    [
        ({}, BUSY, "", ""),
        (asking(cpu="999"), IDLE, "OutOfcpu", enough("cpu", 999000, 0, 2000)),
        (asking(cpu="1", memory="1Gi"), BUSY, "OutOfcpu", enough("cpu", 1000, 1500, 2000)),
        (asking(memory="1Gi"), BUSY, "OutOfmemory", enough("memory", 1 << 30, 1 << 29, 1 << 30)),
        (asking(ephemeral_storage="11Gi"), IDLE, f"OutOf{DISK}", enough(DISK, 11 << 30, 0, 10 << 30)),
        (asking(**{"hugepages-2Mi": "2Mi"}), IDLE, "OutOfhugepages-2Mi", enough("hugepages-2Mi", 2 << 20, 0, 0)),
        (asking(**{"nvidia.com/gpu": "1"}), IDLE, "", ""),  # a kubelet ignores what its node does not know
        ({}, Used({}, 3), "OutOfpods", enough("pods", 1, 3, 3)),
        ({"nodeSelector": {"disk": "hdd"}}, IDLE, "NodeAffinity", f"Predicate NodeAffinity failed: {AFFINITY}"),
        (
            {"nodeName": "there"},
            IDLE,
            "NodeName",
            "Predicate NodeName failed: node(s) didn't match the requested node name",
        ),
        (
            {"os": {"name": "windows"}},
            IDLE,
            "PodOSNotSupported",
            "Failed to admit pod as the OS field doesn't match node OS",
        ),
        (
            {"labels": {"kubernetes.io/os": "windows"}},
            IDLE,
            "PodOSSelectorNodeLabelDoesNotMatch",
            "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label",
        ),
    ],
)  # fmt: skip
def test_the_kubelet_rejects_what_it_cannot_run(spec: dict[str, Any], used: Used, reason: str, message: str) -> None:
    wanted = pod(**{"nodeName": "here", **spec})
    found = refusal(wanted, node(), demand_of(wanted), used)
    assert ((found.reason, found.message) if found else ("", "")) == (reason, message)
