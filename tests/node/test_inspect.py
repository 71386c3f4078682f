"""`minipod inspect`, `top` and `ps` against what the kernel itself says."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.node_fixtures import Node

POD = """
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  volumes: [{name: data, emptyDir: {}}]
  containers:
  - name: busy
    image: busybox
    command: [sh, -c, "while :; do :; done"]
    resources: {limits: {memory: 64Mi, cpu: 200m}}
    ports: [{containerPort: 80, hostPort: 18089}]
    volumeMounts: [{name: data, mountPath: /data}]
  - {name: idle, image: busybox, command: [sh, -c, "sleep 1000 & exec sleep 1000"]}
  - {name: done, image: busybox, command: [sh, -c, "exit 7"]}
"""


@pytest.mark.vm
def test_a_pod_is_shown_as_the_kernel_has_it(node: Node, tmp_path: Path) -> None:
    (tmp_path / "pod.yaml").write_text(POD)
    node("run", "-d", tmp_path / "pod.yaml")
    node("wait", "pod/web", "--for=jsonpath={.status.containerStatuses[1].state.terminated.exitCode}=7")
    found = json.loads(node("inspect", "web", "-o", "json").stdout)
    containers = {container["name"]: container for container in found["containers"]}
    assert list(containers) == ["busy", "idle", "done"]
    assert (containers["done"]["state"], containers["done"]["exit_code"], containers["done"]["pid"]) == ("exited", 7, 0)

    shared = {entry["type"]: entry for entry in found["sandbox"]["namespaces"] if entry["whose"] == "pod"}
    assert list(shared) == ["net", "ipc", "uts"]
    assert [entry["containers"] for entry in shared.values()] == [["busy", "idle"]] * 3
    pid = containers["idle"]["pid"]
    for name, entry in shared.items():
        assert entry["inode"] == os.stat(f"/proc/{pid}/ns/{name}").st_ino == os.stat(entry["kept_by"]).st_ino
    assert [process["command"] for process in containers["idle"]["processes"]] == ["sleep 1000", "sleep 1000"]
    assert pid in {process["pid"] for process in containers["idle"]["processes"]}

    network = found["sandbox"]["network"]
    assert network["veth"]["index"] == int(Path(f"/sys/class/net/{network['veth']['name']}/ifindex").read_text())
    assert os.path.exists(f"/sys/class/net/{network['veth']['bridge']}/brif/{network['veth']['name']}")
    assert found["sandbox"]["ports"][0]["host_port"] == 18089

    values = {os.path.basename(path): text for path, text in containers["busy"]["cgroup"]["files"].items()}
    assert str(64 << 20) in (values.get("memory.max"), values.get("memory.limit_in_bytes"))
    (data,) = [mount for mount in containers["busy"]["mounts"] if mount["volume"] == "data"]
    assert (data["path"], os.path.isdir(data["source"])) == ("/data", True)
    assert all(os.path.isdir(layer) for layer in containers["busy"]["layers"])

    text = node("inspect", "web").stdout
    for words in ("the pod's   busy, idle", "18089", "0.20 cpus", "exited", "volume data: "):
        assert words in text, words
    lines = [line.split() for line in node("top", "pod", "--containers", "--no-headers").stdout.splitlines()]
    cpu = {name: int(cores.removesuffix("m")) for _, name, cores, _ in lines}
    assert cpu.keys() == {"busy", "idle"}
    assert cpu["busy"] > cpu["idle"]
    assert cpu["busy"] <= 300
    assert node("ps", "-a", "--format", "{{.Name}} {{.Ports}} {{.State}}").stdout.splitlines() == [
        "busy 0.0.0.0:18089->80/tcp running",
        "idle  running",
        "done  exited",
    ]
    node("delete", "pod", "web", "--now")
    assert node("inspect", "web", check=False).returncode == 1
