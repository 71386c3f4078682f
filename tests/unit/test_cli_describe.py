"""describe of pods and other objects, as kubectl lays them out (unit)."""

from __future__ import annotations

from minipod.cli.show.describe_objects import text_of
from minipod.cli.show.describe_pod import describe
from tests.unit.cli_fakes import event, pod


def test_describe_shows_the_odd_parts_of_a_pod() -> None:
    item = pod(
        phase="Running",
        podIPs=[{"ip": "10.0.0.1"}],
        qosClass="Burstable",
        conditions=[{"type": "Ready", "status": "False"}],
    )
    item["spec"] |= {
        "volumes": [
            {"name": "v", "hostPath": {"path": "/x", "type": "Directory"}},
            {"name": "d", "downwardAPI": {"items": [{"path": "p", "fieldRef": {"fieldPath": "metadata.name"}}]}},
            {"name": "m", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        ],
        "tolerations": [{"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}],
        "nodeSelector": {"a": "b"},
    }
    container = item["spec"]["containers"][0]
    container |= {
        "env": [
            {"name": "A", "value": "1\n2"},
            {"name": "S", "valueFrom": {"secretKeyRef": {"key": "k", "name": "s"}}},
        ],
        "livenessProbe": {"httpGet": {"port": 80, "path": "/healthz"}},
        "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "500m"}},
        "volumeMounts": [{"name": "v", "mountPath": "/v", "readOnly": True, "subPath": "s"}],
        "ports": [{"containerPort": 80, "hostPort": 8080}],
    }
    item["status"]["containerStatuses"][0] |= {
        "restartCount": 2,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
    }
    item["metadata"]["annotations"] = {"note": "two\nlines"}
    flat = " ".join(describe(item, [], 0).split())
    for part in (
        "      Reason:       CrashLoopBackOff",
        "    Last State:     Terminated\n      Reason:       OOMKilled\n      Exit Code:    137",
        "    Liveness:   http-get http://:80/healthz delay=0s timeout=1s period=10s #success=1 #failure=3",
        "      S:  <set to the key 'k' in secret 's'>  Optional: false",
        '      /v from v (ro,path="s")',
        "    Host Port:      8080/TCP",
        "Tolerations:     k:NoExecute op=Exists for 300s",
        "    HostPathType:  Directory",
        "      metadata.name -> p",
        "    SizeLimit:  1Mi",
        "Annotations:  note:\n                two\n                lines",
        "Events:  <none>\n",
    ):
        assert " ".join(part.split()) in flat, part


def test_describe_says_what_kubectl_says_of_the_rarer_fields() -> None:
    item = pod(phase="Running", nominatedNodeName="other")
    item["spec"] |= {
        "resources": {"limits": {"cpu": "2"}},
        "securityContext": {"seccompProfile": {"type": "Localhost", "localhostProfile": "p.json"}},
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "zone",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {
                    "matchLabels": {"b": "c"},
                    "matchExpressions": [{"key": "a", "operator": "In", "values": ["2", "1"]}],
                },
            }
        ],
        "volumes": [
            {"name": "n", "nfs": {"server": "host", "path": "/x"}},
            {"name": "e", "ephemeral": {"volumeClaimTemplate": {"spec": {"storageClassName": "local"}}}},
            {"name": "m", "emptyDir": {"sizeLimit": "0"}},
        ],
    }
    item["spec"]["containers"][0] |= {
        "resources": {"limits": {"memory": "3Mi"}},
        "env": [
            {"name": "R", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "2Mi"}}},
            {"name": "C", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
            {"name": "N", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}},
            {"name": "I", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"}}},
            {"name": "F", "valueFrom": {"fileKeyRef": {"volumeName": "e", "path": "env", "key": "K"}}},
        ],
        "livenessProbe": {"httpGet": {"host": "::1", "port": "web", "path": "/a b?c"}},
        "volumeDevices": [{"name": "d", "devicePath": "/dev/d"}],
    }
    item["status"]["containerStatuses"][0]["state"] = {"waiting": {"reason": "ErrImagePull", "message": "unsaid"}}
    text = describe(item, [], 0)
    flat = " ".join(text.split())
    for part in (
        "NominatedNodeName: other\nResources:\n  Limits:\n    cpu:  2",
        "SeccompProfile: Localhost\nLocalhostProfile: p.json",
        "Topology Spread Constraints: zone:ScheduleAnyway when max skew 1 is exceeded for selector a in (1,2),b=c",
        "NFS (an NFS mount that lasts the lifetime of a pod)\n Server: host\n Path: /x\n ReadOnly: false",
        "StorageClass: local\n Volume:\n Labels: <none>\n Annotations: <none>\n Capacity:\n Access Modes:",
        "SizeLimit: <unset>",
        "R: 2 (limits.memory)\nC: node allocatable (limits.cpu)\nN: web (v1:metadata.name)\nI: (v1:status.podIP)",
        "F: <set to the key 'K' in file 'env' of volume 'e'> Optional: false",
        "http-get http://[::1]:web/a%20b%3Fc",
        "Devices: <none>\n /dev/d from d",
        "State: Waiting\n Reason: ErrImagePull\n Ready:",
    ):
        assert " ".join(part.split()) in flat, part


def test_the_node_and_events_are_described() -> None:
    node = {
        "kind": "Node",
        "metadata": {
            "name": "n",
            "creationTimestamp": "2026-01-02T03:04:05Z",
            "labels": {"node-role.kubernetes.io/worker": ""},
        },
        "spec": {"unschedulable": True},
        "status": {
            "addresses": [{"type": "InternalIP", "address": "192.0.2.7"}],
            "capacity": {"cpu": "2", "memory": "1Ki"},
            "allocatable": {"cpu": "1"},
            "conditions": [
                {
                    "type": "Ready",
                    "status": "True",
                    "lastHeartbeatTime": None,
                    "lastTransitionTime": None,
                    "reason": "R",
                }
            ],
            "nodeInfo": {"kernelVersion": "6.1", "osImage": "Debian"},
        },
    }
    text = text_of(node, [])
    assert text.startswith("Name:               n\nRoles:              worker\n")
    flat = " ".join(text.split())
    for part in (
        "Unschedulable: true Conditions: Type Status LastHeartbeatTime",
        "Ready True Mon, 01 Jan 0001 00:00:00 +0000",
        "Addresses: InternalIP: 192.0.2.7 Capacity: cpu: 2 memory: 1Ki Allocatable: cpu: 1 System Info:",
        "Kernel Version: 6.1 OS Image: Debian",
    ):
        assert part in flat, part
    text = text_of({"kind": "Event", **event(count=3)}, [])
    for line in ("Involved Object: Pod/web", "Field Path: spec.containers{app}", "Count: 3", "Source: kubelet"):
        assert line.split() in [found.split() for found in text.splitlines()], line
    assert "Field Path" not in text_of({"kind": "Event", "metadata": {"name": "e"}}, [])
