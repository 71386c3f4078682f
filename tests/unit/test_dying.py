"""A process that was killed is known, one that runs or is gone is not."""

from __future__ import annotations

import os
import subprocess

from minipod.kernel.dying import is_being_killed


def test_a_process_is_being_killed_from_the_signal_until_it_is_reaped() -> None:
    with subprocess.Popen(["sleep", "1000"]) as process:
        assert not is_being_killed(process.pid)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert is_being_killed(process.pid)
    assert not is_being_killed(process.pid)
    assert not is_being_killed(os.getpid())
