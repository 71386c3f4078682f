"""What can change in a pod that exists: by update, by ephemeralContainers, by resize."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from minipod.api import types
from minipod.api.validation import (
    FieldError,
    validate_ephemeral_containers_update,
    validate_pod_resize,
    validate_pod_update,
)
from minipod.api.validation.prepare import prepared_ephemeral_containers, prepared_resize, prepared_update
from tests.unit.validation_cases import POD, Object, changed, pod, stored

GATED: Object = {
    "spec.schedulingGates": [{"name": "g"}],
    "spec.nodeSelector": {"disk": "ssd"},
}
NODE_TERMS = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms"
SSD = {"key": "disk", "operator": "In", "values": ["ssd"]}
ZONE = {"key": "zone", "operator": "Exists"}


def existing(changes: Object | None = None) -> types.Pod:
    return pod({"metadata.resourceVersion": "1", **(changes or {})})


def short(errors: list[FieldError]) -> list[tuple[str, str]]:
    return sorted({(error.field, error.type.removeprefix("FieldValue")) for error in errors})


def update(before: Object, after: Object) -> list[tuple[str, str]]:
    old = existing(before)
    return short(validate_pod_update(prepared_update(existing({**before, **after}), old), old))


def test_the_error_names_the_fields_that_differ() -> None:
    cases: tuple[tuple[Object, str], ...] = (
        ({"spec.containers.0.command": ["true"]}, "spec.containers[0].command"),
        ({"spec.containers.0.env": [{"name": "A", "value": "b"}]}, "spec.containers[0].env"),
        ({"spec.hostNetwork": True, "spec.containers.0.tty": True}, "spec.containers[0].tty, spec.hostNetwork"),
        ({"spec.containers.0.resources": {"requests": {"cpu": "2"}}}, "spec.containers[0].resources.requests"),
        ({"spec.volumes": [{"name": "v", "emptyDir": {}}]}, "spec.volumes"),
    )
    for after, wanted in cases:
        old = existing({})
        new = prepared_update(existing(after), old)
        why = [error.message for error in validate_pod_update(new, old) if error.field == "spec"]
        assert [text.partition(": cannot be changed")[0] for text in why] == [f"Forbidden: {wanted}"], after


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({}, {}, []),
        ({}, {"spec.containers.0.image": "nginx"}, []),
        ({}, {"metadata.labels": {"a": "b"}}, []),
        ({}, {"spec.containers.0.command": ["true"]}, [("spec", "Forbidden")]),
        ({}, {"spec.containers.1": {"name": "b", "image": "i"}}, [("spec.containers", "Forbidden")]),
        ({}, {"spec.initContainers": []}, [("spec.initContainers", "Forbidden")]),
        ({}, {"spec.activeDeadlineSeconds": 5}, []),
        ({"spec.activeDeadlineSeconds": 5}, {"spec.activeDeadlineSeconds": 4}, []),
        (
            {"spec.activeDeadlineSeconds": 5},
            {"spec.activeDeadlineSeconds": 6},
            [("spec.activeDeadlineSeconds", "Invalid")],
        ),
        (
            {"spec.activeDeadlineSeconds": 5},
            {"spec.activeDeadlineSeconds": None},
            [("spec.activeDeadlineSeconds", "Invalid")],
        ),
        ({}, {"spec.tolerations": [{"operator": "Exists"}]}, []),
        (
            {"spec.tolerations": [{"operator": "Exists"}]},
            {"spec.tolerations": []},
            [("spec.tolerations", "Forbidden")],
        ),
        ({}, {"spec.terminationGracePeriodSeconds": 5}, [("spec", "Forbidden")]),
        ({"spec.terminationGracePeriodSeconds": -1}, {"spec.terminationGracePeriodSeconds": 1}, []),
        (GATED, {"spec.schedulingGates": None}, []),
        (
            GATED,
            {"spec.schedulingGates": [{"name": "g"}, {"name": "h"}]},
            [("spec.schedulingGates[1].name", "Forbidden")],
        ),
        (GATED, {"spec.nodeSelector": {"disk": "ssd", "zone": "a"}}, []),
        (GATED, {"spec.nodeSelector": {}}, [("spec.nodeSelector", "Invalid")]),
        ({}, {"spec.nodeSelector": {"zone": "a"}}, [("spec", "Forbidden")]),
        (GATED, {NODE_TERMS: [{"matchExpressions": [SSD]}]}, []),
        (
            {**GATED, NODE_TERMS: [{"matchExpressions": [SSD]}]},
            {NODE_TERMS: [{"matchExpressions": [SSD, ZONE]}]},
            [],
        ),
        (
            {**GATED, NODE_TERMS: [{"matchExpressions": [SSD]}]},
            {NODE_TERMS: [{"matchExpressions": [ZONE]}]},
            [(f"{NODE_TERMS}[0]", "Invalid")],
        ),
        (
            {**GATED, NODE_TERMS: [{"matchExpressions": [SSD]}]},
            {NODE_TERMS: [{"matchExpressions": [SSD]}, {"matchExpressions": [ZONE]}]},
            [(NODE_TERMS, "Invalid")],
        ),
        (
            {},
            {"metadata.annotations": {"kubernetes.io/config.mirror": "x"}, "spec.nodeName": "n"},
            [("metadata.annotations[kubernetes.io/config.mirror]", "Forbidden"), ("spec", "Forbidden")],
        ),
    ],
)
def test_an_update_has_these_findings(before: Object, after: Object, expected: list[tuple[str, str]]) -> None:
    assert update(before, after) == expected


def test_another_way_to_write_a_quantity_is_no_change() -> None:
    memory = "spec.containers.0.resources"
    assert update({memory: {"requests": {"memory": "1Gi"}}}, {memory: {"requests": {"memory": "1073741824"}}}) == []


def test_an_update_keeps_what_the_system_wrote() -> None:
    old = existing()
    old = replace(old, metadata=replace(old.metadata, uid="u", creation_timestamp="2026-01-01T00:00:00Z"))
    old = replace(old, status=replace(old.status, phase="Running"))
    new = prepared_update(existing({"spec.containers.0.image": "nginx"}), old)
    assert (new.metadata.uid, new.metadata.creation_timestamp) == ("u", "2026-01-01T00:00:00Z")
    assert (new.status.phase, new.metadata.generation) == ("Running", 2)
    assert validate_pod_update(new, old) == []


def debugged(*containers: Object) -> types.Pod:
    return existing({"spec.ephemeralContainers": list(containers)})


def add(old: types.Pod, *containers: Object) -> list[tuple[str, str]]:
    new = prepared_ephemeral_containers(debugged(*containers), old)
    return short(validate_ephemeral_containers_update(new, old))


SHELL: Object = {"name": "shell", "image": "busybox", "targetContainerName": "app"}


def test_ephemeral_containers_can_only_be_added() -> None:
    assert add(existing(), SHELL) == []
    assert add(debugged(SHELL), SHELL, {**SHELL, "name": "more"}) == []
    assert add(debugged(SHELL)) == [("spec.ephemeralContainers", "Forbidden")]
    assert add(debugged(SHELL), {**SHELL, "image": "other"}) == [("spec.ephemeralContainers", "Forbidden")]


def test_ephemeral_containers_follow_the_rules_of_containers() -> None:
    wrong = {**SHELL, "name": "app", "livenessProbe": {"tcpSocket": {"port": 1}}}
    assert add(existing(), wrong) == [
        ("spec.ephemeralContainers[0].livenessProbe", "Forbidden"),
        ("spec.ephemeralContainers[0].name", "Duplicate"),
    ]


def test_adding_an_ephemeral_container_changes_nothing_else() -> None:
    sent = changed(POD, {"spec.ephemeralContainers": [SHELL], "spec.hostNetwork": True})
    new = prepared_ephemeral_containers(stored(sent), existing())
    assert not new.spec.host_network
    assert [container.name for container in new.spec.ephemeral_containers] == ["shell"]


REQUESTS = {"requests": {"cpu": "100m", "memory": "64Mi"}}


def resize(resources: Any, before: Object | None = None, more: Object | None = None) -> list[tuple[str, str]]:
    old = existing({"spec.containers.0.resources": REQUESTS, **(before or {})})
    sent = existing({"spec.containers.0.resources": resources, **(before or {}), **(more or {})})
    return short(validate_pod_resize(prepared_resize(sent, old), old))


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({"requests": {"cpu": "200m", "memory": "32Mi"}}, []),
        ({"requests": {"cpu": "200m", "memory": "64Mi"}, "limits": {"cpu": "1"}}, []),
        ({"requests": {"cpu": "200m"}}, [("spec.containers[0].resources.requests", "Forbidden")]),
        ({}, [("spec", "Invalid"), ("spec.containers[0].resources.requests", "Forbidden")]),
        ({"requests": {**REQUESTS["requests"], "ephemeral-storage": "1Gi"}}, [("spec", "Forbidden")]),
        ({**REQUESTS, "limits": REQUESTS["requests"]}, []),
        (
            {"requests": {"cpu": "2", "memory": "64Mi"}, "limits": {"cpu": "1"}},
            [("spec.containers[0].resources.requests", "Invalid")],
        ),
    ],
)
def test_a_resize_has_these_findings(resources: Any, expected: list[tuple[str, str]]) -> None:
    assert resize(resources) == expected


def test_a_resize_must_not_change_the_qos_class() -> None:
    alone: dict[str, Any] = {"spec.initContainers": []}
    guaranteed = {**REQUESTS, "limits": REQUESTS["requests"]}
    assert resize(guaranteed, alone) == [("spec", "Invalid")]


def test_a_resize_neither_adds_nor_renames_containers() -> None:
    more = {"spec.containers.1": {"name": "b", "image": "i"}}
    assert resize(REQUESTS, more=more) == [("spec.containers", "Forbidden")]
    assert resize(REQUESTS, more={"spec.containers.0.name": "b"}) == [("spec.containers[0].name", "Forbidden")]


def test_the_pod_as_a_whole_can_be_resized() -> None:
    before = {"spec.resources": {"requests": {"memory": "1Gi", "cpu": "1"}}}
    assert resize(REQUESTS, before, {"spec.resources": {"requests": {"memory": "2Gi", "cpu": "1"}}}) == []
    assert resize(REQUESTS, before, {"spec.resources": None}) == [("spec.resources", "Forbidden")]


def test_a_static_pod_is_not_touched() -> None:
    mirror = {"metadata.annotations": {"kubernetes.io/config.mirror": "x"}, "spec.nodeName": "n"}
    assert resize(REQUESTS, mirror) == [("[]", "Forbidden")]
    assert add(existing(mirror), SHELL) == [("[]", "Forbidden")]
