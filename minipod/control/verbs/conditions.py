"""The verb `conditions` (layer 6): what others than the agent say of a pod, a readiness gate's condition above all."""

from __future__ import annotations

from typing import Literal

import msgspec

from minipod.agent.pods.table import Pods
from minipod.control.verbs.requests import converted
from minipod.control.wire import Message
from minipod.errors import UsageError
from minipod.lifecycle import model
from minipod.lifecycle.conditions import KUBELET_CONDITIONS


class Condition(msgspec.Struct, frozen=True):
    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str = ""
    message: str = ""


class ConditionsRequest(msgspec.Struct, frozen=True):
    namespace: str
    pod: str
    conditions: list[Condition]


def set_conditions(pods: Pods, message: Message) -> None:
    """As a patch of the status subresource. Raises NotFoundError, UsageError."""
    request = converted(message, ConditionsRequest)
    worker = pods.find(request.namespace, request.pod)
    for one in request.conditions:
        if one.type in KUBELET_CONDITIONS or not one.type:
            raise UsageError(f'condition "{one.type}": the agent itself says this one; set that of a readiness gate')
    for one in request.conditions:
        worker.tell(model.ConditionSet(type=one.type, status=one.status, reason=one.reason, message=one.message))
