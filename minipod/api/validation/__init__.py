"""Validation as the Kubernetes 1.36 API server's (layer 1, pure).

    validate(object)             on create; any kind of ours, defaulted. Empty list: it is valid
    validate_pod(pod)            the same for a pod
    validate_pod_update, validate_ephemeral_containers_update, validate_pod_resize (new, old)

The rules stand next to what they are about: `containers`, `ports`, `env`, `mounts`, `probes`, `resources`, `security`,
`volumes`, `volume_files`, `projected`, `volume_plugins`, `claims`, `scheduling`, `windows`, `pod_annotations`, `pods`,
`metadata`; their words are in `check` and `formats`.
"""

from __future__ import annotations

from minipod.api.field_error import FieldError
from minipod.api.types import Pod
from minipod.api.validation.check import Check
from minipod.api.validation.pods import pod_on_create

__all__ = ["FieldError", "validate_pod"]


def validate_pod(pod: Pod, written_empty: frozenset[str] = frozenset()) -> list[FieldError]:
    """All findings about a defaulted pod, as on create; empty where it is valid.

    `written_empty` holds the paths of the lists and maps that its text gives as empty (`spec.resources.claims` for
    `claims: []`): the server forbids some fields even then, and the structs cannot tell empty from absent."""
    check = Check(written_empty)
    pod_on_create(check, pod)
    return check.errors
