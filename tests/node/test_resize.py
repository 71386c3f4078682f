"""In-place resize on the real kernel: groups get new limits while their processes go on (node, root)."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from minipod.kernel.cgroup import find_mounts
from tests.node_fixtures import Node
from tests.patience import SLOWNESS

WAIT_S = 15.0 * SLOWNESS

POD = """
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: busybox
    command: [sh, -c, "trap 'exit 0' TERM; while :; do sleep 1 & wait; done"]
    resources: {requests: {cpu: 100m, memory: 32Mi}, limits: {cpu: 200m, memory: 64Mi}}
    resizePolicy:
    - {resourceName: cpu, restartPolicy: NotRequired}
    - {resourceName: memory, restartPolicy: RestartContainer}
"""


@pytest.fixture
def web(node: Node, tmp_path: Path) -> Node:
    path = tmp_path / "web.yaml"
    path.write_text(POD)
    node("run", "-d", "--until", "ready", path)
    return node


WHOLE = """
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 1
  resources: {requests: {cpu: 200m, memory: 64Mi}, limits: {cpu: 400m, memory: 128Mi}}
  containers:
  - {name: main, image: busybox, command: [sh, -c, "trap 'exit 0' TERM; while :; do sleep 1 & wait; done"]}
"""


def status_of(node: Node) -> dict[str, Any]:
    pod: Any = node.pod("web")
    status: dict[str, Any] = pod["status"]
    return status


def container_of(node: Node) -> dict[str, Any]:
    container: dict[str, Any] = status_of(node)["containerStatuses"][0]
    return container


def conditions_of(node: Node) -> dict[str, Any]:
    return {condition["type"]: condition for condition in status_of(node)["conditions"]}


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.1)


def inside(node: Node, *files: str) -> list[str]:
    """The first of these files of the container's own group that there is (cgroup v2, else v1)."""
    script = "; ".join(f"[ -e /sys/fs/cgroup/{file} ] && exec cat /sys/fs/cgroup/{file}" for file in files)
    return node("exec", "web", "--", "sh", "-c", script).stdout.split()


def reasons(node: Node) -> list[str]:
    events = json.loads(node("events", "--for", "pod/web", "-o", "json").stdout)["items"]
    return [event["reason"] for event in events]


@pytest.mark.vm
def test_cpu_changes_while_the_container_runs_on(web: Node) -> None:
    before = container_of(web)
    web("resize", "pod", "web", "--requests", "cpu=150m", "--limits", "cpu=300m")
    until(lambda: container_of(web)["resources"]["limits"]["cpu"] == "300m", "the status has the new limit")
    after = container_of(web)
    assert (after["containerID"], after["restartCount"]) == (before["containerID"], 0)
    assert after["allocatedResources"] == {"cpu": "150m", "memory": "32Mi"}
    assert inside(web, "cpu.max", "cpu/cpu.cfs_quota_us", "cpu,cpuacct/cpu.cfs_quota_us")[0] == "30000"
    until(lambda: "ResizeCompleted" in reasons(web), "ResizeCompleted")
    assert reasons(web).index("ResizeStarted") < reasons(web).index("ResizeCompleted")
    assert "PodResizeInProgress" not in conditions_of(web)


@pytest.mark.vm
def test_memory_whose_policy_says_so_restarts_the_container(web: Node) -> None:
    before = container_of(web)
    web("resize", "pod", "web", "--limits", "memory=128Mi")
    until(lambda: container_of(web)["restartCount"] == 1 and container_of(web)["ready"], "it was restarted")
    after = container_of(web)
    assert after["containerID"] != before["containerID"]
    assert after["resources"]["limits"]["memory"] == "128Mi"
    assert inside(web, "memory.max", "memory/memory.limit_in_bytes") == [str(128 << 20)]
    until(lambda: "ResizeCompleted" in reasons(web), "ResizeCompleted")


def test_more_than_the_node_has_is_refused(web: Node) -> None:
    done = web("resize", "pod", "web", "--requests", "cpu=9000", "--limits", "cpu=9000", check=False)
    assert done.returncode == 1
    assert (
        'pods "web" is forbidden: node didn\'t have enough allocatable resources: cpu, requested: 9000000'
        in done.stderr
    )
    assert container_of(web)["allocatedResources"]["cpu"] == "100m"
    assert web("resize", "pod", "web", "--limits", "cpu=200m").stdout == "pod/web resized (no change)\n"


def test_what_finds_no_room_beside_others_waits_until_they_are_gone(web: Node, tmp_path: Path) -> None:
    cpus = os.cpu_count() or 1
    other = POD.replace("name: web", "name: other").replace("cpu: 100m", f"cpu: {cpus * 1000 - 200}m")
    (tmp_path / "other.yaml").write_text(other.replace("cpu: 200m", f"cpu: {cpus}"))
    web("run", "-d", "--until", "ready", tmp_path / "other.yaml")
    assert "Deferred" in web("resize", "pod", "web", "--requests", "cpu=500m", "--limits", "cpu=600m").stderr
    until(lambda: "PodResizePending" in conditions_of(web), "it is pending")
    pending = conditions_of(web)["PodResizePending"]
    assert (pending["reason"], pending["observedGeneration"]) == ("Deferred", 2)
    assert pending["message"].startswith("Node didn't have enough resource: cpu, requested: 500, used: ")
    container = container_of(web)
    assert (container["resources"]["limits"]["cpu"], container["allocatedResources"]["cpu"]) == ("200m", "100m")
    web("delete", "pod", "other")
    until(lambda: container_of(web)["resources"]["limits"]["cpu"] == "600m", "there is room now")
    assert "PodResizePending" not in conditions_of(web)


def test_memory_does_not_fall_below_what_is_used(node: Node, tmp_path: Path) -> None:
    pod = POD.replace("restartPolicy: RestartContainer", "restartPolicy: NotRequired")
    hog = "dd if=/dev/zero of=/dev/shm/hog bs=1M count=20 2>/dev/null; trap 'exit 0' TERM;"
    (tmp_path / "web.yaml").write_text(pod.replace("trap 'exit 0' TERM;", hog))
    node("run", "-d", "--until", "ready", tmp_path / "web.yaml")
    until(lambda: "hog" in node("exec", "web", "--", "ls", "/dev/shm").stdout, "it has begun to use memory")
    time.sleep(0.5)
    node("resize", "pod", "web", "--requests", "memory=8Mi", "--limits", "memory=8Mi")
    until(lambda: conditions_of(node).get("PodResizeInProgress", {}).get("reason") == "Error", "the error is reported")
    message = conditions_of(node)["PodResizeInProgress"]["message"]
    assert message.startswith(
        "cannot decrease memory limits: [attempting to set pod memory limit (8388608) below current"
    )
    assert 'attempting to set container "main" memory limit (8388608) below current usage (' in message
    assert container_of(node)["resources"]["limits"]["memory"] == "64Mi"
    assert container_of(node)["restartCount"] == 0


def test_a_limit_cannot_make_another_qos_class(web: Node) -> None:
    done = web("resize", "pod", "web", "--requests", "cpu=200m,memory=64Mi", check=False)
    assert done.returncode != 0
    assert "QoS class" in done.stderr


def group_of(node: Node, *files: str) -> list[str]:
    """The same of the pod's own group, as the host sees it."""
    uid = node.pod("web")["metadata"]["uid"]  # type: ignore[index]
    for mount in {*find_mounts().values()}:
        for file in files:
            path = Path(f"{mount}{node.paths.cgroup_root}/kubepods/burstable/pod{uid}/{file}")
            if path.exists():
                return path.read_text().split()
    raise FileNotFoundError(files)


@pytest.mark.vm
def test_a_pod_as_a_whole_changes_while_its_containers_run_on(node: Node) -> None:
    node("run", "-d", "--until", "ready", "-", input=WHOLE)
    before = container_of(node)
    assert group_of(node, "cpu.max", "cpu.cfs_quota_us")[0] == "40000"
    node("resize", "pod", "web", "--pod", "--requests", "cpu=300m", "--limits", "cpu=600m,memory=256Mi")
    until(lambda: "ResizeCompleted" in reasons(node), "ResizeCompleted")
    status = status_of(node)
    assert status["resources"] == {
        "requests": {"cpu": "300m", "memory": "64Mi"},
        "limits": {"cpu": "600m", "memory": "256Mi"},
    }
    assert status["allocatedResources"] == {"cpu": "300m", "memory": "64Mi"}
    assert group_of(node, "cpu.max", "cpu.cfs_quota_us")[0] == "60000"
    assert group_of(node, "memory.max", "memory.limit_in_bytes") == [str(256 << 20)]
    after = container_of(node)
    assert (after["containerID"], after["restartCount"]) == (before["containerID"], 0)
