"""The kernel's own clock is set: collected in the virtual machine alone, whose clock is nobody else's."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import builders
from tests.node.test_clock import HOUR_S, restarts, wait_for
from tests.node_fixtures import Node

pytestmark = pytest.mark.vm


@contextmanager
def clock_set(by_s: float) -> Iterator[None]:
    time.clock_settime(time.CLOCK_REALTIME, time.time() + by_s)
    try:
        yield
    finally:
        time.clock_settime(time.CLOCK_REALTIME, time.time() - by_s)


@pytest.mark.parametrize("by_s", [-HOUR_S, HOUR_S], ids=["back", "forward"])
def test_the_agent_notices_at_once_and_nothing_waits(node: Node, tmp_path: Path, by_s: int) -> None:
    node.configure("max_container_restart_period_s = 1.0\n")
    quiet = tmp_path / "quiet.yaml"
    quiet.write_text(builders.manifest(builders.pod("quiet", builders.container("c", "sleep 1000"))))
    node("run", "--detach", quiet)
    log = Path(node.paths.root, "agent.log")
    with clock_set(by_s):
        way = "back" if by_s < 0 else "forward"
        wait_for(
            lambda: f"the clock was set {way} by 3600." in log.read_text(), 2
        )  # by the descriptor: no pod has events
        loop = tmp_path / "loop.yaml"
        loop.write_text(
            builders.manifest(builders.pod("loop", builders.container("c", "exit 1"), restartPolicy="Always"))
        )
        node("run", "--detach", "--until", "created", loop)
        wait_for(lambda: restarts(node, "loop") >= 2)
    before = restarts(node, "loop")
    wait_for(lambda: restarts(node, "loop") >= before + 2)
    assert "ClockSet" in node("get", "events").stdout
    node("delete", "pod", "--all")
