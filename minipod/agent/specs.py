"""Looks up containers in a pod's spec (layer 5, pure)."""

from __future__ import annotations

from minipod.api.types import Container, EphemeralContainer, Pod
from minipod.errors import NotFoundError


def containers(pod: Pod) -> tuple[Container | EphemeralContainer, ...]:
    """Init, main and ephemeral containers, in this order."""
    return (*pod.spec.init_containers, *pod.spec.containers, *pod.spec.ephemeral_containers)


def container_spec(pod: Pod, name: str) -> Container | EphemeralContainer:
    """The init, main or ephemeral container of that name. Raises NotFoundError."""
    for container in containers(pod):
        if container.name == name:
            return container
    raise NotFoundError(f"pod {pod.metadata.name}: container {name} is not in its spec")
