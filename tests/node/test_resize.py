"""In-place resize on the real kernel: groups get new limits while their processes go on (node, root)."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

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


def test_more_than_the_node_has_stays_pending_and_can_be_taken_back(web: Node) -> None:
    done = web("resize", "pod", "web", "--requests", "cpu=9000", "--limits", "cpu=9000")
    assert "Infeasible" in done.stderr
    until(lambda: "PodResizePending" in conditions_of(web), "it is pending")
    pending = conditions_of(web)["PodResizePending"]
    assert pending["reason"] == "Infeasible"
    assert "requested: 9000000" in pending["message"]
    container = container_of(web)
    assert container["resources"]["limits"]["cpu"] == "200m"
    assert container["allocatedResources"]["cpu"] == "100m"
    assert web.pod("web")["spec"]["containers"][0]["resources"]["limits"]["cpu"] in ("9k", "9000")  # type: ignore[index]
    web("resize", "pod", "web", "--requests", "cpu=100m", "--limits", "cpu=250m")
    until(lambda: container_of(web)["resources"]["limits"]["cpu"] == "250m", "it fits again")
    assert "PodResizePending" not in conditions_of(web)


def test_a_limit_cannot_make_another_qos_class(web: Node) -> None:
    done = web("resize", "pod", "web", "--requests", "cpu=200m,memory=64Mi", check=False)
    assert done.returncode != 0
    assert "QoS class" in done.stderr
