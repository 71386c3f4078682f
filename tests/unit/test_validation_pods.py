"""The rules for pods on create, one case each: what is changed in a valid pod, and what is found."""

from __future__ import annotations

from typing import Any

import pytest

from minipod.api.defaults import defaulted
from minipod.api.validation import validate_pod
from tests.unit.validation_cases import POD, changed, document, findings, pod, pod_findings

APP = "spec.containers.0"
MOUNT = {"name": "data", "mountPath": "/data"}
C0 = "spec.containers[0]"


def test_the_pod_of_the_cases_is_valid() -> None:
    assert findings(POD) == []


@pytest.mark.parametrize(
    ("changes", "field", "kind"),
    [
        # metadata
        ({"metadata.name": "Web"}, "metadata.name", "Invalid"),
        ({"metadata.name": None}, "metadata.name", "Required"),
        ({"metadata.namespace": "a.b"}, "metadata.namespace", "Invalid"),
        ({"metadata.labels": {"a/b/c": "x"}}, "metadata.labels", "Invalid"),
        ({"metadata.labels": {"a": "-"}}, "metadata.labels", "Invalid"),
        ({"metadata.annotations": {"a": "x" * 262145}}, "metadata.annotations", "TooLong"),
        ({"metadata.finalizers": ["nothing"]}, "metadata.finalizers[0]", "Invalid"),
        # the container itself
        ({f"{APP}.name": "a.b"}, f"{C0}.name", "Invalid"),
        ({f"{APP}.image": None}, f"{C0}.image", "Required"),
        ({f"{APP}.image": " busybox"}, f"{C0}.image", "Invalid"),
        ({f"{APP}.imagePullPolicy": "Sometimes"}, f"{C0}.imagePullPolicy", "NotSupported"),
        ({f"{APP}.terminationMessagePolicy": "Log"}, f"{C0}.terminationMessagePolicy", "NotSupported"),
        ({"spec.initContainers.0.name": "app"}, "spec.initContainers[0].name", "Duplicate"),
        ({"spec.initContainers.0.lifecycle": {}}, "spec.initContainers[0].lifecycle", "Forbidden"),
        ({"spec.containers": []}, "spec.containers", "Required"),
        # ports
        ({f"{APP}.ports": [{"containerPort": 70000}]}, f"{C0}.ports[0].containerPort", "Invalid"),
        ({f"{APP}.ports": [{"hostPort": 1}]}, f"{C0}.ports[0].containerPort", "Required"),
        ({f"{APP}.ports": [{"containerPort": 1, "name": "1"}]}, f"{C0}.ports[0].name", "Invalid"),
        ({f"{APP}.ports": [{"containerPort": 1, "protocol": "tcp"}]}, f"{C0}.ports[0].protocol", "NotSupported"),
        (
            {f"{APP}.ports": [{"containerPort": 1, "hostPort": 9}, {"containerPort": 2, "hostPort": 9}]},
            f"{C0}.ports[1].hostPort",
            "Duplicate",
        ),
        # environment
        ({f"{APP}.env": [{"name": "A=B"}]}, f"{C0}.env[0].name", "Invalid"),
        ({f"{APP}.env": [{"name": "A", "valueFrom": {}}]}, f"{C0}.env[0].valueFrom", "Invalid"),
        (
            {f"{APP}.env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels"}}}]},
            f"{C0}.env[0].valueFrom.fieldRef.fieldPath",
            "NotSupported",
        ),
        (
            {f"{APP}.env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['']"}}}]},
            f"{C0}.env[0].valueFrom.fieldRef",
            "Invalid",
        ),
        ({f"{APP}.envFrom": [{"prefix": "A"}]}, f"{C0}.envFrom", "Invalid"),
        # mounts
        ({f"{APP}.volumeMounts": [{**MOUNT, "name": "none"}]}, f"{C0}.volumeMounts[0].name", "NotFound"),
        ({f"{APP}.volumeMounts": [MOUNT, MOUNT]}, f"{C0}.volumeMounts[1].mountPath", "Invalid"),
        ({f"{APP}.volumeMounts": [{**MOUNT, "subPath": "../x"}]}, f"{C0}.volumeMounts.subPath", "Invalid"),
        (
            {f"{APP}.volumeMounts": [{**MOUNT, "mountPropagation": "Bidirectional"}]},
            f"{C0}.volumeMounts.mountPropagation",
            "Forbidden",
        ),
        ({f"{APP}.volumeDevices": [{"name": "data", "devicePath": "/d"}]}, f"{C0}.volumeDevices[0].name", "Invalid"),
        # probes and hooks
        ({f"{APP}.livenessProbe": {}}, f"{C0}.livenessProbe", "Required"),
        (
            {f"{APP}.livenessProbe": {"exec": {"command": ["a"]}, "successThreshold": 2}},
            f"{C0}.livenessProbe.successThreshold",
            "Invalid",
        ),
        (
            {f"{APP}.readinessProbe": {"tcpSocket": {"port": 1}, "terminationGracePeriodSeconds": 1}},
            f"{C0}.readinessProbe.terminationGracePeriodSeconds",
            "Invalid",
        ),
        (
            {f"{APP}.startupProbe": {"exec": {"command": ["a"]}, "grpc": {"port": 1}}},
            f"{C0}.startupProbe.grpc",
            "Forbidden",
        ),
        ({f"{APP}.lifecycle": {"preStop": {"sleep": {"seconds": 31}}}}, f"{C0}.lifecycle.preStop.sleep", "Invalid"),
        # resources
        ({f"{APP}.resources": {"limits": {"memroy": "1Gi"}}}, f"{C0}.resources.limits[memroy]", "Invalid"),
        ({f"{APP}.resources": {"requests": {"cpu": "-1"}}}, f"{C0}.resources.requests[cpu]", "Invalid"),
        (
            {f"{APP}.resources": {"requests": {"cpu": 2}, "limits": {"cpu": 1}}},
            f"{C0}.resources.requests",
            "Invalid",
        ),
        ({f"{APP}.resources": {"claims": [{"name": "gpu"}]}}, f"{C0}.resources.claims[0]", "NotFound"),
        ({"spec.resources": {"limits": {"ephemeral-storage": 1}}}, "spec.resources.limits[ephemeral-storage]",
         "NotSupported"),
        ({"spec.resources": {"claims": []}}, "spec.resources.claims", "Forbidden"),
        # security
        ({f"{APP}.securityContext": {"runAsUser": -1}}, f"{C0}.securityContext.runAsUser", "Invalid"),
        ({f"{APP}.securityContext": {"procMount": "Unmasked"}}, f"{C0}.securityContext.procMount", "Invalid"),
        (
            {f"{APP}.securityContext": {"privileged": True, "allowPrivilegeEscalation": False}},
            f"{C0}.securityContext",
            "Invalid",
        ),
        (
            {"spec.securityContext": {"seccompProfile": {"type": "Localhost"}}},
            "spec.securityContext.seccompProfile.localhostProfile",
            "Required",
        ),
        (
            {"spec.securityContext": {"sysctls": [{"name": "net/core/x", "value": "1"}]}, "spec.hostNetwork": True},
            "spec.securityContext.sysctls[0].name",
            "Invalid",
        ),
        ({"spec.hostUsers": False, "spec.hostIPC": True}, "spec.HostIPC", "Forbidden"),
        ({"spec.os": {"name": "plan9"}}, "spec.os", "NotSupported"),
        ({"spec.os": {"name": "windows"}, "spec.securityContext": {"runAsUser": 1}},
         "spec.securityContext.runAsUser", "Forbidden"),
        ({"spec.os": {"name": "windows"}, "spec.securityContext": {"supplementalGroups": []}},
         "spec.securityContext.supplementalGroups", "Forbidden"),
        # volumes
        ({"spec.volumes.0.hostPath": {"path": "/x"}}, "spec.volumes[0].hostPath", "Forbidden"),
        ({"spec.volumes.0.name": "disk"}, "spec.volumes[1].name", "Duplicate"),
        (
            {"spec.volumes.0": {"name": "s", "secret": {"secretName": "s", "defaultMode": 512}}},
            "spec.volumes[0].secret.defaultMode",
            "Invalid",
        ),
        (
            {"spec.volumes.0": {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}},
            "spec.volumes[0].projected.sources[0].serviceAccountToken",
            "Forbidden",
        ),
        (
            {"spec.volumes.0": {"name": "i", "iscsi": {"targetPortal": "a", "iqn": "iqn.bad", "lun": 1}}},
            "spec.volumes[0].iscsi.iqn",
            "Invalid",
        ),
        (
            {"spec.volumes.0": {"name": "e", "ephemeral": {"volumeClaimTemplate": {"spec": {
                "dataSource": {"kind": "VolumeSnapshot", "name": "a"}}}}}},
            "spec.volumes[0].ephemeral.volumeClaimTemplate.spec.dataSource",
            "Invalid",
        ),
        # the pod
        ({"spec.restartPolicy": "always"}, "spec.restartPolicy", "NotSupported"),
        ({"spec.dnsPolicy": "None"}, "spec.dnsConfig", "Required"),
        ({"spec.dnsConfig": {"nameservers": ["010.1.1.1"]}}, "spec.dnsConfig.nameservers[0]", "Invalid"),
        ({"spec.hostAliases": [{"ip": "::ffff:1.2.3.4"}]}, "spec.hostAliases[0].ip", "Invalid"),
        ({"spec.hostnameOverride": "a" * 65}, "spec.hostnameOverride", "TooLong"),
        ({"spec.activeDeadlineSeconds": 0}, "spec.activeDeadlineSeconds", "Invalid"),
        ({"spec.nodeName": "n", "spec.schedulingGates": [{"name": "g"}]}, "spec.nodeName", "Forbidden"),
        ({"spec.tolerations": [{"operator": "Equal"}]}, "spec.tolerations[0].operator", "Invalid"),
        (
            {"spec.affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {}}}},
            "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms",
            "Required",
        ),
    ],
)  # fmt: skip
def test_a_wrong_field_is_found(changes: dict[str, Any], field: str, kind: str) -> None:
    assert (field, kind) in pod_findings(changes)


def test_all_findings_are_reported_at_once() -> None:
    assert pod_findings({f"{APP}.image": None, "metadata.name": "A_B", "spec.restartPolicy": "x"}) == [
        ("metadata.name", "Invalid"),
        ("spec.containers[0].image", "Required"),
        ("spec.restartPolicy", "NotSupported"),
    ]


def test_a_wrong_volume_cannot_be_mounted() -> None:
    changes = {"spec.volumes.0.name": "Data", f"{APP}.volumeMounts": [{"name": "Data", "mountPath": "/d"}]}
    assert pod_findings(changes) == [
        ("spec.containers[0].volumeMounts[0].name", "NotFound"),
        ("spec.volumes[0].name", "Invalid"),
    ]


def test_host_ports_of_init_containers_may_repeat_those_of_containers() -> None:
    port = [{"containerPort": 80, "hostPort": 80}]
    assert pod_findings({f"{APP}.ports": port, "spec.initContainers.0.ports": port}) == []


def test_a_sidecar_may_have_probes() -> None:
    sidecar = {"restartPolicy": "Always", "livenessProbe": {"tcpSocket": {"port": 80}}}
    assert pod_findings({f"spec.initContainers.0.{name}": value for name, value in sidecar.items()}) == []


def test_what_pods_request_together_fits_what_the_pod_requests() -> None:
    ask = {"requests": {"memory": "600Mi"}}
    sidecar = {"name": "s", "image": "i", "restartPolicy": "Always", "resources": ask}
    changes = {f"{APP}.resources": ask, "spec.initContainers.0": sidecar}
    assert pod_findings({**changes, "spec.resources": {"requests": {"memory": "1Gi"}}}) == [
        ("spec.resources.requests[memory]", "Invalid")
    ]
    assert pod_findings({**changes, "spec.resources": {"requests": {"memory": "1200Mi"}}}) == []


def test_old_annotations_must_agree_with_the_fields() -> None:
    annotations = {"seccomp.security.alpha.kubernetes.io/pod": "unconfined"}
    profile = {"seccompProfile": {"type": "RuntimeDefault"}}
    assert pod_findings({"metadata.annotations": annotations, "spec.securityContext": profile}) == [
        ("spec.securityContext.seccompProfile.type", "Forbidden")
    ]


def test_tolerations_in_an_annotation_are_checked_too() -> None:
    key = "scheduler.alpha.kubernetes.io/tolerations"
    assert pod_findings({"metadata.annotations": {key: '[{"Operator": "Equal"}]'}}) == [
        (f"metadata.annotations.{key}[0].operator", "Invalid")
    ]
    assert pod_findings({"metadata.annotations": {key: "["}}) == [("metadata.annotations", "Invalid")]


def test_an_app_armor_annotation_names_a_container() -> None:
    key = "container.apparmor.security.beta.kubernetes.io/nobody"
    assert pod_findings({"metadata.annotations": {key: "runtime/default"}}) == [
        (f"metadata.annotations[{key}]", "Invalid")
    ]


def test_ephemeral_containers_come_later_and_have_no_ports() -> None:
    debugger = {"name": "debug", "image": "busybox", "ports": [], "targetContainerName": "nobody"}
    assert pod_findings({"spec.ephemeralContainers": [debugger]}) == [
        ("spec.ephemeralContainers", "Forbidden"),
        ("spec.ephemeralContainers[0].ports", "Forbidden"),
        ("spec.ephemeralContainers[0].targetContainerName", "NotFound"),
    ]


def test_windows_pods_run_all_containers_as_host_processes_or_none() -> None:
    options = {"securityContext": {"windowsOptions": {"hostProcess": True}}}
    assert pod_findings({f"{APP}.securityContext": options["securityContext"]}) == [
        ("spec", "Invalid"),
        ("spec.hostNetwork", "Invalid"),
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {f"{APP}.ports": [{"containerPort": 70000}]},
            "Invalid value: 70000: must be between 1 and 65535, inclusive",
        ),
        ({f"{APP}.image": None}, "Required value: which image"),
        (
            {"spec.restartPolicy": "always"},
            'Unsupported value: "always": supported values: "Always", "OnFailure", "Never"; did you mean "Always"?',
        ),
        ({"spec.hostnameOverride": "a" * 65}, "Too long: may not be more than 64 bytes"),
        (
            {f"{APP}.volumeMounts": [{"name": "none", "mountPath": "/"}]},
            'Not found: "none": must be a volume of the pod: data',
        ),
        ({"spec.ephemeralContainers": [{"name": "d", "image": "i"}]}, "Forbidden: can only be added to a pod"),
    ],
)
def test_messages_begin_with_the_standard_words(changes: dict[str, Any], message: str) -> None:
    assert any(error.message.startswith(message) for error in validate_pod(pod(changes)))


def test_the_path_of_the_text_is_the_one_that_validation_names() -> None:
    loaded = document(changed(POD, {"spec.resources": {"claims": []}}))
    assert validate_pod(defaulted(loaded.object)) == []
    assert [error.field for error in validate_pod(defaulted(loaded.object), loaded.written_empty)] == [
        "spec.resources.claims"
    ]
