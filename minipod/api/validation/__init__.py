"""Validation as the Kubernetes 1.36 API server's (layer 1, pure). Objects are defaulted before (`api.defaults`).

    validate(object)                     on create, any kind of ours; an empty list: it is valid
    validate_update(new, old)            any kind of ours
    validate_pod, validate_pod_update    the same for pods
    validate_ephemeral_containers_update, validate_pod_resize (new, old)      a pod's subresources
    prepare.prepared_update, …           what makes `new` of what a client sends

The rules stand next to what they are about: `pods`, `containers`, `ports`, `env`, `mounts`, `probes`, `resources`,
`security`, `windows`, `volumes`, `volume_files`, `projected`, `volume_plugins`, `claims`, `scheduling`,
`pod_annotations`, `pod_updates`, `metadata`; `objects`, `nodes`, `persistent_volumes` for the other kinds. Their
vocabulary is `check` and `formats`.

`written_empty`: the paths of the lists and maps that the text gives as empty (`spec.resources.claims` of `claims: []`).
The server forbids a few fields even then, and in the structs empty and absent are the same.
"""

from __future__ import annotations

from minipod.api.field_error import FieldError
from minipod.api.kinds import kind_of
from minipod.api.types import Object, Pod
from minipod.api.validation.check import Check

__all__ = [
    "FieldError",
    "validate",
    "validate_ephemeral_containers_update",
    "validate_pod",
    "validate_pod_resize",
    "validate_pod_update",
    "validate_update",
]

_NOTHING: frozenset[str] = frozenset()


def validate(value: Object, written_empty: frozenset[str] = _NOTHING) -> list[FieldError]:
    """All findings about an object that is to be created; empty where it is valid. KeyError for a kind of others."""
    check = Check(written_empty)
    kind_of(value).on_create(check, value)
    return check.errors


def validate_update(new: Object, old: Object, written_empty: frozenset[str] = _NOTHING) -> list[FieldError]:
    """All findings about `new` (as `prepare` makes it) in the place of `old`; both of one kind."""
    check = Check(written_empty)
    kind_of(new).on_update(check, new, old)
    return check.errors


def validate_pod(pod: Pod, written_empty: frozenset[str] = _NOTHING) -> list[FieldError]:
    return validate(pod, written_empty)


def validate_pod_update(new: Pod, old: Pod, written_empty: frozenset[str] = _NOTHING) -> list[FieldError]:
    return validate_update(new, old, written_empty)


def validate_ephemeral_containers_update(
    new: Pod, old: Pod, written_empty: frozenset[str] = _NOTHING
) -> list[FieldError]:
    from minipod.api.validation import pod_updates

    check = Check(written_empty)
    pod_updates.ephemeral_containers_update(check, new, old)
    return check.errors


def validate_pod_resize(new: Pod, old: Pod, written_empty: frozenset[str] = _NOTHING) -> list[FieldError]:
    from minipod.api.validation import pod_updates

    check = Check(written_empty)
    pod_updates.pod_resize(check, new, old)
    return check.errors
