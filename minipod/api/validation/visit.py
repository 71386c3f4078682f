"""Iterating over all containers of a pod, whatever their kind (layer 1, pure)."""

from __future__ import annotations

from collections.abc import Iterator

from minipod.api.types import Container, EphemeralContainer, PodSpec
from minipod.api.validation.check import Path

AnyContainer = Container | EphemeralContainer


def every_container(spec: PodSpec, path: Path) -> Iterator[tuple[AnyContainer, Path]]:
    """Each container with its path: init, regular, then ephemeral ones."""
    for index, container in enumerate(spec.init_containers):
        yield container, (path, "initContainers", index)
    for index, container in enumerate(spec.containers):
        yield container, (path, "containers", index)
    for index, ephemeral in enumerate(spec.ephemeral_containers):
        yield ephemeral, (path, "ephemeralContainers", index)
