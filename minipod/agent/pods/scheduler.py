"""Assigns pods to this node (layer 5): counts what its pods request, and tries those again that found no room.

The decisions are `lifecycle.admission`'s. What is counted follows each pod's state, so that another pod costs as much
with two thousand others as with two.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from msgspec.structs import replace

from minipod.agent.node import Node
from minipod.agent.registry.selection import Selection
from minipod.api.types import Namespace, Pod
from minipod.lifecycle import admission, model, pod_affinity
from minipod.lifecycle.admission import Demand, Used
from minipod.lifecycle.allocation import allocated_pod

_ON_THE_NODE = ("syncing", "terminating")  # stages of a pod that is assigned to the node and has not ended
_CLAIMS = ("PersistentVolumeClaim", "PersistentVolume")


class _Assigned(NamedTuple):
    pod: Pod
    demand: Demand


class Scheduler:
    """`states`: those of pods by uid; `post`: sends an event to the pod with this uid."""

    def __init__(
        self, node: Node, state_of: Callable[[str], model.PodState | None], post: Callable[[str, model.Event], None]
    ) -> None:
        self._node = node
        self._state_of = state_of
        self._post = post
        self._assigned: dict[str, _Assigned] = {}
        self._keeping_away: dict[str, None] = {}  # uids of those with an anti-affinity
        self._totals: dict[str, int] = {}
        self._waiting: dict[str, None] = {}  # uids of pods without a node, in the order of their coming
        self._watching: asyncio.Task[None] | None = None
        self._looking = False
        self._held = False
        self.on_room: Callable[[], None] = lambda: None  # called when less is requested than before

    # -- new pods -----------------------------------------------------------------------------------------------

    def place(self, pod: Pod) -> tuple[Pod, model.Event]:
        """The pod with its node, if there is room, and the first event of its life. It counts from now on.

        Raises HostError (the store, at the first pod).
        """
        if pod.spec.scheduling_gates:
            return pod, model.PodAdded()
        scheduled = not pod.spec.node_name
        demand = admission.demand_of(pod)
        if scheduled:
            if (why := self._unschedulable(pod, demand)) is not None:
                return pod, why
            pod = self._assign(pod)
        if (refusal := self._refusal(pod, demand)) is not None:
            return pod, refusal
        self._count(pod, demand)
        return pod, model.PodAdded(scheduled=scheduled)

    def forget(self, uid: str) -> None:
        """The pod is gone, or could not be stored."""
        self._waiting.pop(uid, None)
        self._discount(uid)

    def adopt(self, state: model.PodState) -> model.Event | None:
        """Counts a pod of an earlier agent. Of one that this did not get to admit, why it is rejected: all others have
        been admitted, whatever the node is like today."""
        is_new = state.stage == "syncing" and state.start_time is None
        refusal = self._refusal(state.pod, admission.demand_of(state.pod)) if is_new else None
        if refusal is None:
            self.update(state)
        return refusal

    # -- all pods -----------------------------------------------------------------------------------------------

    def update(self, state: model.PodState) -> None:
        """The pod's stage or resources are others than before."""
        uid = state.pod.metadata.uid
        if state.stage == "unscheduled":
            self.wait(uid)
            self._look_soon()
            return
        self._waiting.pop(uid, None)
        if state.stage not in _ON_THE_NODE:
            self._discount(uid)
            return
        pod, known = allocated_pod(state), self._assigned.get(uid)
        if known is None or known.pod.spec is not pod.spec:
            self._count(pod, admission.demand_of(pod))

    def used(self, without: str = "") -> Used:
        """What is requested of the node, but for the pod with this uid."""
        demand, own = self._totals, self._assigned.get(without)
        if own is None:
            return Used(demand, len(self._assigned))
        rest = {name: number - own.demand.get(name, 0) for name, number in demand.items()}
        return Used(rest, len(self._assigned) - 1)

    def _count(self, pod: Pod, demand: Demand) -> None:
        uid = pod.metadata.uid
        before = self._assigned.pop(uid, None)
        if before is not None:
            self._keeping_away.pop(uid, None)
            self._add(before.demand, -1)
        self._assigned[uid] = _Assigned(pod, demand)
        if pod_affinity.has_anti_affinity(pod):
            self._keeping_away[uid] = None
        self._add(demand, 1)
        if before is not None and any(demand.get(name, 0) < number for name, number in before.demand.items()):
            self._look_soon()

    def _discount(self, uid: str) -> None:
        if (known := self._assigned.pop(uid, None)) is not None:
            self._keeping_away.pop(uid, None)
            self._add(known.demand, -1)
            self._look_soon()

    def _add(self, demand: Demand, sign: int) -> None:
        for name, number in demand.items():
            self._totals[name] = self._totals.get(name, 0) + sign * number

    # -- decisions ----------------------------------------------------------------------------------------------

    def _unschedulable(self, pod: Pod, demand: Demand) -> model.Unscheduled | None:
        claims = self._node.claims_lack(pod)
        used = self._with_others(self.used(pod.metadata.uid), pod)
        found = admission.unschedulable(pod, self._node.host_node(), demand, used, claims)
        if found is None:
            return None
        return model.Unscheduled(message=found.message, hint=found.hint, hopeless=found.hopeless)

    def _with_others(self, used: Used, pod: Pod) -> Used:
        """With the pods that an affinity may be about; few pods have one."""
        uids: Iterable[str] = self._assigned if pod_affinity.has_terms(pod) else self._keeping_away
        others = tuple(self._assigned[uid].pod for uid in uids if uid != pod.metadata.uid)
        if not others and not pod_affinity.has_terms(pod):
            return used
        namespaces = {found.metadata.name: found.metadata.labels for found in self._node.registry.all(Namespace)}
        return replace(used, others=others, namespaces=namespaces)

    def _refusal(self, pod: Pod, demand: Demand) -> model.Rejected | None:
        found = admission.refusal(pod, self._node.host_node(), demand, self.used(pod.metadata.uid))
        return None if found is None else model.Rejected(reason=found.reason, message=found.message)

    def _assign(self, pod: Pod) -> Pod:
        return replace(pod, spec=replace(pod.spec, node_name=self._node.facts.node_name))

    # -- pods that wait -----------------------------------------------------------------------------------------

    def wait(self, uid: str) -> None:
        """The pod has no node: it is tried again when something that it may wait for has changed."""
        self._waiting[uid] = None
        if self._watching is None:
            self._watching = asyncio.get_running_loop().create_task(self._watch_claims())

    async def _watch_claims(self) -> None:
        """What pods wait for besides room; only while one waits."""
        watch = self._node.history.watch(Selection.of(*_CLAIMS))
        while self._waiting:
            await watch.changed()
            self._look_soon()
        self._watching = None

    def _look_soon(self) -> None:
        """After what is changing now: a look at each pod of a large deletion would be one too many."""
        if not self._looking:
            self._looking = True
            if not self._held:
                self._node.turns.soon(self._look)

    @contextmanager
    def held(self) -> Iterator[None]:
        """While an earlier agent's pods are taken over nothing is placed: not all are counted yet."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
            if self._looking:
                self._node.turns.soon(self._look)

    def _look(self) -> None:
        self._looking = False
        self.on_room()
        states = [state for uid in self._waiting if (state := self._state_of(uid)) is not None]
        for state in sorted(states, key=_turn):
            self._try(state)

    def _try(self, state: model.PodState) -> None:
        pod, uid = state.pod, state.pod.metadata.uid
        demand = admission.demand_of(pod)
        if (why := self._unschedulable(pod, demand)) is not None:
            self._post(uid, why)
            return
        assigned = self._assign(pod)
        refusal = self._refusal(assigned, demand)
        self._count(assigned, demand)
        self._waiting.pop(uid, None)
        self._post(uid, model.Scheduled(node_name=assigned.spec.node_name))
        if refusal is not None:
            self._post(uid, refusal)

    def close(self) -> None:
        if self._watching is not None:
            self._watching.cancel()


def _turn(state: model.PodState) -> tuple[int, float]:
    """The scheduler's queue: the higher priority first, then the older pod."""
    return -(state.pod.spec.priority or 0), state.added_at
