"""Shows what `run` would do for a pod (layer 3), without root and without doing it.

The lists come from the functions that the runtime executes; what is decided at the start only (uid, ids, a free
address) is filled with the values that would be next.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import msgspec

from minipod.api.types import Container, Pod
from minipod.config import Config
from minipod.errors import MinipodError
from minipod.paths import Paths
from minipod.plan.configs import HostFacts, Image, ImageConfig, NetworkFacts, SandboxConfig
from minipod.plan.network.pod_network import bridge_network, shared_network
from minipod.plan.pod import container_config, sandbox_config
from minipod.plan.render import Section
from minipod.plan.sandbox import pause_process, sandbox_operations
from minipod.plan.volumes.sources import volume_operations
from minipod.runtime.container import plan_of
from minipod.runtime.facts import host_facts
from minipod.runtime.images.store import ImageStore
from minipod.runtime.network import Network

_UID = "<uid>"
_ID = "<sandbox>"


def plan_pod(
    pod: Pod, paths: Paths, config: Config, config_maps: Mapping[str, Mapping[str, str]] | None = None
) -> list[Section]:
    """The sections of one defaulted, valid pod: volumes, network, sandbox, then each container as it would start."""
    facts = host_facts(config, paths.state)
    pod = msgspec.structs.replace(pod, metadata=msgspec.structs.replace(pod.metadata, uid=pod.metadata.uid or _UID))
    sandbox = sandbox_config(pod, paths, config, facts, sandbox_id=_ID)
    name = f"pod {pod.metadata.namespace}/{pod.metadata.name}"
    network = Network(paths, config, warn=lambda _: None)
    lease = network.preview(sandbox)
    shared = [*shared_network(lease), bridge_network(lease)] if lease.bridge else []
    sections = [
        Section(f"{name}: volumes", "host", volume_operations(pod, paths, facts)),
        Section(f"{name}: network shared by all pods", "host", tuple(shared)),
        Section(f"{name}: sandbox", "host", sandbox_operations(sandbox, lease, facts, paths)),
    ]
    pause = pause_process(sandbox, facts, paths, os.uname().machine)
    if pause is not None:
        sections.append(Section(f"{name}: PID 1 of the pod", "child", (pause[0], *pause[1])))
    for container in (*pod.spec.init_containers, *pod.spec.containers):
        kind = "init container" if container in pod.spec.init_containers else "container"
        title = f"{name}: {kind} {container.name}"
        sections += _container(title, pod, container, sandbox, lease, facts, paths, config, _Sources(config_maps or {}))
    return [section for section in sections if section.operations]


class _Unknown(dict[str, str]):
    """Whatever is asked for, a word that stands for it."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self._what = what

    def __contains__(self, key: object) -> bool:
        return True

    def __getitem__(self, key: str) -> str:
        return f"<{key} of {self._what}>"

    def get(self, key: str, default: object = None) -> str:
        return self[key]


class _Sources:
    """What variables are taken from: ConfigMaps of the manifest as they are, of all else only the name."""

    def __init__(self, config_maps: Mapping[str, Mapping[str, str]]) -> None:
        self._config_maps = config_maps

    def config_map(self, name: str) -> Mapping[str, str]:
        return self._config_maps.get(name) or _Unknown(f"configmap {name}")

    def secret(self, name: str) -> Mapping[str, str]:
        return _Unknown(f"secret {name}")

    def env_file(self, volume: str, path: str) -> Mapping[str, str]:
        return _Unknown(f"file {path} in volume {volume}")


def _container(
    title: str,
    pod: Pod,
    container: Container,
    sandbox: SandboxConfig,
    lease: NetworkFacts,
    facts: HostFacts,
    paths: Paths,
    config: Config,
    sources: _Sources,
) -> list[Section]:
    image = _image(container.image, paths, config)
    wanted = container_config(
        pod,
        container,
        paths,
        config,
        facts,
        pod_ips=tuple(address.partition("/")[0] for address in (lease.ipv4, lease.ipv6) if address),
        sandbox_id=sandbox.id,
        container_id=f"<{container.name}>",
        image_user=image.config.user if image.id else None,
        sources=sources,
    )
    plan = plan_of(wanted, sandbox, image, facts, paths)
    return [
        Section(f"{title}: create", "host", plan.host),
        Section(f"{title}: start", "child", (plan.clone, *plan.child)),
    ]


def _image(reference: str, paths: Paths, config: Config) -> Image:
    try:
        found = ImageStore(paths, config.image_directories).resolve(reference)
    except (MinipodError, OSError):
        found = None
    unknown = ImageConfig(cmd=(f"<the command of {reference}>",))
    return found or Image(id="", reference=reference, layers=(f"<the layers of {reference}>",), config=unknown)
