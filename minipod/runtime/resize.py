"""New limits for what runs (layer 3): CRI's UpdateContainerResources and UpdatePodSandboxResources."""

from __future__ import annotations

from msgspec.structs import replace

from minipod.errors import ContainerError
from minipod.plan.cgroup import CgroupSetting, container_cgroup_path, placed_files
from minipod.plan.configs import CgroupResources, HostFacts
from minipod.runtime.container import Container

REASON = "ResizeError"


def update_container(container: Container, resources: CgroupResources, facts: HostFacts) -> None:
    """Raises ContainerError for what the kernel refuses."""
    config = container.status.config
    path = container_cgroup_path(container.record.sandbox.cgroup_parent, config.id)
    _apply(placed_files(path, resources, facts, container=True), _grows(config.resources, resources))
    container.update(config=replace(config, resources=resources))


def update_pod(path: str, before: CgroupResources, resources: CgroupResources, facts: HostFacts) -> None:
    """The pod's own group. Raises ContainerError."""
    _apply(placed_files(path, resources, facts, container=False), _grows(before, resources))


def _grows(before: CgroupResources, after: CgroupResources) -> bool:
    return (after.memory_limit_bytes or 0) > (before.memory_limit_bytes or 0)


def _apply(settings: tuple[CgroupSetting, ...], grows: bool) -> None:
    # Of v1's two memory limits the one for memory and swap together must never be the smaller one.
    ordered = sorted(settings, key=lambda setting: "memsw" not in setting.name) if grows else settings
    for setting in ordered:
        try:
            setting.apply()
        except OSError as error:
            raise ContainerError(f"{setting.name} {setting.value}: {(error.strerror or '').lower()}", REASON) from error
