"""Which instance of a container a log request means, and whether that has ended (layer 5, pure).

Rules: the kubelet's kubelet_pods.go (validateContainerLogStatus). Pods are plain data, as JSON has them.
"""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers take the name for typing's, whose import costs

if TYPE_CHECKING:
    from typing import Any

IMAGE_TROUBLE = {
    "ErrImagePull": "image can't be pulled",
    "ImagePullBackOff": "trying and failing to pull image",
}
_STATUSES = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")


class NoLogError(Exception):
    """There is no such instance yet, or any more."""


def status_of(pod: dict[str, Any], container: str) -> dict[str, Any]:
    """Empty where there is none yet."""
    status = pod.get("status") or {}
    for found in (found for field in _STATUSES for found in status.get(field) or ()):
        if found["name"] == container:
            return dict(found)
    return {}


def instance(pod: dict[str, Any], container: str, previous: bool) -> int:
    """The restart count of the instance that is meant. Raises NoLogError with the kubelet's words."""
    name = pod["metadata"]["name"]
    status = status_of(pod, container)
    state = status.get("state") or {}
    restarts = int(status.get("restartCount") or 0)
    has_last = "terminated" in (status.get("lastState") or {})
    if previous:
        if has_last:
            return restarts if "waiting" in state else restarts - 1
        raise NoLogError(f'previous terminated container "{container}" in pod "{name}" not found')
    if "running" in state or "terminated" in state or has_last:
        return restarts
    reason = (state.get("waiting") or {}).get("reason")
    if reason:
        why = IMAGE_TROUBLE.get(reason, reason)
        raise NoLogError(f'container "{container}" in pod "{name}" is waiting to start: {why}')
    raise NoLogError(f'container "{container}" in pod "{name}" is not available')


def has_ended(pod: dict[str, Any], container: str, number: int) -> bool:
    """Whether that instance has ended: nothing more will be logged."""
    status = status_of(pod, container)
    if not status:
        return False
    restarts = int(status.get("restartCount") or 0)
    if restarts != number:
        return restarts > number
    return "running" not in (status.get("state") or {})
