"""What goes on where it was after the agent's death, and what begins anew after a reboot (node, root)."""

from __future__ import annotations

import asyncio
import calendar
import json
import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from minipod.config import Config
from minipod.runtime.facts import host_facts
from minipod.runtime.runtime import Runtime
from tests.node_fixtures import Node
from tests.patience import SLOWNESS

WAIT_S = 30.0 * SLOWNESS
TRAPPED = "trap 'exit 0' TERM; while :; do sleep 0.1 & wait; done"


def container(name: str, script: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "image": "busybox", "command": ["sh", "-c", script], **more}


def start(node: Node, name: str, until: str = "created", **spec: Any) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
    node("run", "-d", "--until", until, "-", input=json.dumps(pod))


def status_of(node: Node, name: str) -> dict[str, Any]:
    pod: Any = node.pod(name)
    status: dict[str, Any] = pod["status"]
    return status


def container_of(node: Node, name: str, which: int = 0) -> dict[str, Any]:
    statuses = status_of(node, name).get("containerStatuses") or [{"state": {}}, {"state": {}}]
    found: dict[str, Any] = statuses[which]
    return found


def until(condition: Callable[[], bool], what: str, timeout_s: float = WAIT_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.1)


def seconds(stamp: str) -> float:
    return calendar.timegm(time.strptime(stamp, "%Y-%m-%dT%H:%M:%SZ"))


def kill_agent(node: Node) -> None:
    pid = node.agent_pid()
    assert pid is not None
    agent = psutil.Process(pid)
    agent.kill()
    psutil.wait_procs([agent], timeout=WAIT_S)


@pytest.mark.vm
def test_a_back_off_goes_on_where_it_was(node: Node) -> None:
    start(node, "web", terminationGracePeriodSeconds=1, containers=[container("main", "exit 3")])
    until(lambda: container_of(node, "web")["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff", "back-off")
    before = container_of(node, "web")
    kill_agent(node)
    after = container_of(node, "web")
    assert after["restartCount"] == before["restartCount"] == 1
    assert "back-off 10s" in after["state"]["waiting"]["message"]
    until(lambda: container_of(node, "web")["restartCount"] == 2, "the next restart")
    ended = before["lastState"]["terminated"]["finishedAt"]
    state = container_of(node, "web")
    run = state["state"].get("running") or state["state"].get("terminated") or state["lastState"]["terminated"]
    began = run["startedAt"]
    assert 10 <= seconds(began) - seconds(ended) <= 12 * SLOWNESS


@pytest.mark.vm
def test_an_end_that_nobody_saw_is_reported_with_its_true_code_and_time(node: Node) -> None:
    start(node, "web", restartPolicy="Never", containers=[container("main", "sleep 2; exit 7")])
    until(lambda: "running" in container_of(node, "web")["state"], "it runs")
    began = time.time()
    kill_agent(node)
    time.sleep(5 * SLOWNESS)
    ended = container_of(node, "web")["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (7, "Error")
    assert seconds(ended["finishedAt"]) - began <= 3 * SLOWNESS


@pytest.mark.vm
def test_deadlines_grace_periods_and_readiness_go_on(node: Node) -> None:
    ready = {"readinessProbe": {"exec": {"command": ["test", "-e", "/ok"]}, "periodSeconds": 1, "failureThreshold": 1}}
    start(node, "deadline", terminationGracePeriodSeconds=1, activeDeadlineSeconds=6,
          containers=[container("main", TRAPPED)])  # fmt: skip
    start(
        node, "ready", terminationGracePeriodSeconds=1, containers=[container("main", f"touch /ok; {TRAPPED}", **ready)]
    )
    stubborn = container("main", "trap '' TERM; while :; do sleep 1; done")
    start(node, "stubborn", "ready", terminationGracePeriodSeconds=5, containers=[stubborn])
    until(lambda: container_of(node, "ready")["ready"], "it is ready")
    asked = time.monotonic()
    with node.popen("delete", "pod", "stubborn") as deletion:
        until(lambda: "deletionTimestamp" in str(node.pod("stubborn")), "it is being deleted")
        kill_agent(node)
        deletion.kill()
    node("get", "pods")
    assert container_of(node, "ready")["ready"], "what was ready stays ready"
    until(lambda: node("get", "pods", "stubborn", check=False).returncode != 0, "it is gone")
    assert 4 <= time.monotonic() - asked <= 12 * SLOWNESS
    until(lambda: status_of(node, "deadline").get("reason") == "DeadlineExceeded", "the deadline holds")
    status = status_of(node, "deadline")
    ended = status["containerStatuses"][0]["state"]["terminated"]["finishedAt"]
    assert 5 <= seconds(ended) - seconds(status["startTime"]) <= 10 * SLOWNESS
    node("exec", "ready", "--", "rm", "/ok")
    until(lambda: not container_of(node, "ready")["ready"], "it is still probed")


# -- a reboot


def reboot(node: Node) -> None:
    """Removes everything that a reboot removes, and gives the store another boot id."""
    kill_agent(node)

    async def wipe() -> None:
        runtime = Runtime(node.paths, Config(), host_facts(Config()))
        await runtime.open()
        for sandbox in runtime.list_pod_sandboxes():
            await runtime.remove_pod_sandbox(sandbox.id)
        await runtime.close()

    asyncio.run(wipe())
    for process in psutil.process_iter(["cmdline"]):
        if any(word.startswith(f"{node.paths.root}/") for word in process.info["cmdline"] or []):
            os.kill(process.pid, signal.SIGKILL)
    for entry in Path(node.paths.root).iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    with sqlite3.connect(f"{node.paths.state}/minipod.db") as db:
        assert db.execute("UPDATE meta SET value = 'another boot' WHERE key = 'boot_id'").rowcount == 1
    db.close()


def test_after_a_reboot_pods_start_anew_by_their_restart_policy(node: Node) -> None:
    mount = {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    init = container("init", "echo again >> /data/inits", **mount)
    volumes = [{"name": "data", "emptyDir": {}}]
    start(node, "web", "ready", terminationGracePeriodSeconds=1, volumes=volumes, initContainers=[init],
          containers=[container("main", TRAPPED, **mount)])  # fmt: skip
    start(node, "job", terminationGracePeriodSeconds=1, restartPolicy="OnFailure",
          containers=[container("done", "exit 0"), container("going", TRAPPED)])  # fmt: skip
    start(node, "never", terminationGracePeriodSeconds=1, restartPolicy="Never",
          containers=[container("main", TRAPPED)])  # fmt: skip
    until(lambda: "terminated" in container_of(node, "job")["state"], "one has succeeded")
    until(lambda: "running" in container_of(node, "never")["state"], "it runs")
    before = status_of(node, "web")
    reboot(node)
    until(lambda: container_of(node, "web").get("ready") is True, "it runs again")
    after = status_of(node, "web")
    assert after["containerStatuses"][0]["containerID"] != before["containerStatuses"][0]["containerID"]
    assert after["containerStatuses"][0]["restartCount"] == 1
    assert after["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] == 137
    assert node("exec", "web", "--", "cat", "/data/inits").stdout == "again\nagain\n"
    until(lambda: container_of(node, "job", 1).get("ready") is True, "the other runs again")
    done = container_of(node, "job")
    assert (done["restartCount"], done["state"]["terminated"]["exitCode"]) == (0, 0)
    until(lambda: status_of(node, "never")["phase"] == "Failed", "what is never restarted has failed")
