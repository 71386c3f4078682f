"""The progress of pods for clients that wait for them (layer 5): readable steps, in order with the pods' changes.

Steps are not changes of an object and have no history: a listener gets those from its start on, and a warning with the
number of steps that were dropped because it did not read them in time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType

import msgspec

from minipod.agent.pods.steps import Step
from minipod.agent.registry.history import Change, ChangeType, History
from minipod.agent.registry.selection import Selection
from minipod.api.types import Pod
from minipod.errors import ExpiredError

MAX_UNREAD = 1000


class PodStep(msgspec.Struct, frozen=True):
    """A step of the pod with this uid. `number`: that of the first change in the history after it."""

    uid: str
    step: Step
    number: int


class Steps:
    """The listeners to the steps of each pod, by uid."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._listeners: dict[str, set[Progress]] = {}

    def publish(self, uid: str, step: Step) -> None:
        for listener in self._listeners.get(uid, ()):
            listener.offer(PodStep(uid, step, self._history.end))

    def is_heard(self, uid: str) -> bool:
        return uid in self._listeners

    def add(self, uid: str, listener: Progress) -> None:
        self._listeners.setdefault(uid, set()).add(listener)

    def remove(self, uid: str, listener: Progress) -> None:
        listeners = self._listeners.get(uid, set())
        listeners.discard(listener)
        if not listeners:
            self._listeners.pop(uid, None)


class Progress:
    """Changes and steps of some pods, from now on: `with Progress(…) as progress: news = await progress.next()`.

    `pods`: by uid, functions that return the pod as it is now, or None once it is gone. A reader that is so far behind
    that the history has dropped changes gets the current state of every pod in place of what it missed.
    """

    def __init__(self, history: History, steps: Steps, pods: Mapping[str, Callable[[], Pod | None]]) -> None:
        shown = {uid: pod() for uid, pod in pods.items()}
        self._shown = {uid: pod for uid, pod in shown.items() if pod is not None}
        places = (("Pod", pod.metadata.namespace, pod.metadata.name) for pod in self._shown.values())
        self._watch = history.watch(Selection(frozenset(places)))
        self._history = history
        self._all_steps = steps
        self._pods = pods
        self._steps: deque[PodStep] = deque()
        self._dropped = 0
        self._missed: deque[Change] = deque()
        self._waiter: asyncio.Future[None] | None = None

    def __enter__(self) -> Progress:
        for uid in self._pods:
            self._all_steps.add(uid, self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for uid in self._pods:
            self._all_steps.remove(uid, self)

    def offer(self, step: PodStep) -> None:
        if len(self._steps) >= MAX_UNREAD:  # a reader that hangs must not eat the agent's memory
            self._steps.popleft()
            self._dropped += 1
        self._steps.append(step)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def next(self) -> Change | PodStep:
        """The next change or step, in order. One caller at a time; may be cancelled without losing anything."""
        while (news := self._take()) is None:
            self._waiter = asyncio.get_running_loop().create_future()
            self._watch.begin_waiting(self._waiter)
            try:
                await self._waiter
            finally:
                self._watch.end_waiting()
                self._waiter = None
        return news

    def _take(self) -> Change | PodStep | None:
        if self._missed:
            return self._missed.popleft()
        if self._dropped:
            uid, number = self._steps[0].uid, self._steps[0].number
            step = Step(step="warning", message=f"{self._dropped} steps are not shown: they were not read in time")
            self._dropped = 0
            return PodStep(uid, step, number)
        try:
            change = self._next_change()
        except ExpiredError:
            self._look_again()
            return self._take()
        if change is not None:
            return change
        return self._steps.popleft() if self._steps else None

    def _next_change(self) -> Change | None:
        """The next one that came before the next step."""
        before = self._steps[0].number if self._steps else None
        while (change := self._watch.take(before)) is not None:
            if change.uid in self._pods:  # another pod may have the name by now
                self._shown[change.uid] = change.new
                return change
        return None

    def _look_again(self) -> None:
        self._watch.skip()
        for uid, current in self._pods.items():
            pod, shown = current(), self._shown.get(uid)
            if shown is None:
                continue
            new = shown if pod is None else pod
            place = (new.metadata.namespace, new.metadata.name, uid)
            type_: ChangeType = "MODIFIED" if pod is not None else "DELETED"
            self._missed.append(Change(self._history.version, type_, "Pod", *place, shown, new))
            self._shown[uid] = new
