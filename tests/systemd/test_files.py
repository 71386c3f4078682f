"""Static pods, minipod@.service, minipod.socket and `minipod agent` under systemd (in the VM)."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.systemd import host
from tests.systemd.host import start_pod, systemctl, until


@pytest.fixture(autouse=True)
def units() -> Iterator[None]:
    """Each test begins with both units active, and leaves no pod and no manifest."""
    systemctl("start", "minipod", "minipod-pods")
    yield
    systemctl("stop", "minipod@*")
    for folder in (host.STATIC, host.UNITS):
        for file in folder.iterdir():
            file.unlink()
    systemctl("start", "minipod", "minipod-pods")
    until(lambda: not [name for name in host.pod_names() if name.endswith(host.NODE)], "static pods end")
    host.delete_pods()


# -- static pods


def test_a_static_pod_lives_as_long_as_its_file() -> None:
    name = host.static_pod("web")
    until(lambda: host.running(name), "it runs")
    assert host.pod(name)["metadata"]["annotations"]["kubernetes.io/config.source"] == "file"
    before = host.processes(name)
    systemctl("restart", "minipod")
    host.assert_untouched(name, before)
    host.minipod("delete", "pod", name)
    host.assert_untouched(name, before)
    (host.STATIC / "web.yaml").unlink()
    until(lambda: name not in host.pod_names(), "it has ended")


def test_a_broken_file_is_reported_and_the_other_pods_run() -> None:
    (host.STATIC / "broken.yaml").write_text("kind: Pod\nspec: [")
    name = host.static_pod("web")
    until(lambda: host.running(name), "it runs")
    assert "broken.yaml:" in host.journal()
    assert "broken.yaml:" in host.minipod("agent", "status")


# -- minipod@


def test_a_manifest_as_a_unit_is_started_when_its_pods_are_ready_and_stopped_when_they_have_ended() -> None:
    host.unit_pod("app")
    begun_s = time.monotonic()
    systemctl("start", "minipod@app")
    assert time.monotonic() - begun_s > host.READY_AFTER_S, "started before it was ready"
    assert host.pod("app")["status"]["containerStatuses"][0]["ready"]
    assert host.shown("minipod@app", "StatusText") == "1 of 1 pods ready"
    before = host.processes("app")
    systemctl("restart", "minipod")
    assert host.processes("app") == before, "the run continues with the next agent"
    assert host.shown("minipod@app", "ActiveState") == "active"
    systemctl("stop", "minipod@app")
    assert "app" not in host.pod_names()
    assert host.shown("minipod@app", "Result") == "success"
    assert host.shown("minipod@app", "ActiveState") == "inactive"
    assert "ended" in host.run("journalctl", "--no-pager", "-o", "cat", "-u", "minipod@app").stdout


def test_a_unit_whose_pods_fail_is_started_again() -> None:
    host.unit_pod("app")
    systemctl("start", "minipod@app")
    uid = host.pod("app")["metadata"]["uid"]
    host.minipod("delete", "pod", "app", "--grace-period", "0", "--force")
    until(lambda: host.running("app") and host.pod("app")["metadata"]["uid"] != uid, "another one")
    systemctl("stop", "minipod@app")


def test_any_other_manifest_is_a_unit_by_its_path(tmp_path: Path) -> None:
    file = tmp_path / "my-app.yaml"
    file.write_text(host.POD.format(name="by-path", policy="Always", script=json.dumps(host.COUNTING)))
    unit = f"minipod@{host.run('systemd-escape', str(file)).stdout.strip()}"
    systemctl("start", unit)
    assert host.running("by-path")
    systemctl("stop", unit)
    assert "by-path" not in host.pod_names()


# -- minipod agent


def test_the_agent_is_stopped_and_restarted_by_systemd() -> None:
    before = start_pod()
    agent = host.main_pid()
    shown = host.minipod("agent", "status")
    assert f"process     {agent}\n" in shown
    assert "by systemd: minipod.service\n" in shown
    restarts = host.shown("minipod", "NRestarts")
    assert f"agent {agent}" not in host.minipod("agent", "restart")
    assert host.main_pid() not in (0, agent)
    assert int(host.shown("minipod", "NRestarts")) <= int(restarts), "by systemd's own restart, not by its death"
    assert "1 pod keeps running" in host.minipod("agent", "stop")
    assert host.shown("minipod", "ActiveState") == "inactive"
    assert host.run(host.PROGRAM, "agent", "status", check=False).returncode == 1
    systemctl("start", "minipod")
    host.assert_untouched("web", before)


# -- minipod.socket


def test_with_the_socket_unit_commands_wait_for_the_agent_and_start_none_of_their_own() -> None:
    before = start_pod()
    systemctl("stop", "minipod")
    host.run("sh", "-c", "install -m 644 packaging/minipod.socket /etc/systemd/system/ && systemctl daemon-reload")
    systemctl("start", "minipod.socket")
    try:
        assert "web" in host.minipod("get", "pods"), "it starts the unit"
        agent = host.main_pid()
        assert agent
        assert host.active()
        assert oct(os.stat(host.SOCKET).st_mode & 0o777) == "0o600"
        systemctl("--no-block", "restart", "minipod")
        for _ in range(5):
            assert "web" in host.minipod("get", "pods")
        until(lambda: host.main_pid() not in (0, agent) and host.active(), "another agent")
        assert host.procs(host.UNIT_GROUP) == [host.main_pid()]
        host.assert_untouched("web", before)
    finally:
        systemctl("stop", "minipod.socket", "minipod", check=False)
        Path("/etc/systemd/system/minipod.socket").unlink()
        systemctl("daemon-reload")
        systemctl("start", "minipod")
    host.assert_untouched("web", before)
