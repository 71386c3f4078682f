"""What a foreground run sends to the service manager that started it (unit)."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from minipod.cli.resume import is_ready
from minipod.cli.service import Service
from tests.unit.agent_client import Agent, with_agent
from tests.unit.agent_fakes import until

POD = {"event": "pod", "grace_period_s": 30}


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield sock


def received(manager: socket.socket) -> list[list[str]]:
    found = []
    while True:
        try:
            found.append(manager.recv(4096).decode().split("\n"))
        except BlockingIOError:
            return found


def ready(uid: str, value: bool = True) -> dict[str, Any]:
    return {"event": "ready", "uid": uid, "ready": value}


def test_a_run_is_ready_once_when_all_its_pods_are(manager: socket.socket) -> None:
    service = Service.of_this_process()
    for event in ({**POD, "uid": "a"}, {**POD, "uid": "b", "grace_period_s": 90}, ready("b"), ready("b")):
        service.show(event)
    assert received(manager) == [["STATUS=1 of 2 pods ready"]]
    for event in (ready("a"), ready("a", False), ready("a")):
        service.show(event)
    assert received(manager) == [
        ["READY=1", "STATUS=2 of 2 pods ready"],
        ["STATUS=1 of 2 pods ready"],
        ["STATUS=2 of 2 pods ready"],
    ]
    assert not service.was_stopped
    service.stopping()
    service.show(ready("a", False))
    assert received(manager) == [["STOPPING=1", "STATUS=the pods end", "EXTEND_TIMEOUT_USEC=150000000"]]
    assert service.was_stopped


@pytest.mark.parametrize(
    ("phase", "sent"), [("Succeeded", [["READY=1"], ["STOPPING=1"]]), ("Failed", [["STOPPING=1"]])]
)
def test_pods_that_end_before_they_were_ready(manager: socket.socket, phase: str, sent: list[list[str]]) -> None:
    service = Service.of_this_process()
    service.show({**POD, "uid": "a"})
    service.ended([{"phase": phase}])
    assert received(manager) == sent


def test_without_a_service_manager_nothing_is_sent_and_a_stop_has_its_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    service = Service.of_this_process()
    service.stopping()
    assert not service.was_stopped


def test_the_agent_reports_when_a_pod_becomes_ready_and_when_no_more(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        client = await agent.run_foreground()
        first = await client.until_event(lambda message: message.get("event") == "ready")
        assert first["ready"]
        [pod] = [event for event in client.events if event["event"] == "pod"]
        assert (pod["uid"], pod["grace_period_s"]) == (first["uid"], 30)
        await until(lambda: agent.runtime.is_running("main"))
        agent.runtime.end(agent.runtime.find("main").id, 0)
        last = await client.until_event(lambda message: message.get("event") == "ready")
        assert not last["ready"]

    with_agent(tmp_path, test)


def test_after_the_loss_of_an_agent_the_status_says_so() -> None:
    assert is_ready({"status": {"conditions": [{"type": "Ready", "status": "True"}]}})
    assert not is_ready({"status": {"conditions": [{"type": "Ready", "status": "False"}]}})
    assert not is_ready({"status": {}})
