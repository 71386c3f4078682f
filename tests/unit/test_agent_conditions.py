"""Conditions that others than the agent set, by the control socket (unit, virtual clock)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.agent_client import MANIFEST, Agent, with_agent

GATE = "example.com/gate"


async def patch(agent: Agent, **condition: str) -> dict[str, Any]:
    target = {"kind": "pods", "name": "web"}
    status = {"status": {"conditions": [condition]}}
    events = await agent.ask(verb="patch", target=target, patch=status, subresource="status")
    return events[-1]


def ready(agent: Agent) -> str:
    status = agent.pods.find("default", "web").pod.status
    return next(c.status for c in status.conditions if c.type == "Ready")


def test_a_readiness_gate_holds_the_pod_until_its_condition_is_true(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        await agent.run_detached(MANIFEST.replace("spec:", f"spec:\n  readinessGates: [{{conditionType: {GATE}}}]", 1))
        assert ready(agent) == "False"
        assert "ok" in await patch(agent, type=GATE, status="True")
        assert ready(agent) == "True"
        assert "ok" in await patch(agent, type=GATE, status="False", reason="Drained")
        assert ready(agent) == "False"

    with_agent(tmp_path, test)


def test_several_conditions_are_one_change(tmp_path: Path) -> None:
    """As it is stored, a watch sees it; and none of it where it cannot be stored."""

    async def test(agent: Agent) -> None:
        await agent.run_detached()
        worker = agent.pods.find("default", "web")
        before = agent.node.store.version
        conditions = [{"type": f"example.com/{name}", "status": "True"} for name in "abc"]
        target = {"kind": "pods", "name": "web"}
        patched = {"status": {"conditions": conditions}}
        assert "ok" in (await agent.ask(verb="patch", target=target, patch=patched, subresource="status"))[-1]
        assert agent.node.store.version == before + 1
        assert [c.type for c in worker.pod.status.conditions][:3] == [f"example.com/{name}" for name in "cba"]

    with_agent(tmp_path, test)


@pytest.mark.parametrize(
    ("patched", "words"),
    [
        ({"phase": "Failed"}, "of a pod's status only conditions can be set"),
        ({"conditions": [{"$patch": "delete", "type": "Ready"}]}, "only conditions can be set"),
    ],
)
def test_all_else_of_the_status_is_the_agents(tmp_path: Path, patched: dict[str, Any], words: str) -> None:
    async def test(agent: Agent) -> None:
        await agent.run_detached()
        target = {"kind": "pods", "name": "web"}
        (last,) = await agent.ask(verb="patch", target=target, patch={"status": patched}, subresource="status")
        assert words in last["error"]["message"]

    with_agent(tmp_path, test)


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ({"type": "Ready", "status": "False"}, "the agent writes this one"),
        ({"type": GATE, "status": "yes"}, "status must be one of True, False, Unknown"),
        ({"type": GATE}, "status must be one of True, False, Unknown"),
    ],
)
def test_what_cannot_be_set_is_refused(tmp_path: Path, condition: dict[str, str], words: str) -> None:
    async def test(agent: Agent) -> None:
        await agent.run_detached()
        assert words in (await patch(agent, **condition))["error"]["message"]

    with_agent(tmp_path, test)
