"""Makes layer 2's configs and operations for a pod on this host (layer 5). Adds only new ids."""

from __future__ import annotations

import msgspec

from minipod.agent.specs import container_spec
from minipod.api.types import Container, EphemeralContainer, Pod
from minipod.config import Config
from minipod.kernel.chance import random_hex
from minipod.paths import Paths
from minipod.plan import pod as pod_plan
from minipod.plan.configs import ContainerConfig, HostFacts, Image, SandboxConfig
from minipod.plan.env import Sources
from minipod.plan.operation import HostOperation
from minipod.plan.volumes import sources as volumes
from minipod.runtime import records
from minipod.runtime.facts import resolv_conf
from minipod.runtime.status import SandboxStatus


def new_id() -> str:
    """A sandbox or container id: 64 hex digits, as in other container runtimes."""
    return random_hex(32)


class PodPlanner:
    """Calls `plan.pod` and `plan.volumes.sources` with this host's paths, configuration and facts."""

    def __init__(self, paths: Paths, config: Config, facts: HostFacts) -> None:
        self._paths = paths
        self._config = config
        self._facts = facts

    def sandbox_config(self, pod: Pod, attempt: int) -> SandboxConfig:
        facts = msgspec.structs.replace(self._facts, resolv_conf=resolv_conf())  # as it is now, as for the kubelet
        return pod_plan.sandbox_config(pod, self._paths, self._config, facts, sandbox_id=new_id(), attempt=attempt)

    def container_config(
        self, pod: Pod, name: str, attempt: int, image: Image, sandbox: SandboxStatus, sources: Sources
    ) -> ContainerConfig:
        return pod_plan.container_config(
            pod,
            _as_container(container_spec(pod, name)),
            self._paths,
            self._config,
            self._facts,
            pod_ips=sandbox.ips,
            sandbox_id=sandbox.id,
            container_id=new_id(),
            attempt=attempt,
            image_user=image.config.user,
            sources=sources,
        )

    def volume_operations(self, pod: Pod, found: volumes.FoundSources) -> tuple[HostOperation, ...]:
        return volumes.volume_operations(pod, self._paths, self._facts, found)

    def encode_operations(self, operations: tuple[HostOperation, ...]) -> bytes:
        return records.encode_operations(operations)

    def decode_operations(self, data: bytes) -> tuple[HostOperation, ...]:
        return records.decode_operations(data)


def _as_container(spec: Container | EphemeralContainer) -> Container:
    """An ephemeral container without its target, which the executor handles."""
    return spec if isinstance(spec, Container) else msgspec.convert(spec, Container, from_attributes=True)
