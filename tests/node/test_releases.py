"""Today's agent takes over what a released version left: `tests/data/releases` (node, root)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from minipod.paths import Paths
from tests import releases
from tests.node_fixtures import Node
from tests.volume_pods import wait_for

WAIT_S = 40.0
#: pods that start anew after a boot, by their restart policies, with how often their first container was restarted then
RESTARTED = {"web": 1, "sidecar": 1, "host": 1, "shared": 1, "half": 0}


@pytest.fixture(params=releases.VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


def prepare(node: Node, version: str, boot: str | None, *without: str) -> None:
    """The folders of that version, but for the image store, and what its pods have of the host."""
    releases.thaw(version, node.paths, boot, ("state/images", *without))
    for name in ("gate", "shelf"):
        Path(node.paths.state, name).mkdir()
    node.configure(releases.CONFIGURATION)


def statuses(node: Node) -> dict[str, dict[str, Any]]:
    listing = json.loads(node("get", "pods", "-A", "-o", "json").stdout)
    return {pod["metadata"]["name"]: pod["status"] for pod in listing["items"]}


def is_back(status: dict[str, Any], restarts: int) -> bool:
    """It runs again. Until the agent has come to a pod, its status is that of before."""
    containers = status["containerStatuses"]
    ready = all(container["ready"] or "terminated" in container["state"] for container in containers)
    return ready and containers[0]["restartCount"] == restarts and containers[-1]["restartCount"] == 1


def clear(node: Node, paths: Paths) -> None:
    """Every object can be deleted, and nothing is left: the fixtures look at it once more."""
    for namespace in ("default", "other"):
        node("delete", "pods", "--all", "-n", namespace, "--grace-period=0", "--force")
    for kind, *names in (("pvc", "data", "shelf"), ("pv", "shelf"), ("configmap", "settings"), ("secret", "login")):
        node("delete", kind, *names)
    wait_for(lambda: not list(Path(paths.state).glob("pods/*")), WAIT_S)


def test_pods_of_a_release_whose_processes_are_gone_are_taken_over_and_deleted(node: Node, version: str) -> None:
    prepare(node, version, None)
    wait_for(lambda: not {"leaving", "foreground"} & statuses(node).keys(), WAIT_S)
    found = statuses(node)
    assert (found["succeeded"]["phase"], found["failed"]["phase"]) == ("Succeeded", "Failed")
    assert found["failed"]["containerStatuses"][0]["state"]["terminated"]["message"] == "bad\n"
    wait_for(lambda: statuses(node)["ends"]["phase"] == "Failed", WAIT_S)
    assert statuses(node)["ends"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 7
    clear(node, node.paths)


def test_pods_of_a_release_start_anew_after_a_boot(node: Node, version: str) -> None:
    prepare(node, version, "another boot", "root")
    wait_for(lambda: all(is_back(statuses(node)[name], count) for name, count in RESTARTED.items()), WAIT_S)
    found = statuses(node)
    assert (found["succeeded"]["phase"], found["ends"]["phase"]) == ("Succeeded", "Failed")
    assert node("exec", "web", "--", "cat", "/settings/greeting").stdout == "good morning"
    assert node("exec", "web", "--", "sh", "-c", "echo $PASSWORD").stdout == "only an example\n"
    assert node("get", "pod", "web", "-o", "jsonpath={.metadata.labels.tier}").stdout == "front"
    clear(node, node.paths)
