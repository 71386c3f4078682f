"""A host has no address and no port left: what comes last is refused with the reason, and starts once there is one."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests import builders
from tests.builders import container
from tests.node_fixtures import Node
from tests.patience import SLOWNESS

#: eight addresses: the network's, the broadcast's and the bridge's are no pod's
SUBNETS = 'ipv4_subnet = "10.234.1.0/29"\nipv6_subnet = "fd6d:7001::/64"\n'
PODS = 5
PORT = 28931
WAIT_S = 40.0 * SLOWNESS
SERVER = "trap 'exit 0' TERM; while :; do sleep 0.1; done"


def apply(node: Node, folder: Path, *pods: builders.Object) -> None:
    path = folder / "pods.yaml"
    path.write_text(builders.manifest(*pods))
    node("apply", "-f", path)


def status(node: Node, name: str) -> dict[str, Any]:
    found: Any = node.pod(name)["status"]
    return dict(found)


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def is_refused(node: Node, name: str, words: str) -> bool:
    events = node("events", "--for", f"pod/{name}").stdout
    return "Warning" in events and words in events


def test_a_pod_for_which_there_is_no_address_starts_once_there_is_one(node: Node, tmp_path: Path) -> None:
    node.configure(SUBNETS)
    apply(node, tmp_path, *(builders.pod(f"p{number}", container("a", SERVER)) for number in range(PODS)))
    wait_for(lambda: all(status(node, f"p{n}")["phase"] == "Running" for n in range(PODS)), "all addresses are used")
    apply(node, tmp_path, builders.pod("late", container("a", SERVER)))
    wait_for(lambda: is_refused(node, "late", "address"), "an event says that there is no address")
    assert status(node, "late")["phase"] == "Pending"
    node("delete", "pod", "p0")
    wait_for(lambda: status(node, "late")["phase"] == "Running", "the address of the pod that is gone is used")


def test_a_pod_whose_port_is_taken_starts_once_it_is_free(node: Node, tmp_path: Path) -> None:
    ports = [{"containerPort": 80, "hostPort": PORT, "hostIP": "127.0.0.1"}]
    apply(node, tmp_path, builders.pod("first", container("a", SERVER, ports=ports)))
    wait_for(lambda: status(node, "first")["phase"] == "Running", "the port is used")
    apply(node, tmp_path, builders.pod("late", container("a", SERVER, ports=ports)))
    wait_for(lambda: is_refused(node, "late", str(PORT)), "an event names the port")
    node("delete", "pod", "first")
    wait_for(lambda: status(node, "late")["phase"] == "Running", "the port is free")
