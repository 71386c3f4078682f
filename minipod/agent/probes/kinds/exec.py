"""The exec probe (layer 5), after pkg/probe/exec: a command in the container; its exit status is the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from minipod.agent.probes.kinds.connection import Answer, Done
from minipod.errors import MinipodError
from minipod.runtime.status import ExecResult

MAX_OUTPUT = 10 << 10  # of both streams together

Run = Callable[[Sequence[str], float], Awaitable[ExecResult]]


class ExecProbe:
    """One attempt. `run(command, timeout_s)` raises TimeoutError when the command had to be killed."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, run: Run, command: Sequence[str], timeout_s: int, done: Done
    ) -> None:
        self._run = run
        self._command = command
        self._timeout_s = timeout_s
        self._done = done
        self._task = loop.create_task(self._make())

    async def _make(self) -> None:
        try:
            result = await self._run(self._command, self._timeout_s)
        except TimeoutError:
            self._done(self._timed_out())
        except (MinipodError, OSError) as error:
            self._done(Answer("error", " ".join(str(error).split())))
        else:
            output = (result.stdout + result.stderr)[:MAX_OUTPUT].decode("utf-8", "replace")
            self._done(Answer("success" if result.exit_code == 0 else "failure", output))

    def _timed_out(self) -> Answer:
        return Answer("failure", f'command timed out: "{" ".join(self._command)}" timed out after {self._timeout_s}s')

    def time_is_up(self) -> None:
        """Nothing: the runtime keeps the time of a command, since it has to kill it."""

    def give_up(self) -> None:
        self._task.cancel()
