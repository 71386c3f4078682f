"""The rules for the kinds other than Pod, on create and on update."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from msgspec.structs import replace

from minipod.api.validation import validate_update
from minipod.api.validation.prepare import prepared_update
from tests.unit.validation_cases import Object, changed, findings, stored


def base64_of(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def manifest(kind: str, **fields: Any) -> Object:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": "a", "resourceVersion": "1"}, **fields}


CLAIM = manifest(
    "PersistentVolumeClaim",
    spec={"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
)
VOLUME = manifest(
    "PersistentVolume",
    spec={
        "accessModes": ["ReadWriteOnce"],
        "capacity": {"storage": "1Gi"},
        "hostPath": {"path": "/data"},
    },
)
EVENT = manifest("Event", involvedObject={"kind": "Pod", "name": "web", "namespace": "default"}, reason="Started")
NODE = manifest("Node")


@pytest.mark.parametrize("valid", [CLAIM, VOLUME, EVENT, NODE, *map(manifest, ("ConfigMap", "Secret", "Namespace"))])
def test_the_objects_of_the_cases_are_valid(valid: Object) -> None:
    assert findings(valid) == []


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        # ConfigMap
        (manifest("ConfigMap", data={"a/b": ""}), [("data[a/b]", "Invalid")]),
        (manifest("ConfigMap", data={"a": ""}, binaryData={"a": ""}), [("data[a]", "Invalid")]),
        (manifest("ConfigMap", data={"a": "x" * (1024 * 1024 + 1)}), [("[]", "TooLong")]),
        (changed(manifest("ConfigMap"), {"metadata.namespace": "A"}), [("metadata.namespace", "Invalid")]),
        # Secret
        (manifest("Secret", stringData={"..": ""}), [("data[..]", "Invalid")]),
        (manifest("Secret", stringData={"a": "x" * (1024 * 1024 + 1)}), [("data", "TooLong")]),
        (
            manifest("Secret", type="kubernetes.io/tls", stringData={"tls.crt": ""}),
            [("data[tls.key]", "Required")],
        ),
        (
            manifest("Secret", type="kubernetes.io/dockerconfigjson", data={".dockerconfigjson": base64_of("[]")}),
            [("data[.dockerconfigjson]", "Invalid")],
        ),
        (
            manifest("Secret", type="kubernetes.io/basic-auth"),
            [("data[password]", "Required"), ("data[username]", "Required")],
        ),
        (manifest("Secret", type="kubernetes.io/ssh-auth"), [("data[ssh-privatekey]", "Required")]),
        (
            manifest("Secret", type="kubernetes.io/service-account-token"),
            [("metadata.annotations[kubernetes.io/service-account.name]", "Required")],
        ),
        # PersistentVolumeClaim
        (changed(CLAIM, {"spec.accessModes": []}), [("spec.accessModes", "Required")]),
        (
            changed(CLAIM, {"spec.accessModes": ["ReadWriteOncePod", "ReadOnlyMany"]}),
            [("spec.accessModes", "Forbidden")],
        ),
        (changed(CLAIM, {"spec.resources": {}}), [("spec.resources[storage]", "Required")]),
        (
            changed(CLAIM, {"spec.resources": {"requests": {"storage": "0"}}}),
            [("spec.resources[storage]", "Invalid")],
        ),
        (changed(CLAIM, {"spec.volumeMode": "Tape"}), [("spec.volumeMode", "NotSupported")]),
        (
            changed(CLAIM, {"spec.dataSource": {"kind": "PersistentVolumeClaim", "name": ""}}),
            [("spec.dataSource.name", "Required"), ("spec.dataSourceRef.name", "Required")],
        ),
        (changed(CLAIM, {"spec.dataSource": {"kind": "Odd", "name": ""}}), []),
        (
            changed(CLAIM, {"spec.dataSourceRef": {"kind": "Odd", "name": "a"}}),
            [("spec.dataSource", "Invalid"), ("spec.dataSourceRef", "Invalid")],
        ),
        # PersistentVolume
        (changed(VOLUME, {"spec.hostPath": None}), [("spec", "Required")]),
        (changed(VOLUME, {"spec.nfs": {"server": "a", "path": "/"}}), [("spec.nfs", "Forbidden")]),
        (changed(VOLUME, {"spec.capacity": {"cpu": "1"}}), [("spec.capacity", "NotSupported")]),
        (changed(VOLUME, {"spec.hostPath.path": "/a/../b"}), [("spec.hostPath.path", "Invalid")]),
        (
            changed(VOLUME, {"spec.hostPath.path": "//", "spec.persistentVolumeReclaimPolicy": "Recycle"}),
            [("spec.persistentVolumeReclaimPolicy", "Forbidden")],
        ),
        (
            changed(VOLUME, {"spec.hostPath": None, "spec.local": {"path": "/x"}}),
            [("spec.nodeAffinity", "Required")],
        ),
        (
            changed(VOLUME, {"metadata.annotations": {"volume.beta.kubernetes.io/mount-options": "ro"}}),
            [("metadata.annotations.volume.beta.kubernetes.io/mount-options", "Forbidden")],
        ),
        (changed(VOLUME, {"metadata.namespace": "a"}), [("metadata.namespace", "Forbidden")]),
        # Event
        (changed(EVENT, {"involvedObject.namespace": "other"}), [("involvedObject.namespace", "Invalid")]),
        (
            changed(EVENT, {"eventTime": "2026-01-01T00:00:00.000000Z"}),
            [
                ("action", "Required"),
                ("reportingComponent", "Invalid"),
                ("reportingComponent", "Required"),
                ("reportingInstance", "Required"),
            ],
        ),
        (changed(EVENT, {"metadata.name": "a/b"}), [("metadata.name", "Invalid")]),
        # Node
        (
            changed(NODE, {"spec.taints": [{"key": "a", "effect": "Never"}, {"key": "a", "effect": "Never"}]}),
            [
                ("metadata.taints[0].effect", "NotSupported"),
                ("metadata.taints[1]", "Duplicate"),
                ("metadata.taints[1].effect", "NotSupported"),
            ],
        ),
        (changed(NODE, {"spec.podCIDRs": ["10.0.0.0/8", "10.1.0.0/8"]}), [("spec.podCIDRs", "Invalid"),
         ("spec.podCIDRs", "InternalError"), ("spec.podCIDRs[1]", "Invalid")]),
        (changed(NODE, {"spec.podCIDRs": ["10.0.0.0/8", "fd00::/64"]}), []),
        (changed(NODE, {"status.allocatable": {"pods": "1500m"}}), [("status.allocatable.pods", "Invalid")]),
        (
            changed(NODE, {"status.declaredFeatures": ["B", "A", "a"]}),
            [("status.declaredFeatures[1]", "Invalid"), ("status.declaredFeatures[2]", "Invalid")],
        ),
        # Namespace
        (changed(manifest("Namespace"), {"metadata.name": "a.b"}), [("metadata.name", "Invalid")]),
        (manifest("Namespace", spec={"finalizers": ["own"]}), [("spec.finalizers", "Invalid")]),
    ],
)  # fmt: skip
def test_a_wrong_object_has_these_findings(wrong: Object, expected: list[tuple[str, str]]) -> None:
    assert findings(wrong) == sorted(expected)


def update_findings(old: Object, changes: Object) -> list[tuple[str, str]]:
    before, after = stored(old), stored(changed(old, changes))
    errors = validate_update(prepared_update(after, before), before)
    return sorted({(error.field, error.type.removeprefix("FieldValue")) for error in errors})


@pytest.mark.parametrize(
    ("old", "changes", "expected"),
    [
        (manifest("ConfigMap"), {"data": {"a": "b"}}, []),
        (manifest("ConfigMap"), {"metadata.name": "b"}, [("metadata.name", "Invalid")]),
        (manifest("ConfigMap"), {"metadata.resourceVersion": None}, [("metadata.resourceVersion", "Invalid")]),
        (manifest("ConfigMap", immutable=True), {"data": {"a": "b"}}, [("data", "Forbidden")]),
        (manifest("ConfigMap", immutable=True), {"immutable": False}, [("immutable", "Forbidden")]),
        (manifest("Secret", immutable=True), {"stringData": {"a": "b"}}, [("data", "Forbidden")]),
        (manifest("Secret"), {"type": "own"}, [("type", "Invalid")]),
        (CLAIM, {"spec.volumeName": "pv"}, []),
        (CLAIM, {"spec.storageClassName": "fast"}, []),
        (CLAIM, {"spec.resources": {"requests": {"storage": "1048576Ki"}}}, []),
        (CLAIM, {"spec.resources": {"requests": {"storage": "2Gi"}}}, [("spec", "Forbidden")]),
        (CLAIM, {"spec.volumeMode": "Block"}, [("spec", "Forbidden"), ("volumeMode", "Invalid")]),
        (VOLUME, {"spec.capacity": {"storage": "2Gi"}}, []),
        (VOLUME, {"spec.hostPath.path": "/other"}, [("spec.persistentvolumesource", "Forbidden")]),
        (EVENT, {"count": 2}, []),
        (NODE, {"spec.unschedulable": True}, []),
        (changed(NODE, {"spec.providerID": "a"}), {"spec.providerID": "b"}, [("spec.providerID", "Forbidden")]),
        (manifest("Namespace"), {"spec": {"finalizers": []}}, []),
    ],
)
def test_an_update_has_these_findings(old: Object, changes: Object, expected: list[tuple[str, str]]) -> None:
    assert update_findings(old, changes) == expected


def test_a_bound_claim_can_grow_and_shrink_to_what_it_has() -> None:
    old = stored(changed(CLAIM, {"spec.resources": {"requests": {"storage": "3Gi"}}}))
    old = replace(old, status=replace(old.status, phase="Bound", capacity={"storage": "1Gi"}))

    def findings_for(size: str) -> list[str]:
        new = stored(changed(CLAIM, {"spec.resources": {"requests": {"storage": size}}}))
        return [error.field for error in validate_update(prepared_update(new, old), old)]

    assert findings_for("4Gi") == []
    assert findings_for("2Gi") == []
    assert findings_for("1Gi") == ["spec.resources.requests.storage"]


def test_no_finalizer_is_added_to_what_is_being_deleted() -> None:
    old = stored(manifest("ConfigMap"))
    old = replace(old, metadata=replace(old.metadata, deletion_timestamp="2026-01-01T00:00:00Z"))
    new = replace(old, metadata=replace(old.metadata, finalizers=("a.example/b",)))
    assert [(error.field, error.type) for error in validate_update(new, old)] == [
        ("metadata.finalizers", "FieldValueForbidden")
    ]
