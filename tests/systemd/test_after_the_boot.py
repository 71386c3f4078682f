"""The machine was rebooted while pods ran (in the VM, systemd)."""

from __future__ import annotations

import re

import pytest

from tests.systemd import host


@pytest.fixture(scope="module", autouse=True)
def booted() -> None:
    host.until(host.active, "the agent is started at boot")
    host.until(lambda: host.container("always")["state"].get("running"), "the pod is started at boot")


def test_a_pod_that_is_restarted_always_is_back() -> None:
    assert host.container("always")["restartCount"] == 1
    assert host.lines_of("always")[0] == "line 1"


def test_static_pods_and_units_are_started_at_boot() -> None:
    host.until(lambda: host.running(f"static-{host.NODE}"), "the static pod")
    host.until(lambda: host.shown("minipod@app", "ActiveState") == "active", "the unit")
    assert host.running("app")
    assert host.container("app")["restartCount"] == 0, "a pod of this boot"


def test_it_had_ended_gracefully_and_nothing_of_its_output_is_missing() -> None:
    assert host.container("always")["lastState"]["terminated"]["exitCode"] == 0
    lines = host.lines_of("always", "--previous")
    assert lines[-2:] == ["ending", "ended"]
    assert lines[:-2] == [f"line {number}" for number in range(1, len(lines) - 1)]


def test_a_pod_that_is_never_restarted_has_its_result() -> None:
    assert host.pod("never")["status"]["phase"] == "Failed"
    assert host.container("never")["state"]["terminated"]["exitCode"] == 7


def test_the_pods_ended_before_the_agent_and_no_process_was_left_to_be_killed() -> None:
    text = host.journal("-b", "-1")
    places = [
        text.rindex(words)
        for words in ("Stopping minipod-pods.service", "Stopped minipod-pods.service", "Stopping minipod.service")
    ]
    assert places == sorted(places)
    assert not re.search(r"stop-sigterm. timed out|Killing process", text)
