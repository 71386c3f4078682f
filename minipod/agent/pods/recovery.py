"""Takes over what an earlier agent left (layer 5): pods by their saved states and what the runtime finds of them.

A kill -9 can fall between any two lines: what the store says and what the host shows need not agree. The host is
right about what runs, the store about what is wanted; the lifecycle's core makes one of both from `AgentStarted`.
"""

from __future__ import annotations

import logging

import msgspec

from minipod.agent import leftovers, processes
from minipod.agent.node import Node
from minipod.agent.pods import termination
from minipod.agent.pods.executor import Executor, one_line, run_of
from minipod.agent.pods.table import Pods
from minipod.errors import MinipodError, NotFoundError
from minipod.lifecycle import model
from minipod.runtime.status import ContainerState, ContainerStatus, SandboxState

log = logging.getLogger("minipod.agent")


async def recover(node: Node, pods: Pods) -> None:
    """Gives every saved pod a worker again. What cannot be read is logged and does not stop the rest."""
    rebooted = _rebooted(node)
    owners = node.store.owners()
    for uid, data in node.store.states().items():
        try:
            state = msgspec.json.decode(data, type=model.PodState)
        except msgspec.DecodeError as error:
            log.error("pod %s: its saved state cannot be read (%s): minipod gc removes what it left", uid, error)
            continue
        try:
            await _take_over(node, pods, state, owners.get(uid, ""), rebooted)
        except (MinipodError, OSError) as error:
            log.error("pod %s/%s: %s", state.pod.metadata.namespace, state.pod.metadata.name, one_line(error))
    await leftovers.remove_orphans(node)


def _rebooted(node: Node) -> bool:
    now = processes.boot_id()
    before = node.store.meta("boot_id")
    if before != now:
        node.store.set_meta("boot_id", now)
    return before is not None and before != now


async def _take_over(node: Node, pods: Pods, state: model.PodState, owner: str, rebooted: bool) -> None:
    executor = Executor(node, state.pod.metadata.uid, lambda: state.pod, _ignore)
    if rebooted and state.stage not in ("finished", "gone"):
        await executor.redo_volumes()
    found = newest(executor.containers())
    await _remove_older(node, executor, found)
    # One that was never reported as ready may be half made: it does not count, and is removed before the next.
    sandbox = next((status for status in executor.sandboxes() if status.id == state.sandbox.id), None)
    first = model.AgentStarted(
        sandbox_id=sandbox.id if sandbox is not None else "",
        sandbox_ready=sandbox is not None and sandbox.state == SandboxState.READY,
        ips=sandbox.ips if sandbox is not None else (),
        runs={name: run_of(status, _message(state, status)) for name, status in found.items()},
        max_backoff_s=node.config.max_container_restart_period_s,
    )
    if owner and rebooted:
        owner = "0 0"  # that process ended with the boot
    pods.adopt(state, owner, first)
    alive = owner and processes.identity(int(owner.split()[0])) == owner
    log.info("pod %s/%s continues%s", state.pod.metadata.namespace, state.pod.metadata.name, _of(owner, bool(alive)))


def _of(owner: str, alive: bool) -> str:
    if not owner:
        return ""
    return f", owned by process {owner.split()[0]}" if alive else " to its end: its minipod run is gone"


def _message(state: model.PodState, status: ContainerStatus) -> str:
    return termination.message_of(state.pod, status) if status.state == ContainerState.EXITED else ""


def newest(statuses: list[ContainerStatus]) -> dict[str, ContainerStatus]:
    """Of each container the last instance. `statuses`: newest attempt last."""
    return {status.config.name: status for status in statuses}


async def _remove_older(node: Node, executor: Executor, found: dict[str, ContainerStatus]) -> None:
    """Instances that were replaced, whose removal the crash prevented."""
    for status in executor.containers():
        if status.state == ContainerState.EXITED and status.id != found[status.config.name].id:
            try:
                await node.runtime.remove_container(status.id)
            except NotFoundError:
                pass


def _ignore(event: model.Event) -> None:
    """For an executor that only reads: it executes nothing."""
