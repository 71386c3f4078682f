"""The verb `resize` (layer 6): the resize subresource of a running pod."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from minipod.agent.node import Node
from minipod.agent.pods import resizing
from minipod.agent.pods.table import Pods
from minipod.agent.pods.worker import PodWorker
from minipod.agent.registry.registry import refuse
from minipod.api.container_names import not_valid
from minipod.api.defaults import defaulted
from minipod.api.types import Container, Pod, PodSpec, ResourceRequirements
from minipod.api.validation import validate_pod_resize
from minipod.api.validation.prepare import prepared_resize
from minipod.api.validation.same import same
from minipod.control.verbs.requests import converted, typed
from minipod.control.wire import Message
from minipod.errors import ConflictError, NotFoundError
from minipod.lifecycle import model
from minipod.lifecycle.allocation import allocated_pod


class ResizeRequest(msgspec.Struct, frozen=True):
    """`container` None: the pod itself. Quantities by resource name; resources that are not named keep theirs."""

    namespace: str
    pod: str
    container: str | None = None
    requests: dict[str, str] = {}
    limits: dict[str, str] = {}


async def resize(node: Node, pods: Pods, message: Message) -> dict[str, Any]:
    """The verb `resize`. Raises NotFoundError, ConflictError, ManifestError."""
    request = converted(message, ResizeRequest)
    worker = pods.current(request.namespace, request.pod)
    old = worker.pod
    wanted = typed("Pod", worker.name, ResourceRequirements, {"requests": request.requests, "limits": request.limits})
    return request_resize(
        node, pods, worker, replace(old, spec=_resized(old.metadata.name, old.spec, request.container, wanted))
    )


def request_resize(node: Node, pods: Pods, worker: PodWorker, new: Pod) -> dict[str, Any]:
    """The resize subresource of the pod as it is now. Raises ConflictError, ManifestError."""
    old = worker.pod
    new = prepared_resize(defaulted(new, old.metadata.namespace), old)
    refuse("Pod", worker.name, validate_pod_resize(new, old))
    if same(new.spec, old.spec):
        return {"changed": False}
    if words := resizing.too_large(node, new):
        raise ConflictError(f'pods "{worker.name}" is forbidden: {words}')
    reason, words = resizing.no_room(node, new, allocated_pod(worker.state), pods.scheduler.used(worker.uid))
    worker.update(model.ResizeAsked(pod=new, reason=reason, message=words))
    (pods.deferred.add if reason else pods.deferred.discard)(worker.uid)
    return {"changed": True, "reason": resizing.PENDING if reason else "", "message": words}


def _resized(pod: str, spec: PodSpec, container: str | None, wanted: ResourceRequirements) -> PodSpec:
    if container is None:
        return replace(spec, resources=_merged(spec.resources or ResourceRequirements(), wanted))
    names = [container.name for container in (*spec.init_containers, *spec.containers)]
    if container not in names:
        raise NotFoundError(not_valid(container, pod, ", ".join(names)))

    def each(containers: tuple[Container, ...]) -> tuple[Container, ...]:
        return tuple(
            replace(spec, resources=_merged(spec.resources, wanted)) if spec.name == container else spec
            for spec in containers
        )

    return replace(spec, containers=each(spec.containers), init_containers=each(spec.init_containers))


def _merged(old: ResourceRequirements, new: ResourceRequirements) -> ResourceRequirements:
    return replace(old, requests={**old.requests, **new.requests}, limits={**old.limits, **new.limits})
