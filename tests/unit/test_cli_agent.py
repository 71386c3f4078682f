"""`minipod agent status|stop|restart`, and agents that systemd starts (unit)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from minipod.cli import start, units
from minipod.cli.client import Client
from minipod.cli.verbs import agent as verb
from minipod.errors import AgentError, UsageError
from minipod.paths import Paths
from tests.unit.cli_fakes import FakeAgent, Object, Peer, fake_agent

STATUS: Object = {
    "version": "0.2.0", "pid": 77, "started": "command", "unit": "", "since": "2026-01-01T00:00:00Z", "pods": 2,
    "halted": False, "idle_exit_s": 30.0, "static_pods": "/etc/minipod/pods", "static_pod_problems": ["/a: broken"],
}  # fmt: skip


@pytest.fixture(autouse=True)
def root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)


def says(agent: FakeAgent, **fields: object) -> Client:
    agent.handlers["status"] = lambda peer, _: peer.ok(**STATUS | fields)
    return Client(agent.paths)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What systemd is asked for."""
    words: list[str] = []
    monkeypatch.setattr(units, "systemctl", lambda *arguments: words.append(" ".join(arguments)))
    return words


def test_status_shows_how_the_agent_was_started_and_what_it_waits_for() -> None:
    rows = dict(verb._rows(STATUS, "/run/minipod/agent.sock", 1_767_225_600 + 90))
    assert rows == {
        "process": "77",
        "version": "0.2.0",
        "since": "2026-01-01T00:00:00Z (90s)",
        "started": "by a command, in the background",
        "socket": "/run/minipod/agent.sock",
        "pods": "2; static pods: /etc/minipod/pods",
        "problem": "/a: broken",
        "waits for": "the end of its pods: it exits 30 s later",
    }
    service = dict(verb._rows(STATUS | {"started": "service", "unit": "minipod.service"}, "/s", 0))
    assert service["started"] == "by systemd: minipod.service"
    assert service["waits for"] == "commands; it runs until it is stopped"
    assert dict(verb._rows({"pid": 1, "version": "0.1.0"}, "/s", 0))["started"] == "unknown", "an older agent"


@pytest.mark.parametrize(
    ("unit", "found"),
    [
        ("minipod.service", "minipod.service"),
        ("a@b\\x2dc.service", "a@b\\x2dc.service"),
        ("--help", ""),
        ("a b.service", ""),
    ],
)
def test_only_a_unit_s_name_is_handed_to_systemctl(unit: str, found: str) -> None:
    assert units.unit_of({"unit": unit}) == found


def test_where_none_runs_status_and_stop_start_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    client = Client(Paths(f"{tmp_path}/r", f"{tmp_path}/s"))
    assert verb._status(client) == 1
    assert verb._stop(client) == 0
    assert capsys.readouterr().out.count("no agent runs") == 2


def test_a_unit_is_stopped_and_restarted_by_systemd(
    tmp_path: Path, asked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with fake_agent(tmp_path) as agent:
        client = says(agent, started="service", unit="minipod.service")
        assert (verb._stop(client), verb._restart(client)) == (0, 0)
        assert [request["verb"] for request in agent.requests] == ["status"] * 3
    assert asked == ["stop minipod.service", "restart minipod.service"]
    assert "2 pods keep running, without probes and restarts until systemctl start" in capsys.readouterr().out


def test_an_agent_of_a_command_is_stopped_when_it_has_exited(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with fake_agent(tmp_path) as agent, subprocess.Popen(["sleep", "60"]) as process:

        def shutdown(peer: Peer, _request: Object) -> None:
            process.terminate()
            peer.ok(restarts=False, pid=process.pid)

        agent.handlers["shutdown"] = shutdown
        assert verb._stop(says(agent, pid=process.pid, pods=1)) == 0
        assert process.wait() != 0
    assert f"agent {process.pid} stopped; 1 pod keeps running" in capsys.readouterr().out


def test_one_in_a_terminal_is_not_restarted_elsewhere(tmp_path: Path) -> None:
    with fake_agent(tmp_path) as agent, pytest.raises(UsageError, match="agent 77 runs in the foreground"):
        verb._restart(says(agent, started="foreground"))


def test_a_unit_s_agent_of_another_version_is_restarted_by_systemd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fake_agent(tmp_path) as agent:
        says(agent, unit="minipod.service")
        agent.version, ours = "0.0.1", agent.version
        monkeypatch.setattr(start, "check_start", lambda *_: None)
        asked: list[tuple[str, str]] = []

        def systemctl(*words: Any) -> None:
            asked.append(words)
            agent.version = ours

        monkeypatch.setattr(Client, "agent_status", lambda _client: STATUS | {"unit": "minipod.service"})
        monkeypatch.setattr(units, "systemctl", systemctl)
        assert Client(agent.paths).call({"verb": "status"})[1]["pid"] == 77
        assert asked == [("restart", "minipod.service")]
        assert [request["verb"] for request in agent.requests] == ["status", "status"], "no shutdown"


def test_systemd_s_refusal_is_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "systemctl"
    program.write_text('#!/bin/sh\necho "Failed to $1 $3: Unit is masked." >&2\nexit 1\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    words = r"systemctl restart x\.service: Failed to restart x\.service: Unit is masked\.: journalctl -u x\.service"
    with pytest.raises(AgentError, match=words):
        units.systemctl("restart", "x.service")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(AgentError, match=r"the agent is x\.service, and systemctl cannot be run"):
        units.systemctl("restart", "x.service")
