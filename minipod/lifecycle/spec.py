"""Look-ups in a pod's spec, and words made from it (layer 4, pure). Knows no state."""

from __future__ import annotations

import time

from minipod.api.status import is_sidecar
from minipod.api.types import Container, EphemeralContainer, Pod, Probe

AnyContainer = Container | EphemeralContainer
DEFAULT_GRACE_S = 30


def find_container(pod: Pod, name: str) -> AnyContainer | None:
    everything: tuple[AnyContainer, ...] = pod.spec.containers + pod.spec.init_containers
    everything += pod.spec.ephemeral_containers
    return next((container for container in everything if container.name == name), None)


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


def rfc3339(at_s: float) -> str:
    """metav1.Time on the wire: UTC, whole seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at_s))


def go_duration(seconds: float) -> str:
    """As Go prints a Duration, cut to whole milliseconds: 812ms, 1.5s, 1m20s, 5m0s, 1h0m0s."""
    millis = int(seconds * 1000 + 1e-6)
    if 0 < millis < 1000:
        return f"{millis}ms"
    hours, minutes, rest = millis // 3_600_000, millis // 60_000 % 60, millis % 60_000
    text = f"{rest // 1000}.{rest % 1000:03d}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text
