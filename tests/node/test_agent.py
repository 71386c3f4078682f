"""The agent with the real runtime: ends by kill -9 of everything, ownership, starting twice (node, root)."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from minipod.kernel.cgroup import find_mounts
from tests import builders
from tests.leaks import is_alive
from tests.node_fixtures import Node
from tests.patience import SLOWNESS

WAIT_S = 20.0 * SLOWNESS

POD = """
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  restartPolicy: {policy}
  terminationGracePeriodSeconds: {grace}
  containers:
  - name: main
    image: busybox
    command: [sh, -c, {script}]
"""
#: obeys SIGTERM at once, and says what its process id is on the outside of nothing: it is 1
OBEDIENT = "trap 'exit 0' TERM; echo begun; while :; do sleep 1 & wait; done"


def manifest(folder: Path, name: str = "web", policy: str = "Always", script: str = OBEDIENT, grace: int = 10) -> str:
    path = folder / f"{name}.yaml"
    path.write_text(POD.format(name=name, policy=policy, grace=grace, script=repr(script).replace("'trap", "'trap")))
    return str(path)


def until(condition: Callable[[], bool], what: str, timeout_s: float = WAIT_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.05)


def is_ready(node: Node, name: str) -> bool:
    return bool(container_of(node, name).get("ready"))


def was_restarted(node: Node, name: str) -> bool:
    return bool(container_of(node, name).get("restartCount") == 1)


def main_pid(node: Node, name: str) -> int:
    """The first process of the pod's only container, found by its cgroup."""
    pod: Any = node.pod(name)
    container = pod["status"]["containerStatuses"][0]["containerID"].partition("://")[2]
    for process in psutil.process_iter():
        try:
            with open(f"/proc/{process.pid}/cgroup") as file:
                if container in file.read() and process.ppid() and "sh" in process.name():
                    parent = psutil.Process(process.ppid())
                    if parent.name() != "sh":
                        return int(process.pid)
        except (FileNotFoundError, ProcessLookupError, psutil.NoSuchProcess):
            continue
    raise AssertionError(f"no process of pod {name}")


def status_of(node: Node, name: str) -> dict[str, Any]:
    pod: Any = node.pod(name)
    status: dict[str, Any] = pod["status"]
    return status


def container_of(node: Node, name: str) -> dict[str, Any]:
    statuses = status_of(node, name).get("containerStatuses") or [{}]
    container: dict[str, Any] = statuses[0]
    return container


def kill_agent(node: Node) -> None:
    pid = node.agent_pid()
    assert pid is not None
    agent = psutil.Process(pid)
    agent.kill()
    until(lambda: not agent.is_running() or agent.status() == psutil.STATUS_ZOMBIE, "the agent is dead")


@pytest.mark.vm
def test_each_restart_policy_after_a_kill_9_of_the_main_process(node: Node, tmp_path: Path) -> None:
    files = [manifest(tmp_path, policy.lower(), policy) for policy in ("Always", "OnFailure", "Never")]
    node("run", "-d", "--until", "ready", *files)
    before = {name: container_of(node, name)["containerID"] for name in ("always", "onfailure", "never")}
    for name in before:
        os.kill(main_pid(node, name), signal.SIGKILL)
    for name in ("always", "onfailure"):
        until(partial(was_restarted, node, name), f"{name} is restarted")
        until(partial(is_ready, node, name), f"{name} is ready")
        container = container_of(node, name)
        assert container["containerID"] != before[name]
        ended = container["lastState"]["terminated"]
        assert (ended["exitCode"], ended["reason"], ended["containerID"]) == (137, "Error", before[name])
    until(lambda: status_of(node, "never")["phase"] == "Failed", "never has failed")
    container = container_of(node, "never")
    assert container["state"]["terminated"]["exitCode"] == 137
    assert container["restartCount"] == 0
    assert node("logs", "never").stdout == "begun\n"
    assert node("logs", "-p", "always").stdout == "begun\n"


@pytest.mark.vm
def test_pods_go_on_when_the_agent_is_killed(node: Node, tmp_path: Path) -> None:
    ticking = "i=0; while :; do i=$((i+1)); echo tick $i; sleep 0.1; done"
    ending = "sleep 1.5; echo the end; exit 7"
    node("run", "-d", "--until", "ready", manifest(tmp_path, "ticking", script=ticking, grace=0))
    node("run", "-d", "--until", "ready", manifest(tmp_path, "ending", "Never", script=ending))
    pid = main_pid(node, "ticking")
    kill_agent(node)
    time.sleep(2.5)  # one ends, the other writes, while nobody looks
    assert psutil.pid_exists(pid)
    ended = container_of(node, "ending")["state"]["terminated"]  # the first status after that has it
    until(lambda: status_of(node, "ending")["phase"] == "Failed", "its pod has ended")
    assert (ended["exitCode"], ended["reason"]) == (7, "Error")
    lived_s = _seconds(ended["finishedAt"]) - _seconds(ended["startedAt"])
    assert 1 <= lived_s <= 2, "the time of the end is its own, not that of its discovery"
    assert node("logs", "ending").stdout == "the end\n"
    container = container_of(node, "ticking")
    assert (container["ready"], container["restartCount"]) == (True, 0)
    assert main_pid(node, "ticking") == pid
    before = node("logs", "ticking").stdout.split("\n")[:-1]
    assert before == [f"tick {number}" for number in range(1, len(before) + 1)], "no line is lost or doubled"
    assert len(before) > 20
    node("delete", "pod", "ticking", "ending")
    assert not psutil.pid_exists(pid)


def _seconds(stamp: str) -> float:
    return time.mktime(time.strptime(stamp, "%Y-%m-%dT%H:%M:%SZ"))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_foreground_run_takes_its_pod_with_it(node: Node, tmp_path: Path, number: int) -> None:
    with node.popen("run", manifest(tmp_path)) as run:
        assert run.stdout is not None
        for line in run.stdout:
            if "begun" in line:
                break
        run.send_signal(number)
        rest = run.stdout.read()
    until(lambda: "web" not in node("get", "pods", "-o", "name").stdout, "the pod is gone")
    if number != signal.SIGKILL:
        assert "ending gracefully" in rest
        assert run.returncode == 0, "it obeyed, so it Succeeded"


def test_the_pod_of_a_foreground_run_belongs_to_that_process_under_the_next_agent(node: Node, tmp_path: Path) -> None:
    with node.popen("run", manifest(tmp_path)) as run:
        assert run.stdout is not None
        for line in run.stdout:
            if "begun" in line:
                break
        run.send_signal(signal.SIGSTOP)
        kill_agent(node)
        assert container_of(node, "web")["ready"], "its owner still lives"
        run.kill()
    until(lambda: "web" not in node("get", "pods", "-o", "name").stdout, "and then it ends")


def test_a_foreground_run_that_ends_without_an_agent_is_made_good_by_the_next(node: Node, tmp_path: Path) -> None:
    with node.popen("run", manifest(tmp_path)) as run:
        assert run.stdout is not None
        for line in run.stdout:
            if "begun" in line:
                break
        run.send_signal(signal.SIGSTOP)
        kill_agent(node)
        run.kill()
    until(lambda: "web" not in node("get", "pods", "-o", "name").stdout, "the next agent ends it")


def test_an_agent_killed_at_any_moment_of_starts_and_ends_leaves_nothing_half_made(node: Node, tmp_path: Path) -> None:
    names = ("one", "two", "three")
    files = [manifest(tmp_path, name) for name in names]
    node("run", "-d", "--until", "ready", manifest(tmp_path, "old"))
    for delay_s in (0.02, 0.05, 0.08, 0.12):
        with node.popen("run", "-d", "--until", "ready", *files):
            time.sleep(0.05 + delay_s)
            kill_agent(node)
        for name in ("old", *names):
            if name in node("get", "pods", "-o", "name").stdout:
                until(partial(is_ready, node, name), f"{name} is ready")
        assert container_of(node, "old")["restartCount"] == 0
        with node.popen("delete", "pod", "--ignore-not-found", *names):
            time.sleep(0.05 + delay_s)
            kill_agent(node)
        node("delete", "pod", "--ignore-not-found", *names, check=False)
        assert node("get", "pods", "-o", "name").stdout == "pod/old\n"


def test_a_hierarchy_that_came_after_a_container_is_joined_by_its_next_commands(node: Node, tmp_path: Path) -> None:
    """Mounted since, or joined by a newer minipod only: until then the container has no group there."""
    later = find_mounts().get("freezer")
    if later is None:
        pytest.skip("no v1 hierarchy that limits nothing")
    node("run", "-d", "--until", "running", manifest(tmp_path))
    pid = main_pid(node, "web")
    [path] = [line.split(":")[2] for line in cgroups_of(pid) if ":freezer:" in line]
    kill_agent(node)
    for member in Path(later + path, "cgroup.procs").read_text().split():
        Path(later, "cgroup.procs").write_text(member)
    os.rmdir(later + path)
    os.rmdir(os.path.dirname(later + path))
    assert node("exec", "web", "--", "echo", "hello").stdout == "hello\n"
    assert os.path.isdir(later + path)
    node("delete", "pod", "web", "--grace-period=1")
    assert not os.path.exists(f"{later}{node.paths.cgroup_root}")


def cgroups_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cgroup").read_text().splitlines()


def test_two_first_runs_at_once_share_one_agent(node: Node, tmp_path: Path) -> None:
    runs = [node.popen("run", "-d", "--until", "ready", manifest(tmp_path, name)) for name in ("one", "two", "three")]
    outputs = [run.communicate(timeout=60 * SLOWNESS)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0], outputs
    status = node.ask("status")
    assert status is not None
    assert status["pods"] == 3


def test_two_agents_at_once_are_one(node: Node) -> None:
    command = [*node.command()[:2], "minipod.serve", "--auto"]
    agents = []
    for _ in range(3):
        read_fd, write_fd = os.pipe()
        agent = subprocess.Popen(
            [*command, "--ready-fd", str(write_fd)],
            env=os.environ | node.env,
            pass_fds=(write_fd,),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(write_fd)
        agents.append((agent, read_fd))
    for _, read_fd in agents:
        with open(read_fd) as ready:
            assert ready.readline() == "ready\n"
    pid = node.agent_pid()
    assert sum(agent.poll() is None for agent, _ in agents) >= 1
    for agent, _ in agents:
        if agent.pid != pid:
            assert agent.wait(WAIT_S) == 0
    node.close()
    for agent, _ in agents:
        assert agent.wait(WAIT_S) == 0


def test_a_stale_socket_is_no_obstacle(node: Node, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(node.paths.agent_socket)
    node("run", "-d", manifest(tmp_path, "one"))
    kill_agent(node)
    assert os.path.exists(node.paths.agent_socket)
    node("run", "-d", manifest(tmp_path, "two"))
    assert sorted(node("get", "pods", "-o", "name").stdout.split()) == ["pod/one", "pod/two"]


def test_a_name_in_use_is_reported_with_the_way_out(node: Node, tmp_path: Path) -> None:
    path = manifest(tmp_path)
    node("run", "-d", path)
    again = node("run", "-d", path, check=False)
    assert again.returncode == 1
    assert 'pod "web" already exists (started ' in again.stderr
    assert "delete it first: minipod delete pod web" in again.stderr


def test_a_start_that_fails_ends_the_foreground_run_and_says_why(node: Node, tmp_path: Path) -> None:
    path = tmp_path / "pod.yaml"
    path.write_text(POD.format(name="web", policy="Always", grace=1, script="'true'").replace("[sh,", "[nosuch,"))
    run = node("run", str(path), check=False)
    assert run.returncode == 3
    assert 'container "main" cannot be started' in run.stderr
    assert '"nosuch": executable file not found' in run.stderr
    assert node("get", "pods", "-o", "name").stdout == ""


def test_a_detached_run_that_fails_shows_what_was_logged_last(node: Node, tmp_path: Path) -> None:
    path = manifest(tmp_path, policy="Never", script="echo no such table: users >&2; exit 4")
    run = node("run", "-d", "--until", "succeeded", path, check=False)
    assert run.returncode == 1
    assert "ended with exit code 4 (Error); it last logged: no such table: users" in run.stderr


@pytest.mark.vm
def test_an_agent_without_pods_leaves_with_its_spawner(node: Node, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("idle_exit_s = 0.2\n")
    node.env["MINIPOD_CONFIG"] = str(config)
    node("run", "-d", manifest(tmp_path))
    pid = node.agent_pid()
    assert pid is not None
    time.sleep(0.6)
    assert node.agent_pid() == pid, "not while there is a pod"
    spawners = [p for p in psutil.Process(pid).children() if "spawner" in " ".join(p.cmdline())]
    node("delete", "pod", "web")
    psutil.wait_procs([psutil.Process(pid)], timeout=WAIT_S)
    assert not psutil.pid_exists(pid)
    until(lambda: not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in spawners), "no spawner")
    assert not os.path.exists(node.paths.agent_socket)


def test_an_agent_for_systemd_says_when_it_is_ready_and_leaves_its_pods_alone(node: Node, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(tmp_path / "notify"))
        notify.settimeout(WAIT_S)
        environment = os.environ | node.env | {"NOTIFY_SOCKET": str(tmp_path / "notify")}
        with subprocess.Popen(
            node.command("agent"), env=environment, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL
        ) as agent:
            assert notify.recv(100) == b"READY=1\nWATCHDOG=1\nSTATUS=0 pods"
            assert node.agent_pid() == agent.pid
            node("run", "-d", "--until", "ready", manifest(tmp_path))
            pid = main_pid(node, "web")
            agent.terminate()
            messages = iter(lambda: notify.recv(200), b"")
            assert next(message for message in messages if not message.startswith(b"FDSTORE=1\n")) == b"STOPPING=1"
            assert agent.wait(WAIT_S) == 0
    assert psutil.pid_exists(pid)
    assert container_of(node, "web")["restartCount"] == 0
    assert main_pid(node, "web") == pid


def test_an_agent_for_systemd_takes_the_place_of_one_that_a_command_started(node: Node, tmp_path: Path) -> None:
    node("run", "-d", "--until", "ready", manifest(tmp_path))
    before, pid = node.agent_pid(), main_pid(node, "web")
    with subprocess.Popen(
        node.command("agent"), env=os.environ | node.env, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL
    ) as agent:
        try:
            until(lambda: node.agent_pid() == agent.pid, "the service's agent serves")
            until(lambda: not is_alive(before or 0), "the other one has gone")
            assert main_pid(node, "web") == pid
            assert container_of(node, "web")["restartCount"] == 0
            second = subprocess.run(
                node.command("agent"), env=os.environ | node.env, capture_output=True, text=True, check=False
            )
            assert second.returncode == 2, "never one service the other's"
            assert "another agent already serves it" in second.stderr
            node("delete", "pod", "web")
        finally:
            agent.terminate()


@pytest.mark.vm
def test_gc_finds_what_a_lost_store_left_behind(node: Node, tmp_path: Path) -> None:
    node("run", "-d", "--until", "ready", manifest(tmp_path))
    kill_agent(node)
    for path in Path(node.paths.state).glob("minipod.db*"):
        path.unlink()
    dry = node("gc", "--dry-run").stdout
    assert "pod default/web, which is not known" in dry
    node("gc")
    assert node("gc").stdout == "nothing was left behind\n"


def test_ip_netns_add_beside_a_pod_covers_nothing_of_it(node: Node) -> None:
    node(
        "run",
        "-d",
        "-",
        input=builders.manifest(
            builders.pod("beside", builders.container("main", "sleep 1000"), terminationGracePeriodSeconds=0)
        ),
    )
    name = f"{node.paths.instance}-x"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        inside = subprocess.run(["nsenter", f"--net=/run/netns/{node.paths.instance}-beside", "true"], check=False)
        assert inside.returncode == 0
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)
    node("delete", "pod", "beside", timeout_s=20 * SLOWNESS)
