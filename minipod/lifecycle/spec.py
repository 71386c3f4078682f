"""Look-ups in a pod's spec, and words made from it (layer 4, pure). Knows no state."""

from __future__ import annotations

from minipod.api.status import is_sidecar
from minipod.api.types import Container, EphemeralContainer, Pod, Probe

AnyContainer = Container | EphemeralContainer
DEFAULT_GRACE_S = 30


def find_container(pod: Pod, name: str) -> AnyContainer | None:
    everything: tuple[AnyContainer, ...] = pod.spec.containers + pod.spec.init_containers
    everything += pod.spec.ephemeral_containers
    return next((container for container in everything if container.name == name), None)


def image_of(pod: Pod, name: str) -> str:
    container = find_container(pod, name)
    return container.image if container is not None else ""


def volume_images(pod: Pod, name: str) -> tuple[str, ...]:
    """The images that the container mounts as volumes."""
    container = find_container(pod, name)
    mounted = {mount.name for mount in container.volume_mounts} if container is not None else set()
    return tuple(v.image.reference for v in pod.spec.volumes if v.image is not None and v.name in mounted)


def kind_of(pod: Pod, name: str) -> str:
    """init | main | ephemeral"""
    if any(container.name == name for container in pod.spec.init_containers):
        return "init"
    if any(container.name == name for container in pod.spec.ephemeral_containers):
        return "ephemeral"
    return "main"


def is_regular_init(pod: Pod, name: str) -> bool:
    return any(container.name == name and not is_sidecar(container) for container in pod.spec.init_containers)


def is_probed(pod: Pod, name: str) -> bool:
    """Main containers and sidecars have probes and a part in readiness."""
    container = next((c for c in pod.spec.init_containers if c.name == name), None)
    return is_sidecar(container) if container else any(c.name == name for c in pod.spec.containers)


def probe_of(container: AnyContainer, kind: str) -> Probe | None:
    """`kind`: startup | liveness | readiness"""
    if kind == "startup":
        return container.startup_probe
    return container.liveness_probe if kind == "liveness" else container.readiness_probe


def field_path(pod: Pod, name: str) -> str:
    """Where an event about a container points to: spec.initContainers{name}."""
    lists = {"init": "initContainers", "main": "containers", "ephemeral": "ephemeralContainers"}
    return f"spec.{lists[kind_of(pod, name)]}{{{name}}}"


def pod_words(pod: Pod) -> str:
    """How the kubelet names a pod in messages: name_namespace(uid)."""
    return f"{pod.metadata.name}_{pod.metadata.namespace}({pod.metadata.uid})"
