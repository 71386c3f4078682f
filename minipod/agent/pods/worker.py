"""Runs one pod (layer 5): feeds events to the lifecycle's core, saves the new state, has its actions executed.

The order makes a kill -9 harmless: the state is saved before an action begins, and the next agent finds on the host
what the action did (`recovery`). All decisions are `lifecycle.core`'s.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec

from minipod.agent.events import PodReference
from minipod.agent.node import Node
from minipod.agent.pods import steps
from minipod.agent.pods.executor import Executor
from minipod.agent.probes.prober import Prober
from minipod.agent.registry.history import Change, change_of
from minipod.agent.registry.store import Record
from minipod.agent.registry.unsaved import SAVE_AGAIN_S
from minipod.api.types import Pod
from minipod.errors import HostError, NotFoundError
from minipod.failpoint import reached
from minipod.lifecycle import core, model
from minipod.lifecycle.allocation import allocated_pod
from minipod.plan.pod import log_directory
from minipod.runtime.status import ContainerStatus
from minipod.runtime.tasks import Tasks

log = logging.getLogger("minipod.agent")

MAX_UNRECORDED = 50  # events that wait until a state can be stored again
# What is lost with these is only in the state: they wait until it is kept.
_DESTRUCTIVE = (model.RemoveContainer, model.CreateSandbox, model.TearDown)

_state_encoder = msgspec.json.Encoder()


class _Write(NamedTuple):
    """A client's change. `applied`: the manifest, where it comes from `apply`."""

    applied: bytes | None = None


class PodWorker:
    """One pod. `post` and `update` are its only inputs; `on_forgotten` is called once, when nothing of it is left.
    `on_place` is called when it may take another part of the node than before."""

    def __init__(
        self,
        node: Node,
        state: model.PodState,
        on_forgotten: Callable[[PodWorker], None],
        on_place: Callable[[model.PodState], None] = lambda state: None,
    ) -> None:
        self._node = node
        self._loop = asyncio.get_running_loop()
        self._on_forgotten = on_forgotten
        self._on_place = on_place
        self.state = state
        self.pod = state.pod
        self.uid = state.pod.metadata.uid
        self.executor = Executor(node, self.uid, lambda: allocated_pod(self.state), self.post)
        self._prober = Prober(node, self.post)
        self.forgotten: asyncio.Future[None] = self._loop.create_future()
        self._inbox: deque[model.Event] = deque()
        self._scheduled = False
        self._closed = False
        self._timer: asyncio.TimerHandle | None = None
        self._timed = False  # whether `_timer` is the one for the current state (which may be none)
        self._unsaved = False  # the store has not got the state …
        self._stale = False  # … and `pod` is not what follows from it
        self._kept: model.PodState | None = None  # the state that `node.unsaved` has
        self._unrecorded: deque[tuple[PodReference, model.RecordEvent, float]] = deque(maxlen=MAX_UNRECORDED)
        self._held: list[model.Action] | None = None  # nothing has got it: what waits for that
        self.trouble = ""  # why something of the pod's end, or its state, cannot be completed for now
        self._tasks = Tasks()

    @property
    def namespace(self) -> str:
        return self.state.pod.metadata.namespace

    @property
    def name(self) -> str:
        return self.state.pod.metadata.name

    @property
    def reference(self) -> PodReference:
        return PodReference(self.namespace, self.name, self.uid, self.pod.metadata.resource_version)

    # -- input --------------------------------------------------------------------------------------------------

    def post(self, event: model.Event) -> None:
        """Queues one event; it is handled in the loop's next iteration."""
        self._inbox.append(event)
        if not self._scheduled and not self._closed:
            self._scheduled = True
            self._node.turns.soon(self._take)

    def update(self, event: model.Event, applied: bytes | None = None) -> Pod:
        """Handles an event at once, after those that are queued. Returns the pod as it is stored then.

        `applied`: the manifest, where `apply` wrote it. Raises HostError where it cannot be stored, and NotFoundError
        where the pod has gone; then nothing has changed.
        """
        self.catch_up()
        if self._closed:
            raise NotFoundError(f'pods "{self.name}" not found')
        before = self.state
        # A deletion is never refused: it may be what frees the disk.
        self._take_one(event, None if isinstance(event, model.DeleteRequested) else _Write(applied))
        self._follow(before)
        return self.pod

    def catch_up(self) -> None:
        """Handles the queued events, so that a caller that reads the pod to change it sees all earlier changes."""
        if self._inbox:
            self._take()

    def container_exited(self, status: ContainerStatus) -> None:
        self.executor.report_exit(status)

    def as_new(self) -> tuple[Record, bytes, Change]:
        """What is to be stored of a new pod, its state, and the change that watches see once that is committed."""
        self.pod = self._object()
        data, metadata = msgspec.json.encode(self.pod), self.pod.metadata
        version = int(metadata.resource_version)
        record = Record("Pod", metadata.namespace, metadata.name, metadata.uid, version, data)
        return record, _state_encoder.encode(self.state), change_of("ADDED", None, self.pod, data)

    def restore(self, saved: bool) -> None:
        """Loads the object that an earlier agent stored, which is shown until the first event. `saved`: the store has
        the state as well."""
        self._unsaved = self._stale = not saved
        try:
            record = self._node.store.get("Pod", self.namespace, self.name)
            if record is not None and record.uid == self.uid:
                self.pod = msgspec.json.decode(record.data, type=Pod)
        except (HostError, msgspec.DecodeError, ValueError) as error:  # ValueError: UTF-8
            log.error("pod %s/%s: its stored object is damaged (%s): made anew", self.namespace, self.name, error)
            self._unsaved = self._stale = True

    def count_again(self) -> None:
        """More time may have passed than the timer has counted."""
        self._set_timer()

    async def close(self) -> None:
        """The agent exits: cancels actions that are under way; the next agent finds what they did."""
        self._closed = True
        self._prober.close()
        if self._timer is not None:
            self._timer.cancel()
        await self._tasks.cancel()

    # -- one turn -----------------------------------------------------------------------------------------------

    def _take(self) -> None:
        self._scheduled = False
        before = self.state
        while self._inbox and not self._closed:
            self._take_one(self._inbox.popleft())
        self._follow(before)

    def _follow(self, before: model.PodState) -> None:
        """Updates the probes and the timer to the state."""
        if self._closed or (self.state is before and self._timed):
            return  # a probe with the same result as before has changed nothing
        self._prober.update(self.state)
        self._set_timer()

    def _wake(self) -> None:
        self._timer, self._timed = None, False
        self.post(model.Tick())

    def _take_one(self, event: model.Event, write: _Write | None = None) -> None:
        """Handles one event: saves one state, publishes one change, so that watches see every status.

        `write`: a client's change: if it cannot be stored, nothing changes and an error is raised. All other events
        have happened, so a state that cannot be saved is saved later.
        """
        before = self.state
        clock = self._node.steady
        try:
            self.state, actions = core.step(before, event, clock.now(), clock.ahead_s)
        except Exception as error:
            if write is not None or isinstance(error, MemoryError):  # which ends this agent (`serve.renewal`)
                raise
            # One event of one pod must not stop the agent: the pod keeps its previous state.
            log.exception("pod %s/%s: %s", self.namespace, self.name, type(event).__name__)
            return
        # Published before the change of status that they cause.
        self._show(steps.of_event(event, before, self.state))
        self._show(steps.of_actions(actions, self.state))
        self._show(steps.of_status(before.status, self.state.status))
        if before is not self.state or actions or self._unsaved:
            self._keep(before, actions, write)
        reached("pod.saved")
        if _has_moved(before, self.state):
            self._on_place(self.state)
        self._note_trouble(event)
        for action in actions:
            if self._held is not None and isinstance(action, _DESTRUCTIVE):
                self._held.append(action)
            else:
                self._begin(action)

    def _show(self, made: Iterable[steps.Step]) -> None:
        for step in made:
            self._node.pod_steps.publish(self.uid, step)

    def _note_trouble(self, event: model.Event) -> None:
        match event:
            case model.TearDownFailed(message=message) | model.ContainerKillFailed(message=message):
                self.trouble = message
            case model.TornDown() | model.ContainerExited() if not self._unsaved:
                self.trouble = ""

    def _keep(self, before: model.PodState, actions: Sequence[model.Action], write: _Write | None) -> None:
        """Saves state and events in one transaction, then publishes them. Raises HostError for a client's change."""
        old, change = self.pod, None
        try:
            self._stale |= before.published != self.state.published or before.pod is not self.state.pod
            if self._stale:
                self.pod = self._object()
                self._stale = False
                change = change_of("MODIFIED", old, self.pod, msgspec.json.encode(self.pod))
            data = None if change is None else change.encoded
            if change is None and self._unsaved:
                data = msgspec.json.encode(self.pod)
            with self._node.store.transaction():
                self._save(data, None if write is None else write.applied)
                if change is not None:
                    self._node.store.after_commit(functools.partial(self._node.history.append, change))
                for action in actions:
                    if isinstance(action, model.RecordEvent):
                        self._record(action)
        except MemoryError:
            self.state, self.pod = before, old
            raise
        except HostError as error:
            if write is not None:
                self.state, self.pod = before, old
                raise
            self._not_saved(error)
            at_s = self._node.clock()
            self._unrecorded.extend((self.reference, a, at_s) for a in actions if isinstance(a, model.RecordEvent))
            if change is not None:
                self._node.history.append(change)
        else:
            self._saved()

    def _not_saved(self, error: HostError) -> None:
        """Keeps the state where a kill -9 leaves it, until the store takes it."""
        if not self._unsaved:
            log.error("pod %s/%s: %s", self.namespace, self.name, error)
        self._unsaved = True
        if self._kept is self.state:
            return
        try:
            self._node.unsaved.put(self.uid, self.namespace, self.name, _state_encoder.encode(self.state))
        except OSError as other:
            self.trouble = f"{error}; and {other.filename}: {(other.strerror or str(other)).lower()}"
            if self._held is None:
                log.error("pod %s/%s: %s", self.namespace, self.name, self.trouble)
                self._held = []
        else:
            self._kept = self.state
            self._go_on()

    def _saved(self) -> None:
        if self._unsaved:
            log.info("pod %s/%s: its state is stored again", self.namespace, self.name)
            self._node.unsaved.drop(self.uid)
            self._unsaved, self._kept = False, None
            self._go_on()
            while self._unrecorded:
                reference, action, at_s = self._unrecorded.popleft()
                self._node.events.note(reference, action.type, action.reason, action.message, at_s)

    def _go_on(self) -> None:
        """The state is kept: what waited for that begins."""
        if self._held is None:
            return
        held, self._held, self.trouble = self._held, None, ""
        for action in held:
            self._begin(action)

    def _save(self, data: bytes | None, applied: bytes | None) -> None:
        """Stores the state, and the object where `data` is not None."""
        metadata, store = self.pod.metadata, self._node.store
        if data is not None:
            version = int(metadata.resource_version)
            store.put(Record("Pod", metadata.namespace, metadata.name, metadata.uid, version, data))
        if applied is not None:
            store.put_applied("Pod", metadata.namespace, metadata.name, metadata.uid, applied)
        store.put_state(self.uid, _state_encoder.encode(self.state))

    def _object(self) -> Pod:
        """The pod as it is now, with a new resourceVersion. Raises HostError."""
        pod = self.state.pod
        return msgspec.structs.replace(
            pod,
            metadata=msgspec.structs.replace(pod.metadata, resource_version=str(self._node.store.next_version())),
            status=core.pod_status(self.state, self._node.facts),
        )

    def _record(self, action: model.RecordEvent) -> None:
        now = self._node.clock()
        what = (action.type, action.reason, action.message)
        self._node.events.record(self.reference, *what, now, action.field_path, action.component)

    def _begin(self, action: model.Action) -> None:
        if isinstance(action, model.RecordEvent):
            return  # it was recorded with the state
        if isinstance(action, model.Forget):
            self._forget()
            return
        self._tasks.begin(self.executor.execute(action))

    def _forget(self) -> None:
        """Removes the pod from the store. Where that cannot be kept it stays, terminating, and keeps its name."""
        self._closed = True
        self._prober.close()
        if self._timer is not None:
            self._timer.cancel()
        try:
            with self._node.store.transaction():
                gone = self._object()
                self._node.store.delete("Pod", self.namespace, self.name)
                self._node.store.delete_applied("Pod", self.namespace, self.name)
                self._node.store.delete_pod(self.uid, log_directory(self.pod, self._node.paths))
                change = change_of("DELETED", self.pod, gone, msgspec.json.encode(gone))
                self._node.store.after_commit(lambda: self._node.history.append(change))
        except HostError as error:
            gone = self.pod
            if not self._forget_later(error):
                return
        reached("pod.forgotten")
        self.pod = gone
        self._on_forgotten(self)
        self.forgotten.set_result(None)

    def _forget_later(self, error: HostError) -> bool:
        """Whether it is kept outside of the store that the pod is gone; else it is tried again."""
        log.error("pod %s/%s: %s", self.namespace, self.name, error)
        try:
            gone = self._object()
            logs = log_directory(self.pod, self._node.paths)
            self._node.unsaved.put_gone(self.uid, self.namespace, self.name, logs)
        except (OSError, HostError) as other:
            self.trouble = f"{error}; {other}"
            self._timer = self._loop.call_later(SAVE_AGAIN_S, self._forget)
            return False
        self._node.history.append(change_of("DELETED", self.pod, gone, msgspec.json.encode(gone)))
        return True

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._closed:
            return
        self._timed = not self._unsaved
        at = core.next_wakeup(self.state)
        now = self._node.steady.now()
        if self._unsaved:
            at = min(at or now + SAVE_AGAIN_S, now + SAVE_AGAIN_S)
        if at is not None:
            self._timer = self._loop.call_later(max(0.0, at - now), self._wake)


def _has_moved(before: model.PodState, after: model.PodState) -> bool:
    """Whether it may take another part of the node than before."""
    if before.stage != after.stage or before.pod.spec is not after.pod.spec:
        return True
    return before.resizing.reason != after.resizing.reason
