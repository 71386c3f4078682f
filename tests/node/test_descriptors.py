"""No descriptor left, in the agent or the spawner: an error on the pods that need some, and all else works (node)."""

from __future__ import annotations

import json
import os
import resource
import subprocess
from pathlib import Path

import psutil
import pytest

from minipod.kernel import inherit
from tests import builders
from tests.builders import container
from tests.node_fixtures import COMMAND_TIMEOUT_S, Node
from tests.spawner_host import spawner_of
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
    waiting = node.popen("exec", "p0", "--", "echo", "hi", stderr=subprocess.DEVNULL)
    log = Path(node.paths.root, "agent.log")
    wait_for(lambda: log.read_text().count("spawner: accept: Too many open files") >= 5)
    used = spawner.cpu_times()
    assert used.user + used.system < 1.0
    assert log.read_text().count("spawner: accept") < 100
    resource.prlimit(spawner.pid, resource.RLIMIT_NOFILE, before)
    assert waiting.communicate(timeout=30)[0] == "hi\n"
    assert spawner.is_running()


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--nofile=20:20", "the caller's limit is 20 open files, an agent needs 128"),
        ("--as=100000000:100000000", "100000000 bytes of address space, an agent needs 268435456"),
        ("--data=30000000:30000000", "30000000 bytes of data, an agent needs 268435456"),
    ],
)
def test_a_caller_with_a_tiny_hard_limit_learns_which_it_is(node: Node, option: str, words: str) -> None:
    """It may be one that this host's root can raise."""
    command = ["prlimit", option, *node.command("run", "-d", "--timeout=20s", "-")]
    done = subprocess.run(
        command, input=crowd(1), capture_output=True, text=True, env=os.environ | node.env, check=False,
        timeout=COMMAND_TIMEOUT_S,
    )  # fmt: skip
    if done.returncode == 0:
        assert inherit.may_raise_limits()
    else:
        assert done.returncode == 3
        assert words in done.stderr
        assert "Traceback" not in done.stderr


def test_a_command_that_waits_for_an_agent_learns_what_the_agent_waits_for(node: Node) -> None:
    node("run", "-d", "-", input=crowd(1))
    agent = node.agent_pid()
    assert agent is not None
    spawner = spawner_of(agent)
    spawner.suspend()
    try:
        process = psutil.Process(agent)
        process.kill()
        psutil.wait_procs([process], timeout=10)
        waiting = node.popen("exec", "p0", "--", "echo", "hi", stderr=subprocess.PIPE)
        assert waiting.stderr is not None
        line = waiting.stderr.readline()
        log = f"{node.paths.root}/agent.log"
        assert line.startswith(f"still waiting for the agent: it starts; {log} ends with: ")
        assert "has not answered for 2 s: a process that is stopped or hangs cannot" in line
    finally:
        spawner.resume()
    assert waiting.communicate(timeout=30)[0] == "hi\n"


def test_an_agent_warns_of_what_a_thousand_pods_would_meet(node: Node) -> None:
    node.configure('ipv4_subnet = "10.222.7.0/24"')
    node("run", "-d", "-", input=crowd(1))
    log = Path(node.paths.root, "agent.log")
    line = "room for 244 more pods: at most 256 addresses for pods (ipv4_subnet in the configuration): for 1000: set a "
    wait_for(lambda: line in log.read_text())


OPEN_FILES = "echo $(ulimit -Sn) $(ulimit -Hn)"


@pytest.mark.parametrize("soft", [256, 1024, 4096])
def test_what_runs_in_a_pod_may_open_as_many_files_whatever_the_caller_s_soft_limit(node: Node, soft: int) -> None:
    """Agent and spawner may open as many as the hard limit says; containers, hooks, execs and debug containers have a
    service's limits."""
    hook = {"postStart": {"exec": {"command": ["sh", "-c", f"{OPEN_FILES} > /tmp/hook"]}}}
    main = container("a", f"{OPEN_FILES}; exec sleep 1000", lifecycle=hook)
    pod = builders.pod("p", main, terminationGracePeriodSeconds=0)
    command = ["prlimit", f"--nofile={soft}:", *node.command("run", "-d", "--until", "ready", "-")]
    subprocess.run(command, input=builders.manifest(pod), text=True, env=os.environ | node.env, check=True,
                   timeout=COMMAND_TIMEOUT_S)  # fmt: skip
    agent = node.agent_pid()
    assert agent is not None
    hard = resource.prlimit(agent, resource.RLIMIT_NOFILE)[1]
    for process in (agent, spawner_of(agent).pid):
        assert resource.prlimit(process, resource.RLIMIT_NOFILE) == (hard, hard)
    expected = f"1024 {min(hard, inherit.OPEN_FILES)}\n"
    assert node("logs", "p").stdout == expected
    assert node("exec", "p", "--", "sh", "-c", OPEN_FILES).stdout == expected
    assert node("exec", "p", "--", "cat", "/tmp/hook").stdout == expected
    debugged = node("debug", "p", "--image=busybox", "-i", "--", "sh", "-c", OPEN_FILES)
    assert expected in debugged.stdout
