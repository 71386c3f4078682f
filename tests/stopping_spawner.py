"""A spawner that knows one operation more: to stand still, so that a test can look at what a child holds by then.

Run as a program: `python -m tests.stopping_spawner LISTENER_FD EXITS`.
"""

from __future__ import annotations

import select
import sys

from minipod.kernel.process import set_name
from minipod.plan.operation import ChildContext, ChildOperation
from minipod.runtime.spawner import program

STOPPED = "stopped"  # the name by which a test finds the process


class StandStill(ChildOperation, frozen=True):
    """Until it is killed. A signal would not do: the first process of a PID namespace cannot stop itself."""

    phase = "exec"

    def describe(self) -> str:
        return "stand still"

    def execute(self, ctx: ChildContext) -> None:
        set_name(STOPPED)
        select.select([], [], [])


if __name__ == "__main__":
    program.CHILD_OPERATIONS[StandStill.__name__] = StandStill
    program.main(int(sys.argv[1]), sys.argv[2])
