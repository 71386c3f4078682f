"""`minipod status`: what the processes take is what the kernel says of them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import psutil

from tests.builders import container, manifest, pod
from tests.node_fixtures import Node

MIB = 1 << 20


def test_agent_spawner_and_pods_are_shown_with_their_processes(node: Node, tmp_path: Path) -> None:
    assert node("status").stdout == "no agent runs\n"
    path = tmp_path / "pods.yaml"
    busy = container("c", "sleep 1000 & i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done; touch /ready; wait")
    busy["readinessProbe"] = {"exec": {"command": ["test", "-e", "/ready"]}, "periodSeconds": 1}
    path.write_text(manifest(pod("busy", busy), pod("idle", container("c", "exec sleep 1000"))))
    node("run", "-d", "--until", "ready", "--timeout", "60s", str(path))
    found = json.loads(node("status", "-o", "json").stdout)

    assert found["agent"]["pid"] == node.agent_pid()
    assert found["agent"]["pods"] == 2
    assert 10 * MIB < found["agent"]["memory_bytes"] < 60 * MIB
    assert found["agent"]["cpu_s"] > 0
    (spawner,) = found["spawners"]
    assert psutil.Process(spawner["pid"]).name() == "minipod-spawner"
    assert (spawner["processes"], spawner["threads"]) == (1, 1)
    assert spawner["descriptors"] >= len(os.listdir(f"/proc/{spawner['pid']}/fd")) - 2
    assert 2 * MIB < spawner["memory_bytes"] < found["agent"]["memory_bytes"]
    pods = {each["name"]: each for each in found["pods"]}
    assert pods["idle"]["processes"] == 1
    assert pods["busy"]["processes"] >= 2
    assert pods["busy"]["cpu_s"] > pods["idle"]["cpu_s"]
    assert all(each["memory_bytes"] > 0 for each in pods.values())

    lines = node("status").stdout.splitlines()
    assert lines[0].startswith("agent ")
    assert lines[1].split() == ["NAME", "PID", "PROCESSES", "MEMORY", "CPU", "THREADS", "DESCRIPTORS"]
    assert [line.split("  ")[0] for line in lines[2:]] == ["agent", "spawner", "pod default/busy", "pod default/idle"]
