"""No descriptor left, in the agent or the spawner: an error on the pods that need some, and all else works (node)."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import psutil

from tests import builders
from tests.builders import container
from tests.node_fixtures import Node
from tests.volume_pods import wait_for

PODS = 24
LOW = 128  # of which half is kept


def crowd(count: int) -> str:
    pods = [
        builders.pod(f"p{i}", container("a", "exec sleep 1000"), terminationGracePeriodSeconds=0, hostNetwork=True)
        for i in range(count)
    ]
    return builders.manifest(*pods)


def states(node: Node) -> dict[str, str]:
    """Name -> Running, or the reason for which its container waits, empty before its sandbox is there."""
    found = {}
    for pod in json.loads(node("get", "pods", "-o", "json").stdout)["items"]:
        [status] = pod["status"].get("containerStatuses") or [{"state": {}}]
        state = status["state"]
        found[pod["metadata"]["name"]] = "Running" if "running" in state else state.get("waiting", {}).get("reason", "")
    return found


def spawner_of(agent: int) -> psutil.Process:
    [spawner] = psutil.Process(agent).children()
    return spawner


def check_that_all_else_works(node: Node, refusal: str) -> None:
    """And that pods can start again once there is room."""
    wait_for(lambda: any(refusal in line for line in node("events").stdout.splitlines()))
    running = [name for name, state in states(node).items() if state == "Running"]
    assert 0 < len(running) < PODS
    message = next(line for line in node("events").stdout.splitlines() if refusal in line)
    assert "delete pods, or start the agent with a higher hard limit (ulimit -Hn, LimitNOFILE= of its unit)" in message
    for name in running[:2]:
        assert node("exec", name, "--", "echo", "hi").stdout == "hi\n"
        node("status")
        node("delete", "pod", name)
    left = [name for name in states(node) if name not in running]
    node("delete", "pod", *left)
    assert set(states(node)) == set(running[2:])
    node("run", "-d", "--timeout=20s", "-", input=crowd(PODS).split("---")[int(running[0][1:])])


def test_an_agent_without_free_descriptors_refuses_pods_and_does_all_else(node: Node) -> None:
    node("run", "-d", "-", input=crowd(1))
    agent = node.agent_pid()
    assert agent is not None
    hard = resource.prlimit(agent, resource.RLIMIT_NOFILE)[1]
    resource.prlimit(agent, resource.RLIMIT_NOFILE, (LOW, hard))
    node("apply", "-f", "-", input=crowd(PODS))
    check_that_all_else_works(node, "no descriptor is free for another container: the agent has ")
    assert "Too many open files" not in Path(node.paths.root, "agent.log").read_text()
    assert psutil.Process(agent).num_fds() <= LOW - LOW // 4


def test_a_spawner_without_free_descriptors_refuses_pods_and_does_all_else(node: Node) -> None:
    node("run", "-d", "-", input=crowd(1))
    agent = node.agent_pid()
    assert agent is not None
    spawner = spawner_of(agent)
    hard = resource.prlimit(spawner.pid, resource.RLIMIT_NOFILE)[1]
    resource.prlimit(spawner.pid, resource.RLIMIT_NOFILE, (LOW, hard))
    node("apply", "-f", "-", input=crowd(PODS))
    check_that_all_else_works(node, "no descriptor is free for another container: the spawner has ")


def test_a_spawner_that_cannot_accept_waits_and_serves_the_agent_once_it_can(node: Node) -> None:
    node("run", "-d", "-", input=crowd(1))
    agent = node.agent_pid()
    assert agent is not None
    spawner = spawner_of(agent)
    before = resource.prlimit(spawner.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(spawner.pid, resource.RLIMIT_NOFILE, (3, before[1]))
    process = psutil.Process(agent)
    process.kill()
    psutil.wait_procs([process], timeout=10)
    waiting = node.popen("exec", "p0", "--", "echo", "hi")
    log = Path(node.paths.root, "agent.log")
    wait_for(lambda: log.read_text().count("spawner: accept: Too many open files") >= 5)
    used = spawner.cpu_times()
    assert used.user + used.system < 1.0
    assert log.read_text().count("spawner: accept") < 100
    resource.prlimit(spawner.pid, resource.RLIMIT_NOFILE, before)
    assert waiting.communicate(timeout=30)[0] == "hi\n"
    assert spawner.is_running()
