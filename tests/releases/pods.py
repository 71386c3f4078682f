"""The objects whose state is kept of a release: each is in another stage of its life when everything is killed."""

from __future__ import annotations

from typing import Any

TRAPPED = "trap 'exit 0' TERM; while :; do sleep 1 & wait; done"
STUBBORN = "trap '' TERM; while :; do sleep 1; done"
#: ends once `GATE` is there: while no agent runs
GATE = "/gate/open"
LATE = f"while [ ! -e {GATE} ]; do sleep 0.1; done; exit 7"
HOST_PORT = 28917


def container(name: str, script: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "image": "busybox", "command": ["sh", "-c", script], **more}


def pod(name: str, *containers: dict[str, Any], namespace: str = "default", **spec: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace, "labels": {"app": name}}
    spec = {"terminationGracePeriodSeconds": 1, "containers": list(containers)} | spec
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _object(kind: str, name: str, **fields: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, **fields}


def objects(local: str) -> list[dict[str, Any]]:
    """`local`: the folder of the PersistentVolume."""
    capacity, modes = {"storage": "1Mi"}, ["ReadWriteOnce"]
    claim = {"accessModes": modes, "resources": {"requests": capacity}}
    return [
        _object("ConfigMap", "settings", data={"greeting": "good morning"}),
        _object("Secret", "login", stringData={"password": "only an example"}),
        _object("PersistentVolumeClaim", "data", spec=claim),
        _object("PersistentVolume", "shelf", spec={
            "capacity": capacity, "accessModes": modes, "storageClassName": "shelf", "hostPath": {"path": local},
        }),
        _object("PersistentVolumeClaim", "shelf", spec=claim | {"storageClassName": "shelf", "volumeName": "shelf"}),
    ]  # fmt: skip


def running(gate: str) -> list[dict[str, Any]]:
    """Pods that have containers which run when the agent is killed. `gate`: the folder of `GATE`."""
    volumes = [
        {"name": "settings", "configMap": {"name": "settings"}},
        {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
        {"name": "shelf", "persistentVolumeClaim": {"claimName": "shelf"}},
        {"name": "scratch", "emptyDir": {}},
        {"name": "about", "downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
    ]
    mounts = [{"name": volume["name"], "mountPath": f"/{volume['name']}"} for volume in volumes]
    password = {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "login", "key": "password"}}}
    web = container(
        "main", TRAPPED, env=[password], volumeMounts=mounts,
        ports=[{"containerPort": 80, "hostPort": HOST_PORT, "hostIP": "127.0.0.1"}],
        resources={"requests": {"cpu": "10m"}, "limits": {"memory": "32Mi"}},
        readinessProbe={"exec": {"command": ["true"]}, "periodSeconds": 1},
        livenessProbe={"exec": {"command": ["true"]}, "periodSeconds": 5},
        securityContext={"runAsUser": 1000, "capabilities": {"drop": ["ALL"]}},
    )  # fmt: skip
    gates = [{"name": "gate", "hostPath": {"path": gate, "type": "Directory"}}]
    at_gate = [{"name": "gate", "mountPath": "/gate"}]
    return [
        pod("web", web, volumes=volumes, securityContext={"fsGroup": 2000}),
        pod("ends", container("main", LATE, volumeMounts=at_gate), volumes=gates, restartPolicy="Never"),
        pod("sidecar", container("main", TRAPPED), initContainers=[
            container("first", "true"), container("beside", TRAPPED, restartPolicy="Always")]),
        pod("host", container("main", TRAPPED), hostNetwork=True),
        pod("shared", container("one", TRAPPED), container("two", TRAPPED), shareProcessNamespace=True),
        pod("elsewhere", container("main", TRAPPED), namespace="other", activeDeadlineSeconds=1_000_000_000),
        pod("half", container("done", "exit 0"), container("going", TRAPPED), restartPolicy="OnFailure"),
        pod("leaving", container("main", STUBBORN), terminationGracePeriodSeconds=1_000_000),
    ]  # fmt: skip


def ended() -> list[dict[str, Any]]:
    """Pods of which nothing runs any more, or not yet."""
    return [
        pod("succeeded", container("main", "echo good"), restartPolicy="Never"),
        pod("failed", container("main", "echo bad > /dev/termination-log; exit 3"), restartPolicy="Never"),
        pod("loop", container("main", "exit 4")),
        pod("absent", container("main", "true", image="localhost/absent:1", imagePullPolicy="Never")),
        pod("gated", container("main", "true"), schedulingGates=[{"name": "example.com/gate"}]),
    ]
