"""Rules that few manifests meet, each after the API server's code: what is changed in a valid pod, what is found."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.validation_cases import pod_findings

APP, C0 = "spec.containers.0", "spec.containers[0]"
IN_INIT, I0 = "spec.initContainers.0", "spec.initContainers[0]"
MOUNT = {"name": "data", "mountPath": "/data"}
TERMS = "requiredDuringSchedulingIgnoredDuringExecution"
NODE_TERM = f"spec.affinity.nodeAffinity.{TERMS}.nodeSelectorTerms[0]"


def node_term(**term: Any) -> dict[str, Any]:
    return {"spec.affinity": {"nodeAffinity": {TERMS: {"nodeSelectorTerms": [term]}}}}


def volume(**source: Any) -> dict[str, Any]:
    return {"spec.volumes": [{"name": "v", **source}]}


V = "spec.volumes[0]"


@pytest.mark.parametrize(
    ("changes", "findings"),
    [
        # DNS
        ({"spec.dnsConfig": {"nameservers": ["1.1.1.1"] * 4}}, {("spec.dnsConfig.nameservers", "Invalid")}),
        ({"spec.dnsConfig": {"searches": ["a"] * 33}}, {("spec.dnsConfig.searches", "Invalid")}),
        ({"spec.dnsConfig": {"searches": [".", "_a.b."]}}, set()),
        ({"spec.dnsConfig": {"options": [{"value": "1"}]}}, {("spec.dnsConfig.options[0]", "Required")}),
        # scheduling
        (
            node_term(matchExpressions=[{"key": "a", "operator": "Gt", "values": ["1", "2"]}]),
            {(f"{NODE_TERM}.matchExpressions[0].values", "Required")},
        ),
        (
            node_term(matchFields=[{"key": "metadata.name", "operator": "In", "values": []}]),
            {(f"{NODE_TERM}.matchFields[0].values", "Required")},
        ),
        (
            node_term(matchFields=[{"key": "metadata.uid", "operator": "Exists"}]),
            {(f"{NODE_TERM}.matchFields[0].operator", "Invalid"), (f"{NODE_TERM}.matchFields[0].key", "Invalid")},
        ),
        # resources
        (
            {f"{APP}.resources": {"requests": {"hugepages-2Mi": "2Mi"}, "limits": {"hugepages-2Mi": "2Mi"}}},
            {(f"{C0}.resources", "Forbidden")},
        ),
        (
            {f"{APP}.resources": {"requests": {"a.b/c": "1"}, "limits": {"a.b/c": "2"}}},
            {(f"{C0}.resources.requests", "Invalid")},
        ),
        ({f"{APP}.resources": {"requests": {"a.b/c": "1"}}}, {(f"{C0}.resources.limits", "Required")}),
        (
            {f"{APP}.resources": {"limits": {"a.b/c": "500m"}}},
            {(f"{C0}.resources.limits[a.b/c]", "Invalid"), (f"{C0}.resources.requests[a.b/c]", "Invalid")},
        ),
        (
            {f"{APP}.resources": {"claims": [{"name": "g"}, {"name": "g"}]}},
            {
                (f"{C0}.resources.claims[0]", "NotFound"),
                (f"{C0}.resources.claims[1]", "NotFound"),
                (f"{C0}.resources.claims[1]", "Duplicate"),
            },
        ),
        (
            {f"{IN_INIT}.resizePolicy": [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]},
            {(f"{I0}.resizePolicy[0].restartPolicy", "Invalid")},
        ),
        # security
        (
            {f"{APP}.securityContext": {"procMount": "Unmasked"}},
            {(f"{C0}.securityContext.procMount", "Invalid")},
        ),
        (
            {
                f"{APP}.securityContext": {
                    "allowPrivilegeEscalation": False,
                    "capabilities": {"add": ["CAP_SYS_ADMIN"]},
                }
            },
            {(f"{C0}.securityContext", "Invalid")},
        ),
        (
            {"spec.securityContext": {"appArmorProfile": {"type": "Localhost", "localhostProfile": " a"}}},
            {("spec.securityContext.appArmorProfile.localhostProfile", "Invalid")},
        ),
        (
            {"spec.hostIPC": True, "spec.securityContext": {"sysctls": [{"name": "kernel.shm_rmid_forced"}]}},
            {("spec.securityContext.sysctls[0].name", "Invalid")},
        ),
        (
            {"spec.hostnameOverride": "a", "spec.setHostnameAsFQDN": True},
            {("spec.hostnameOverride", "Forbidden")},
        ),
        # mounts
        (
            {f"{APP}.volumeMounts": [MOUNT | {"recursiveReadOnly": "Enabled", "mountPropagation": "HostToContainer"}]},
            {(f"{C0}.volumeMounts.recursiveReadOnly", "Forbidden")},
        ),
        (
            {f"{APP}.volumeMounts": [MOUNT], f"{APP}.volumeDevices": [{"name": "disk", "devicePath": "/data"}]},
            {(f"{C0}.volumeMounts[0].mountPath", "Invalid"), (f"{C0}.volumeDevices[0].devicePath", "Invalid")},
        ),
        # volumes
        (volume(), set()),  # is an emptyDir by default
        (volume(fc={"targetWWNs": ["a"]}), {(f"{V}.fc.lun", "Required")}),
        (volume(fc={"targetWWNs": ["a"], "wwids": ["b"], "lun": 0}), {(f"{V}.fc.targetWWNs", "Invalid")}),
        (
            volume(flexVolume={"driver": "a/b", "options": {"k8s.io/x": "1"}}),
            {(f"{V}.flexVolume.options[k8s.io/x]", "Invalid")},
        ),
        (
            volume(iscsi={"targetPortal": "a", "iqn": "iqn.2000-01.a.b", "lun": 1, "chapAuthSession": True}),
            {(f"{V}.iscsi.iqn", "Invalid"), (f"{V}.iscsi.secretRef", "Required")},
        ),
        (volume(csi={"driver": "a_b"}), {(f"{V}.csi.driver", "Invalid")}),
        (
            volume(flocker={"datasetName": "a/b", "datasetUUID": "c"}),
            {(f"{V}.flocker", "Invalid"), (f"{V}.flocker.datasetName", "Invalid")},
        ),
        # annotations
        (
            {"metadata.annotations": {"controller.kubernetes.io/pod-deletion-cost": "9" * 5000}},
            {("metadata.annotations[controller.kubernetes.io/pod-deletion-cost]", "Invalid")},
        ),
        ({"metadata.annotations": {"controller.kubernetes.io/pod-deletion-cost": "-2147483648"}}, set()),
        (
            {"metadata.annotations": {"kubernetes.io/config.mirror": "a"}},
            {("metadata.annotations[kubernetes.io/config.mirror]", "Invalid")},
        ),
        # windows
        (
            {"spec.securityContext": {"windowsOptions": {"hostProcess": True, "runAsUserName": ". ."}}},
            {
                ("spec.securityContext.windowsOptions.runAsUserName", "Invalid"),
                ("spec.hostNetwork", "Invalid"),
            },
        ),
        ({"spec.securityContext": {"windowsOptions": {"runAsUserName": "A\\b c"}}}, set()),
    ],
)
def test_a_rare_rule_finds_what_the_server_finds(changes: dict[str, Any], findings: set[tuple[str, str]]) -> None:
    assert set(pod_findings(changes)) == findings
