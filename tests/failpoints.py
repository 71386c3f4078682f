"""Arms a failpoint (`minipod.failpoint`) in what a node starts next, and waits until a process has reached it."""

from __future__ import annotations

import contextlib
import os
import select
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from minipod.failpoint import VARIABLE
from tests.node_fixtures import Node
from tests.patience import SLOWNESS

WAIT_S = 20.0 * SLOWNESS
POLL_S = 0.01


class Hit:
    """The armed step: whether a process has reached it, and which."""

    def __init__(self, name: str, action: str, marker: Path) -> None:
        self._name = name
        self._action = action
        self._marker = marker

    def pid(self) -> int | None:
        """The process that has reached it; None until then."""
        try:
            return int(self._marker.read_text())
        except FileNotFoundError:
            return None

    def wait(self, timeout_s: float = WAIT_S) -> int:
        """The pid of the process that has reached it, once the action has taken effect: ended (reaped or not), or
        stopped. Fails the test where the step is not reached.
        """
        until = time.monotonic() + timeout_s
        while (pid := self.pid()) is None:
            if time.monotonic() > until:
                pytest.fail(f"{self._name}: not reached within {timeout_s:.0f} s")
            time.sleep(POLL_S)
        if self._action in ("kill", "term"):
            _wait_for_end(pid, until)
        while self._action == "stop" and psutil.Process(pid).status() != psutil.STATUS_STOPPED:
            assert time.monotonic() < until, f"{self._name}: process {pid} does not stop"
            time.sleep(POLL_S)
        return pid


def _wait_for_end(pid: int, until: float) -> None:
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        ready, _, _ = select.select([pidfd], [], [], max(0.0, until - time.monotonic()))
        assert ready, f"process {pid} does not end"
    finally:
        os.close(pidfd)


@contextlib.contextmanager
def armed(node: Node, name: str, action: str = "kill", nth: int = 1) -> Iterator[Hit]:
    """The agent, spawner and commands that `node` starts in this block take `action` at the `nth` passage of the step;
    only the first process that reaches it does. Those that run already are not armed.
    """
    with tempfile.TemporaryDirectory(prefix="mpp", dir="/tmp") as folder:
        marker = Path(folder, "reached")
        node.env[VARIABLE] = f"{name} {action} {marker} {nth}"
        try:
            yield Hit(name, action, marker)
        finally:
            del node.env[VARIABLE]
