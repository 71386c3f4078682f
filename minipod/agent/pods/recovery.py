"""Takes over the pods of an earlier agent (layer 5), from their saved states and what the runtime has of them.

A kill -9 can interrupt the agent anywhere, so store and host may disagree. The host is right about what runs, the store
about what is desired; the lifecycle's core reconciles both when it handles `AgentStarted`.
"""

from __future__ import annotations

import logging

import msgspec

from minipod.agent import leftovers, processes
from minipod.agent.node import Node
from minipod.agent.pods import termination
from minipod.agent.pods.executor import Executor, run_of
from minipod.agent.pods.table import Pods
from minipod.lifecycle import model
from minipod.runtime.status import ContainerState, ContainerStatus, SandboxState

log = logging.getLogger("minipod.agent")


async def recover(node: Node, pods: Pods) -> None:
    """Creates a worker for every saved pod. A state that cannot be read is logged and skipped."""
    with pods.scheduler.held():
        await _take_over_all(node, pods)
    await leftovers.remove_orphans(node)


async def _take_over_all(node: Node, pods: Pods) -> None:
    rebooted = _rebooted(node)
    owners = node.store.owners()
    stored = node.store.states()
    newer = node.unsaved.take_over(stored)
    for uid, data in (stored | newer).items():
        try:
            state = msgspec.json.decode(data, type=model.PodState)
        except msgspec.DecodeError as error:
            log.error("pod %s: its saved state cannot be read (%s): minipod gc removes what it left", uid, error)
            continue
        await _take_over(node, pods, state, owners.get(uid, ""), rebooted, uid not in newer)


def _rebooted(node: Node) -> bool:
    now = processes.boot_id()
    before = node.store.meta("boot_id")
    if before != now:
        node.store.note("boot_id", now)
    return before is not None and before != now


async def _take_over(node: Node, pods: Pods, state: model.PodState, owner: str, rebooted: bool, saved: bool) -> None:
    """Raises nothing for what fails on the host: without a worker the pod could not even be deleted. What is missing,
    as all volumes after a reboot, the worker makes as for a new pod, and tries again with an event.
    """
    executor = Executor(node, state.pod.metadata.uid, lambda: state.pod, _ignore)
    await _remove_unstarted(node, executor)
    found = newest(executor.containers())
    await _remove_older(node, executor, found)
    # A sandbox that was never reported as ready may be incomplete: it is ignored, and removed before the next is made.
    sandbox = next((status for status in executor.sandboxes() if status.id == state.sandbox.id), None)
    first = model.AgentStarted(
        sandbox_id=sandbox.id if sandbox is not None else "",
        sandbox_ready=sandbox is not None and sandbox.state == SandboxState.READY,
        ips=sandbox.ips if sandbox is not None else (),
        runs={name: run_of(status, await _message(state, status)) for name, status in found.items()},
        max_backoff_s=node.config.max_container_restart_period_s,
        halted=pods.halted,
    )
    if owner and rebooted:
        owner = "0 0"  # that process ended with the boot
    pods.adopt(state, owner, first, saved)
    alive = owner and processes.identity(int(owner.split()[0])) == owner
    log.info("pod %s/%s continues%s", state.pod.metadata.namespace, state.pod.metadata.name, _of(owner, bool(alive)))


def _of(owner: str, alive: bool) -> str:
    if not owner:
        return ""
    return f", owned by process {owner.split()[0]}" if alive else " to its end: its minipod run is gone"


async def _message(state: model.PodState, status: ContainerStatus) -> str:
    return await termination.message_of(state.pod, status) if status.state == ContainerState.EXITED else ""


def newest(statuses: list[ContainerStatus]) -> dict[str, ContainerStatus]:
    """The newest instance of each container, by name. `statuses`: newest attempt last."""
    return {status.config.name: status for status in statuses}


async def _remove_unstarted(node: Node, executor: Executor) -> None:
    """Removes instances that were created and never started; the next one then has their number (`lifecycle.recovery`)
    and their directories. Raises nothing: what cannot be removed is replaced as one that was started.
    """
    for status in executor.containers():
        if status.state == ContainerState.CREATED:
            await _remove(node, status)


async def _remove_older(node: Node, executor: Executor, found: dict[str, ContainerStatus]) -> None:
    """Removes replaced instances that are left because of the crash. Raises nothing: the others go with the sandbox."""
    for status in executor.containers():
        if status.state == ContainerState.EXITED and status.id != found[status.config.name].id:
            await _remove(node, status)


async def _remove(node: Node, status: ContainerStatus) -> None:
    for failure in await leftovers.remove_container(node, status.id):
        log.warning("the last agent left a %s", failure)


def _ignore(event: model.Event) -> None:
    """For an executor that only reads, and so reports nothing."""
