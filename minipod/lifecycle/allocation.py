"""What a pod was allocated while a resize of it waits (layer 4, pure). Decides nothing."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from minipod.api.types import Container, Pod, ResourceRequirements
from minipod.lifecycle.model import PodState


def allocated_pod(state: PodState) -> Pod:
    """The pod as it is to run: as its spec says, but for resources that there is no room for yet."""
    resizing = state.resizing
    if not resizing.reason:
        return state.pod
    spec = state.pod.spec
    return replace(
        state.pod,
        spec=replace(
            spec,
            resources=resizing.pod_level,
            containers=_with(spec.containers, resizing.allocated),
            init_containers=_with(spec.init_containers, resizing.allocated),
        ),
    )


def allocation(pod: Pod) -> dict[str, ResourceRequirements]:
    """By container."""
    return {one.name: one.resources for one in (*pod.spec.init_containers, *pod.spec.containers)}


def _with(containers: tuple[Container, ...], resources: Mapping[str, ResourceRequirements]) -> tuple[Container, ...]:
    return tuple(replace(one, resources=resources.get(one.name, one.resources)) for one in containers)
