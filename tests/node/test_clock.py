"""The wall clock is set while pods run, under the agent and its spawner: nothing waits for it, nothing ends early."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests import builders
from tests.conftest import CHECKOUT
from tests.node_fixtures import Node
from tests.patience import SLOWNESS

HOUR_S = 3600
STUBBORN = "trap '' TERM; while :; do sleep 0.2; done"


class Clock:
    """The wall clock of the agents that `agent` starts."""

    def __init__(self, node: Node, folder: Path) -> None:
        self._node, self._file = node, folder / "ahead"
        self.set(0)

    def set(self, ahead_s: float) -> None:
        new = self._file.with_suffix(".new")
        new.write_text(str(ahead_s))
        new.rename(self._file)

    @contextlib.contextmanager
    def agent(self) -> Iterator[int]:
        """An agent until the end of the block, which kills it; its pid."""
        paths = self._node.paths
        words = [str(self._file), "--run-dir", paths.root, "--data-dir", paths.state]
        with (
            open(f"{paths.root}/agent.log", "a") as log,
            subprocess.Popen(
                [sys.executable, "-P", str(CHECKOUT / "tests/set_clock.py"), *words],
                env=os.environ | self._node.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            ) as process,
        ):  # fmt: skip
            try:
                wait_for(lambda: self._node.agent_pid() == process.pid)
                yield process.pid
            finally:
                process.kill()


def wait_for(condition: Callable[[], bool], limit_s: float = 20.0) -> float:
    """Returns how long it took, in seconds."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < limit_s * SLOWNESS, "waited in vain"
        select.select([], [], [], 0.05)
    return time.monotonic() - begun


def status(node: Node, name: str) -> Any:
    return node.pod(name)["status"]


def restarts(node: Node, name: str) -> int:
    return int(status(node, name)["containerStatuses"][0]["restartCount"])


@pytest.mark.parametrize("ahead_s", [-HOUR_S, HOUR_S], ids=["back", "forward"])
def test_the_clock_is_set_by_an_hour(node: Node, tmp_path: Path, ahead_s: int) -> None:
    node.configure("max_container_restart_period_s = 1.0\n")
    pods = [
        builders.pod("loop", builders.container("c", "exit 1"), restartPolicy="Always"),
        builders.pod("deadline", builders.container("c", "sleep 1000"), activeDeadlineSeconds=12),
        builders.pod("stubborn", builders.container("c", STUBBORN), terminationGracePeriodSeconds=5),
    ]
    files = []
    for pod in pods:
        files.append(tmp_path / f"{pod['metadata']['name']}.yaml")
        files[-1].write_text(builders.manifest(pod))
    clock = Clock(node, tmp_path)
    with clock.agent():
        for file in files:
            node("run", "--detach", "--until", "created", file)
        begun = time.monotonic()
        wait_for(lambda: restarts(node, "loop") >= 2)
        clock.set(ahead_s)
        before = restarts(node, "loop")
        wait_for(lambda: restarts(node, "loop") >= before + 2)
        wait_for(lambda: "ClockSet" in node("get", "events").stdout)
        started = status(node, "loop")["containerStatuses"][0]["lastState"]["terminated"]["startedAt"]
        shown_s = datetime.fromisoformat(started) - datetime.now(UTC)
        assert abs(shown_s.total_seconds() - ahead_s) < 30 * SLOWNESS
        with node.popen("delete", "pod", "stubborn") as deletion:
            wait_for(lambda: "deletionTimestamp" in node("get", "pod", "stubborn", "-o", "json").stdout)
            with contextlib.suppress(subprocess.TimeoutExpired):
                deletion.wait(1)
            deletion.send_signal(signal.SIGINT)
    clock.set(2 * ahead_s)  # while no agent runs
    with clock.agent():
        wait_for(lambda: "stubborn" not in node("get", "pods").stdout, 8)  # 5 s of grace, since before the agent
        before = restarts(node, "loop")
        wait_for(lambda: restarts(node, "loop") >= before + 2)
        assert status(node, "deadline")["phase"] == "Running" or time.monotonic() - begun >= 12
        wait_for(lambda: status(node, "deadline").get("reason") == "DeadlineExceeded", 15)
        assert time.monotonic() - begun >= 11
        node("delete", "pod", "loop", "deadline", timeout_s=20 * SLOWNESS)
        node.ask("shutdown")
    text = Path(node.paths.root, "agent.log").read_text()
    way = "back" if ahead_s < 0 else "forward"
    assert f" the clock was set {way} by 3600." in text
    assert f"while no agent ran the clock was set {way} by 3600." in text
