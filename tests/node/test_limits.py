"""Limits as containers meet them: out of memory, what they see of their group, devices, exec; on v1 and v2."""

from __future__ import annotations

import contextlib
import json
import re
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from minipod.kernel.mount import mount, umount
from minipod.runtime.facts import host_facts
from tests import builders
from tests.node_fixtures import COMMAND_TIMEOUT_S, Node

pytestmark = pytest.mark.vm

FACTS = host_facts()
LIMITS = {"requests": {"cpu": "250m"}, "limits": {"cpu": "500m", "memory": "32Mi"}}
HOG = "dd if=/dev/zero of=/dev/null bs=100M count=1"
only_v2 = pytest.mark.skipif(FACTS.cgroup_version != 2, reason="v1 has no memory.oom.group")


def may_lower_oom_score_adj() -> bool:
    """CAP_SYS_RESOURCE (24): without it a process's oom_score_adj can only be raised (proc_pid_oom_score_adj(5))."""
    (effective,) = re.findall(r"CapEff:\s+(\w+)", Path("/proc/self/status").read_text())
    return bool(int(effective, 16) >> 24 & 1)


def manifest(folder: Path, name: str, script: str, resources: dict[str, dict[str, str]]) -> str:
    container = {"name": "main", "image": "busybox", "command": ["sh", "-c", script], "resources": resources}
    spec = {"restartPolicy": "Never", "containers": [container]}
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}))
    return str(path)


def terminated(node: Node, name: str) -> dict[str, Any]:
    """The end of the pod's only container, once it has come."""
    deadline = time.monotonic() + COMMAND_TIMEOUT_S
    while True:
        status: Any = node.pod(name)["status"]
        state: dict[str, Any] = status["containerStatuses"][0]["state"]
        if "terminated" in state:
            ended: dict[str, Any] = state["terminated"]
            return ended
        assert time.monotonic() < deadline, f"{name} does not end: {state}"
        time.sleep(0.1)


def test_a_container_over_its_memory_limit_is_oom_killed(node: Node, tmp_path: Path) -> None:
    node("run", "-d", "--until", "created", manifest(tmp_path, "hog", f"exec {HOG}", LIMITS))
    ended = terminated(node, "hog")
    assert (ended["reason"], ended["exitCode"]) == ("OOMKilled", 137)


def test_a_limit_too_low_to_start_with_is_reported(node: Node, tmp_path: Path) -> None:
    limits = {"limits": {"memory": "256Ki"}}
    done = node("run", manifest(tmp_path, "tiny", "echo never", limits), check=False)
    assert done.returncode == 3
    assert "out of memory, its memory limit is too low" in done.stderr


@only_v2
def test_a_child_over_the_limit_takes_its_whole_container_along(node: Node, tmp_path: Path) -> None:
    node("run", "-d", "--until", "created", manifest(tmp_path, "family", f"{HOG}; sleep 1000", LIMITS))
    ended = terminated(node, "family")
    assert (ended["reason"], ended["exitCode"]) == ("OOMKilled", 137)


def test_a_container_sees_its_own_limits_and_cannot_change_them(node: Node, tmp_path: Path) -> None:
    v2 = FACTS.cgroup_version == 2
    memory, cpu, pids = ("", "", "") if v2 else ("memory/", "cpu/", "pids/")
    script = f"""
        cd /sys/fs/cgroup
        cat {memory}{"memory.max" if v2 else "memory.limit_in_bytes"}
        cat {cpu}{"cpu.max" if v2 else "cpu.cfs_quota_us"} {cpu}{"cpu.weight" if v2 else "cpu.shares"}
        grep -c '^1$' {pids}cgroup.procs
        mkdir {memory}below 2>/dev/null || echo no group below
        echo max 2>/dev/null >{pids}pids.max || echo no other limit
        grep -c ' /sys/fs/cgroup/*[a-z,]* ro,' /proc/self/mountinfo >/dev/null && echo read-only
        cut -d: -f3 /proc/self/cgroup | sort -u
        mknod /tmp/kmsg c 1 11 && cat /tmp/kmsg 2>&1
        echo end
    """
    done = node("run", manifest(tmp_path, "view", script, LIMITS))
    seen = done.stdout.splitlines()
    values = ["33554432", "50000 100000", "35"] if v2 else ["33554432", "50000", "256"]
    assert seen == [
        *values,
        "1",
        "no group below",
        "no other limit",
        "read-only",
        "/",
        "cat: can't open '/tmp/kmsg': Operation not permitted",
        "end",
    ]


def test_an_exec_is_in_the_group_of_its_container(node: Node, tmp_path: Path) -> None:
    node("run", "-d", "--until", "ready", manifest(tmp_path, "idle", "trap 'exit 0' TERM; sleep 1000 & wait", LIMITS))
    groups = node(
        "exec", "idle", "--", "sh", "-c", "cut -d: -f3 /proc/self/cgroup | sort -u; cat /proc/self/oom_score_adj"
    )
    assert groups.stdout.splitlines()[0] == "/"
    hog = node("exec", "idle", "--", *HOG.split(), check=False)
    assert hog.returncode == 137
    if FACTS.cgroup_version == 2:
        assert terminated(node, "idle")["reason"] == "OOMKilled"


def test_a_guaranteed_container_is_the_last_to_be_killed_where_root_may_say_so(node: Node, tmp_path: Path) -> None:
    limits = {"limits": {"cpu": "500m", "memory": "32Mi"}}
    done = node("run", manifest(tmp_path, "sure", "cat /proc/self/oom_score_adj", limits))
    if may_lower_oom_score_adj():
        assert done.stdout == "-997\n"
    else:
        assert int(done.stdout) <= 0


def referring(levels: int, width: int, count: int = 0) -> dict[str, Any]:
    """Variables of so many references each to the one before, then `count` of one to the last."""
    env = [{"name": "V0", "value": "x" * 16}]
    env += [{"name": f"V{level}", "value": f"$(V{level - 1})" * width} for level in range(1, levels + 1)]
    env += [{"name": f"W{number}", "value": f"$(V{levels})"} for number in range(count)]
    return {"env": env}


@pytest.mark.parametrize(
    "container",
    [
        referring(6, 16),
        referring(3, 16, count=1000),
        {"env": [{"name": "V", "value": "x" * 200_000}]},
        {"args": ["x" * 200_000]},
        {"args": ["x" * 60_000] * 40},
    ],
    ids=["268 MB", "65 MB in a thousand", "a long variable", "a long argument", "many arguments"],
)
def test_a_command_that_no_kernel_takes_is_no_work_for_the_agent(node: Node, container: dict[str, Any]) -> None:
    """859 bytes of references took 24 s and 2.3 GB; execve(2) refuses what comes of them."""
    made = builders.pod("long", {**builders.container("c"), "command": ["true"], **container})
    beside = builders.pod("p", builders.container("c", "sleep 1000"))
    node("run", "-d", "--until", "created", "-", input=builders.manifest(beside))
    agent = psutil.Process(node.agent_pid())
    before, used = agent.memory_info().rss, sum(agent.cpu_times()[:2])
    node("run", "-d", "--until", "created", "-", input=builders.manifest(made))
    ended = terminated(node, "long")
    assert (ended["reason"], ended["exitCode"]) == ("StartError", 128)
    assert "argument list too long" in ended["message"]
    assert agent.memory_info().rss - before < 64 << 20
    assert sum(agent.cpu_times()[:2]) - used < 2


def test_a_pod_that_has_all_its_processes_is_named_with_the_limit_and_the_remedy(node: Node, tmp_path: Path) -> None:
    node.configure("pod_pids_limit = 1")
    node("run", "-d", "-", input=builders.manifest(builders.pod("p", builders.container("a", "exec sleep 1000"))))
    done = node("exec", "p", "--", "true", check=False)
    assert done.returncode != 0
    assert "Resource temporarily unavailable: no more processes in cgroup /" in done.stderr
    assert "(pids.max): end some, or raise pod_pids_limit in the configuration" in done.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("size=1m", "no more space on the file system of "),
        ("size=8m,nr_inodes=30", "no more inodes on the file system of "),
    ],
)
def test_a_full_file_system_of_the_root_is_named_by_what_it_lacks(
    node: Node, tmp_path: Path, options: str, words: str
) -> None:
    root = Path(node.paths.root)
    root.mkdir(parents=True, exist_ok=True)
    mount("tmpfs", str(root), "tmpfs", 0, f"{options},mode=755")
    try:
        node(
            "run", "-d", "-", input=builders.manifest(builders.pod("first", builders.container("a", "exec sleep 1000")))
        )
        number = 0
        with contextlib.suppress(OSError):
            while True:
                (root / f"rest{number}").write_bytes(bytes(4096))
                number += 1
        second = builders.pod("second", builders.container("a", "true"))
        refused = node("run", "-d", "--timeout=10s", "-", input=builders.manifest(second), check=False)
        assert refused.returncode != 0
        assert f"no space left on device: {words}" in refused.stderr
        for rest in root.glob("rest*"):
            rest.unlink()
        node("delete", "pod", "first", "second", "--force", "--ignore-not-found")
        node.close()
    finally:
        umount(str(root), 2)
