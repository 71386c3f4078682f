"""What the API server accepts and the rest of Kubernetes' stack refuses, on the running program."""

from __future__ import annotations

import json
import os

import pytest

from tests.builders import container, empty_dir, host_path, limits, manifest, mount, pod
from tests.node_fixtures import Node
from tests.volume_pods import wait_for

pytestmark = pytest.mark.vm

#: pod -> (state, reason, part of the message)
EXPECTED = {
    "relative": ("terminated", "StartError", "hostPath 'tmp/relative' is not absolute"),
    "host-nul": ("waiting", "CreateContainerError", "failed to stat"),
    "sub-nul": ("waiting", "CreateContainerConfigError", "failed to prepare subPath"),
    "mount-nul": ("terminated", "StartError", "mountPath '/a\\x00b': invalid argument"),
    "cwd": ("terminated", "StartError", "Cwd must be an absolute path"),
    "arg-nul": ("terminated", "StartError", "argument 1, 'a\\x00b'"),
}


def pods() -> list[dict[str, object]]:
    def with_volume(name: str, volume: dict[str, object], path: str = "/m", **fields: object) -> dict[str, object]:
        return pod(name, container("c", "true", volumeMounts=[mount("v", path, **fields)]), volumes=[volume])

    return [
        with_volume("relative", host_path("v", "tmp/relative")),
        with_volume("host-nul", host_path("v", "/tmp/a\0b")),
        with_volume("sub-nul", empty_dir("v"), subPath="x\0y"),
        with_volume("mount-nul", empty_dir("v"), "/a\0b"),
        pod("cwd", container("c", "true", workingDir="tmp")),
        pod("arg-nul", container("c") | {"command": ["echo", "a\0b"]}),
    ]


def test_each_is_refused_where_a_cluster_refuses_it_and_says_what_to_do(node: Node) -> None:
    node("apply", "-f", "-", input=manifest(*pods()))

    def states() -> dict[str, dict[str, dict[str, str]]]:
        items = json.loads(node("get", "pods", "-o", "json").stdout)["items"]
        return {
            item["metadata"]["name"]: item["status"]["containerStatuses"][0].get("state", {})
            for item in items
            if item["status"].get("containerStatuses")
        }

    def settled() -> bool:
        found = states()
        return all(
            found.get(name, {}).get(state, {}).get("reason") == reason for name, (state, reason, _) in EXPECTED.items()
        )

    try:
        wait_for(settled)
    finally:
        print(json.dumps(states(), indent=1))
    found = states()
    for name, (state, _, words) in EXPECTED.items():
        assert words in found[name][state]["message"], name
    assert not os.path.exists("/tmp/relative")


def test_a_memory_limit_that_nothing_starts_in_is_the_cause_that_is_named(node: Node) -> None:
    text = manifest(pod("memory", container("c", "true", resources=limits(memory="1"))))
    done = node("run", "-d", "-", input=text, check=False)
    assert "memory limit" in done.stderr
    assert "too low" in done.stderr


def test_limits_beyond_the_kernels_are_named_with_the_way_out(node: Node) -> None:
    text = manifest(
        pod("huge", container("c", "true", resources={**limits(cpu="1000000000"), "requests": {"cpu": "1m"}}))
    )
    done = node("run", "-d", "-", input=text, check=False)
    assert "the kernel does not take" in done.stderr
    assert "choose smaller resources.limits" in done.stderr
