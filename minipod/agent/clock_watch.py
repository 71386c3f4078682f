"""Notices at once that the wall clock was set or the machine was suspended (layer 5): log, event, timers."""

from __future__ import annotations

import asyncio
import logging

from minipod.agent.events import PodReference
from minipod.agent.node import Node
from minipod.agent.pods.table import Pods
from minipod.agent.steady import described
from minipod.kernel.clock import ClockChange

log = logging.getLogger("minipod.agent")


class ClockWatch:
    """Without it, where the kernel has no such descriptor, a change is noticed with the next event of a pod."""

    def __init__(self, node: Node, pods: Pods) -> None:
        self._node = node
        self._pods = pods
        self._loop = asyncio.get_running_loop()
        node.steady.on_jump = self._jumped

    async def run(self) -> None:
        try:
            change = ClockChange()
        except OSError as error:
            log.warning("changes of the clock are noticed late: %s", error)
            return
        self._loop.add_reader(change.fileno(), self._changed, change)
        try:
            await self._loop.create_future()
        finally:
            self._loop.remove_reader(change.fileno())
            change.close()

    def _changed(self, change: ClockChange) -> None:
        change.acknowledge()
        self._node.steady.look()
        for worker in self._pods.select(None, None):
            worker.count_again()  # the loop's timers do not count a suspend

    def _jumped(self, moved_s: float) -> None:
        self._loop.call_soon(self._record, moved_s)  # not within the step of a pod that noticed it

    def _record(self, moved_s: float) -> None:
        node, name = self._node, self._node.facts.node_name
        about = PodReference("default", name, name, kind="Node")  # its uid is the name, as the kubelet writes it
        node.events.note(about, "Warning", "ClockSet", described(moved_s), node.clock())
