"""kill -9 of an agent with a thread on a mount that never answers: locks and socket stay, the next agent serves."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from pathlib import Path

from minipod.kernel.dying import is_being_killed
from tests import builders
from tests.builders import container, host_path, mount
from tests.hung_mount import hung_mount
from tests.node_fixtures import Node
from tests.patience import SLOWNESS


def test_an_agent_that_was_killed_and_hangs_in_the_kernel_is_replaced(node: Node, tmp_path: Path) -> None:
    node("run", "-d", "-", input=builders.manifest(builders.pod("one", container("a", "sleep 1000"))))
    place = tmp_path / "hung"
    place.mkdir()
    first = node.agent_pid()
    assert first is not None
    assert not is_being_killed(first)
    with hung_mount(str(place)) as asked:
        volumes = [host_path("v", place)]
        stuck = builders.pod("stuck", container("a", "true", volumeMounts=[mount("v", "/v")]), volumes=volumes)
        node("apply", "-", input=builders.manifest(stuck))
        assert asked.wait(20 * SLOWNESS)
        os.kill(first, signal.SIGKILL)
        wait_until_killed(first)
        done = node("get", "pods", "-o", "name", timeout_s=20 * SLOWNESS)
        assert "pod/one" in done.stdout
        assert is_being_killed(first), "it hangs all the time"
        second = node.agent_pid()
        assert second not in (None, first)
        node("exec", "one", "--", "true")
        node("delete", "pod", "one", "--force")
    node("delete", "pod", "stuck", "--force")


def wait_until_killed(pid: int) -> None:
    for _ in range(200):
        if is_being_killed(pid):
            return
        threading.Event().wait(0.01)
    raise AssertionError(subprocess.run(["cat", f"/proc/{pid}/status"], capture_output=True, check=False).stdout)
