"""The part of a pod's status that clients may write (layer 6): the conditions of readiness gates."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from minipod.agent.node import Node
from minipod.agent.pods.table import Pods
from minipod.agent.pods.worker import PodWorker
from minipod.api.types import Pod, PodCondition
from minipod.errors import UsageError
from minipod.lifecycle import model
from minipod.lifecycle.conditions import KUBELET_CONDITIONS
from minipod.lifecycle.values import SetCondition

_STATUSES = ("True", "False", "Unknown")


def set_status(_node: Node, _pods: Pods, worker: PodWorker, new: Pod) -> dict[str, Any]:
    """The status subresource. Raises UsageError for fields that only the agent writes."""
    old = {condition.type: condition for condition in worker.pod.status.conditions}
    changed = [condition for condition in new.status.conditions if condition != old.get(condition.type)]
    removed = old.keys() - {condition.type for condition in new.status.conditions}
    if removed or replace(new.status, conditions=()) != replace(worker.pod.status, conditions=()):
        raise UsageError("patch: of a pod's status only conditions can be set: all else is the agent's")
    for condition in changed:
        if condition.type in KUBELET_CONDITIONS or not condition.type:
            raise UsageError(f'condition "{condition.type}": the agent writes this one; set that of a readiness gate')
        if condition.status not in _STATUSES:
            raise UsageError(f'condition "{condition.type}": status must be one of {", ".join(_STATUSES)}')
    if changed:
        worker.update(model.ConditionsSet(conditions=tuple(_set(condition) for condition in changed)))
    return {}


def _set(condition: PodCondition) -> SetCondition:
    return SetCondition(
        type=condition.type, status=condition.status, reason=condition.reason, message=condition.message
    )
