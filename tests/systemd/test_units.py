"""minipod.service and minipod-pods.service: start, restart, crash, upgrade, stop (in the VM, systemd)."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator

import pytest

import minipod
from tests.systemd import host
from tests.systemd.host import UNIT_GROUP, start_pod, systemctl, until


@pytest.fixture(autouse=True)
def units() -> Iterator[None]:
    """Each test begins with both units active, and leaves no pod."""
    systemctl("start", "minipod", "minipod-pods")
    yield
    systemctl("start", "minipod", "minipod-pods")
    host.delete_pods()


def test_the_unit_is_active_once_the_agent_serves() -> None:
    systemctl("stop", "minipod")
    assert not host.serves()
    systemctl("--no-block", "start", "minipod")
    until(lambda: host.shown("minipod", "ActiveState") == "activating", "it is being started")
    while (state := host.shown("minipod", "ActiveState")) != "active":
        assert state == "activating"
    assert host.serves(), "active, and none answers"
    assert host.shown("minipod", "StatusText") == "0 pods"


def test_pods_run_on_while_the_agent_is_restarted() -> None:
    before = start_pod()
    agent = host.main_pid()
    systemctl("restart", "minipod")
    assert host.main_pid() != agent
    host.assert_untouched("web", before)


def test_pods_run_on_after_a_kill_and_the_agent_is_back() -> None:
    before = start_pod()
    for sent in (signal.SIGKILL, signal.SIGTERM):
        agent, restarts = host.main_pid(), int(host.shown("minipod", "NRestarts"))
        os.kill(agent, sent)
        until(lambda: host.main_pid() not in (0, agent) and host.active(), "another agent")  # noqa: B023
        assert int(host.shown("minipod", "NRestarts")) == restarts + 1
    host.assert_untouched("web", before)


def test_killing_the_whole_unit_meets_neither_pods_nor_the_spawner() -> None:
    before = start_pod()
    [spawner] = host.spawners()
    agent = host.main_pid()
    assert host.procs(UNIT_GROUP) == [agent]
    systemctl("kill", "--kill-whom=all", "--signal=KILL", "minipod")
    until(lambda: host.main_pid() not in (0, agent) and host.active(), "another agent")
    assert host.spawners() == [spawner]
    host.assert_untouched("web", before)


def test_pods_run_on_while_the_agent_is_stopped() -> None:
    before = start_pod()
    systemctl("stop", "minipod")
    assert not host.serves()
    assert all(map(host.exists, before))
    systemctl("start", "minipod")
    host.assert_untouched("web", before)
    assert "left-over process" not in host.journal("-b")
    assert "remains running after unit stopped" not in host.journal("-b")


def test_reload_is_refused_and_reloading_systemd_changes_nothing() -> None:
    before = start_pod()
    agent = host.main_pid()
    group = host.pod_group("web")
    limits = {name: (group / name).read_text() for name in ("memory.max", "cpu.max", "pids.max")}
    assert limits["memory.max"] == f"{64 << 20}\n"
    refused = host.run("systemctl", "reload", "minipod", check=False)
    assert refused.returncode != 0
    assert "not applicable" in refused.stderr
    for verb in ("daemon-reload", "daemon-reexec", "daemon-reload"):
        systemctl(verb)
    assert {name: (group / name).read_text() for name in limits} == limits
    assert host.main_pid() == agent
    host.assert_untouched("web", before)


def test_an_upgrade_takes_the_pods_over() -> None:
    before = start_pod()
    [spawner] = host.spawners()
    host.copy("9.9.9")
    try:
        for command in host.commands_of("## Upgrading"):
            host.run("sh", "-c", command)
        assert host.minipod("version").split()[-1] == "9.9.9"
        host.assert_untouched("web", before)
        start_pod("new")
        assert len(host.spawners()) == 2, "the older version's, and its own"
        host.delete_pods()
        until(lambda: not host.exists(spawner), "the older version's spawner ends with its last container")
    finally:
        host.copy(None)
        systemctl("restart", "minipod")


def test_a_newer_command_has_systemd_restart_the_agent() -> None:
    before = start_pod()
    agent, restarts = host.main_pid(), host.shown("minipod", "NRestarts")
    host.copy("9.9.9")
    try:
        assert "web" in host.minipod("get", "pods")
        assert host.main_pid() not in (0, agent)
        assert int(host.shown("minipod", "NRestarts")) <= int(restarts), "asked, and not replaced behind its back"
        assert host.procs(UNIT_GROUP) == [host.main_pid()]
        assert host.minipod("version").split()[-1] == "9.9.9"
        host.assert_untouched("web", before)
    finally:
        host.copy(None)
        systemctl("restart", "minipod")
    assert host.minipod("version").split()[-1] == minipod.__version__


def test_the_unit_takes_the_place_of_an_agent_that_a_command_started() -> None:
    systemctl("stop", "minipod")
    before = start_pod()
    [by_command] = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _is_background_agent(pid)]
    systemctl("start", "minipod")
    assert not host.exists(by_command)
    host.assert_untouched("web", before)
    assert host.procs(UNIT_GROUP) == [host.main_pid()]
    assert len(host.spawners()) == 1, "started by the other agent, and not in the group of its caller any more"


def _is_background_agent(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return b"--auto" in file.read().split(b"\0")
    except OSError:
        return False


def test_an_agent_that_is_stuck_is_restarted() -> None:
    before = start_pod()
    with host.setting(WatchdogSec="15", TimeoutAbortSec="2"):
        agent = host.main_pid()
        os.kill(agent, signal.SIGSTOP)
        until(lambda: host.main_pid() not in (0, agent) and host.active(), "another agent")
        assert "Watchdog timeout" in host.journal("-b")
        agent = host.main_pid()
        until(lambda: _watched_for_s() > 30, "two intervals")
        assert host.main_pid() == agent, "one that is not stuck stays"
    host.assert_untouched("web", before)


def _watched_for_s() -> float:
    begun_us = int(host.shown("minipod", "ActiveEnterTimestampMonotonic"))
    with open("/proc/uptime", encoding="ascii") as file:
        return float(file.read().split()[0]) - begun_us / 1e6


def test_running_out_of_memory_in_the_unit_takes_no_pod_along() -> None:
    before = start_pod()
    [spawner] = host.spawners()
    agent = host.main_pid()
    (UNIT_GROUP / "memory.max").write_text(str(4 << 20))  # what is more than that cannot be reclaimed
    until(lambda: host.main_pid() != agent, "the OOM killer")
    systemctl("set-property", "--runtime", "minipod", "MemoryMax=2G")
    until(host.active, "another agent")
    assert re.search(r"oom-kill|status=9/KILL", host.journal("-b"))
    assert host.spawners() == [spawner]
    host.assert_untouched("web", before)


def test_output_outlives_agent_spawner_and_container_that_end_at_once() -> None:
    [first] = start_pod("job", "Never", "trap 'echo last; exit 3' TERM; echo first; while true; do sleep 0.2; done")
    until(lambda: host.shown("minipod", "NFileDescriptorStore") == "2", "systemd keeps its stdout and stderr")
    [spawner] = host.spawners()
    agent = host.main_pid()
    for pid in (agent, spawner):
        os.kill(pid, signal.SIGKILL)
    os.kill(first, signal.SIGTERM)
    until(lambda: host.main_pid() not in (0, agent) and host.active(), "another agent")
    until(lambda: host.pod("job")["status"]["phase"] == "Failed", "its end is seen")
    assert host.lines_of("job") == ["first", "last"]
    assert host.shown("minipod", "NFileDescriptorStore") == "0"
    assert host.shown("minipod", "FileDescriptorStoreMax") == "16384"


def test_limits_are_the_units_for_the_agent_and_the_pods_own_for_them() -> None:
    [first] = start_pod()
    agent = host.main_pid()
    with open(f"/proc/{agent}/limits", encoding="ascii") as file:
        files = next(line.split() for line in file if line.startswith("Max open files"))
    assert files[3:5] == ["524288", "524288"]
    assert host.minipod("exec", "web", "--", "sh", "-c", "ulimit -n; ulimit -Hn").split() == ["1024", "524288"]
    assert (host.oom_score_adj(agent), host.oom_score_adj(host.spawners()[0])) == (-999, -999)
    assert host.oom_score_adj(first) == -997  # Guaranteed
    assert host.shown("minipod", "MemoryMax") == str(2 << 30)
    assert (UNIT_GROUP / "memory.max").read_text() == f"{2 << 30}\n"
    assert host.shown("minipod", "TasksMax") == "4096"


def test_stopping_the_pods_ends_them_gracefully_and_starting_brings_them_back() -> None:
    before = start_pod()
    start_pod("job", "Never", "trap 'exit 7' TERM; while true; do sleep 1; done")
    agent = host.main_pid()
    systemctl("stop", "minipod-pods")
    assert not any(map(host.exists, before))
    assert host.lines_of("web")[-2:] == ["ending", "ended"]
    assert host.container("web")["state"]["terminated"]["exitCode"] == 0
    assert host.container("job")["state"]["terminated"]["exitCode"] == 7
    assert host.pod("job")["status"]["phase"] == "Failed"
    refused = host.run(host.PROGRAM, "run", "-d", "/tmp/job.yaml", check=False)
    assert refused.returncode != 0
    systemctl("restart", "minipod")
    assert host.container("web")["state"].get("running") is None, "stopped under another agent, too"
    assert host.main_pid() != agent
    systemctl("start", "minipod-pods")
    until(lambda: host.container("web")["state"].get("running"), "it runs again")
    assert host.container("web")["restartCount"] == 1
    assert host.pod("job")["status"]["phase"] == "Failed"
