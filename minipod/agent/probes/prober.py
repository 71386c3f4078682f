"""Makes the probes of one pod when they are due and reports their results to the lifecycle (layer 5).

`lifecycle.probes` decides which containers are probed, from when on, and what a result means; `probes.kinds` makes the
probes. As in pkg/kubelet/prober/worker.go: the attempts of a probe never overlap, missed turns are made up for by one
late probe, and a probe that cannot be made is tried three times.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from minipod.agent.node import Node
from minipod.agent.probes.kinds.connection import Answer, Attempt
from minipod.lifecycle import model, probes
from minipod.lifecycle.probes import WantedProbe

if TYPE_CHECKING:
    from minipod.agent.probes.targets import Make

MAX_TRIES = 3


class Prober:
    """One pod's probes. Call `update` after every event, `close` when the pod or the agent ends."""

    def __init__(self, node: Node, report: Callable[[model.Event], None]) -> None:
        self._node = node
        self._report = report
        self._seen: model.PodState | None = None
        self._workers: dict[tuple[str, str], _Worker] = {}

    def update(self, state: model.PodState) -> None:
        """Starts and stops probes according to the state; a change of status triggers readiness probes at once."""
        before, self._seen = self._seen, state
        if before is state:
            return
        wanted = {(probe.name, probe.kind): probe for probe in probes.wanted_probes(state)}
        for key, worker in list(self._workers.items()):
            if wanted.get(key) != worker.wanted:
                worker.close()
                del self._workers[key]
        changed = before is not None and before.published != state.published
        for key, probe in wanted.items():
            known = self._workers.get(key)
            if known is None:
                self._workers[key] = self._begin(state, probe)
            elif changed and probes.is_asked_at_once(state, probe):
                known.ask()

    def _begin(self, state: model.PodState, probe: WantedProbe) -> _Worker:
        from minipod.agent.probes.targets import maker  # imported late: most pods have no probes

        return _Worker(self._node, probe, maker(self._node, state.pod, state.sandbox.ips, probe), self._report)

    def close(self) -> None:
        for worker in self._workers.values():
            worker.close()
        self._workers.clear()


class _Worker:
    """One probe of one container instance, from its first turn to its last."""

    def __init__(self, node: Node, wanted: WantedProbe, make: Make, report: Callable[[model.Event], None]) -> None:
        self.wanted = wanted
        self._make = make
        self._report = report
        self._clock = node.steady.now
        self._figures = node.probe_figures
        self._loop = asyncio.get_running_loop()
        self._attempt: Attempt | None = None
        self._number = 0  # of the current attempt; answers to earlier ones are ignored
        self._busy = False
        self._tries = 0
        self._asked = False
        self._limit: asyncio.TimerHandle | None = None
        self._turn_at = probes.first_at(wanted, self._clock())
        self._timer = self._wait()

    def close(self) -> None:
        self._timer.cancel()
        self._busy = False
        self._number += 1
        if self._limit is not None:
            self._limit.cancel()
        if self._attempt is not None:
            self._attempt.give_up()

    def ask(self) -> None:
        """A turn at once, or after the current attempt; the next turns are counted from it."""
        if self._busy:
            self._asked = True
            return
        now = self._clock()
        self._turn_at = probes.first_at(self.wanted, now)
        self._timer.cancel()
        self._timer = self._wait()

    def _wait(self) -> asyncio.TimerHandle:
        self._due = self._loop.time() + max(0.0, self._turn_at - self._clock())
        return self._loop.call_at(self._due, self._turn)

    def _turn(self) -> None:
        self._figures.count(self._loop.time() - self._due)
        self._tries = 0
        self._try()

    def _try(self) -> None:
        self._tries += 1
        self._number += 1
        number = self._number
        self._busy = True
        attempt = self._make(partial(self._answered, number))
        if self._busy and self._number == number:  # else it was answered at once
            self._attempt = attempt
            self._limit = self._loop.call_later(self.wanted.probe.timeout_seconds, attempt.time_is_up)

    def _answered(self, number: int, answer: Answer) -> None:
        if number != self._number or not self._busy:
            return
        self._busy = False
        self._attempt = None
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None
        if answer.result == "error" and self._tries < MAX_TRIES:
            self._timer = self._loop.call_later(0, self._try)
            return
        wanted = self.wanted
        self._report(
            model.ProbeResult(
                name=wanted.name,
                container_id=wanted.container_id,
                kind=wanted.kind,
                result=answer.result,
                message=answer.message,
            )
        )
        self._next()

    def _next(self) -> None:
        now = self._clock()
        if self._asked:
            self._asked = False
            self._turn_at = probes.first_at(self.wanted, now)
        else:
            period = self.wanted.probe.period_seconds
            missed = self._turn_at + period
            # Missed turns are made up for by one, now.
            self._turn_at = max(missed, missed + (now - missed) // period * period)
        self._timer = self._wait()
