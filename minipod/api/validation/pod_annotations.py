"""Rules for the annotations that mean something to a pod, most of them older than the fields (layer 1, pure)."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from minipod.api.types import AppArmorProfile, Pod, PodSpec, SeccompProfile, Toleration
from minipod.api.validation.check import Check, Key, Path
from minipod.api.validation.formats import descending_path
from minipod.api.validation.metadata import ANNOTATIONS
from minipod.api.validation.same import structs_in_json
from minipod.api.validation.scheduling import tolerations
from minipod.api.validation.visit import every_container

MIRROR = "kubernetes.io/config.mirror"
STATIC_FILE = "minipod/config.file"  # not Kubernetes': of a static pod, the file to change
TOLERATIONS = "scheduler.alpha.kubernetes.io/tolerations"
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
SECCOMP_POD = "seccomp.security.alpha.kubernetes.io/pod"
SECCOMP_CONTAINER = "container.seccomp.security.alpha.kubernetes.io/"
APP_ARMOR_CONTAINER = "container.apparmor.security.beta.kubernetes.io/"

_SPECIAL_PREFIXES = ("kubernetes.io/", "scheduler.", "controller.", "seccomp.", "container.")

LOCALHOST = "localhost/"
_SECCOMP_WORDS = {"Unconfined": ("unconfined",), "RuntimeDefault": ("runtime/default", "docker/default")}
_APP_ARMOR_WORDS = {"Unconfined": ("unconfined",), "RuntimeDefault": ("runtime/default",)}


def pod_annotations(check: Check, annotations: Mapping[str, str], spec: PodSpec) -> None:
    if not any(name.startswith(_SPECIAL_PREFIXES) for name in annotations):
        return
    if MIRROR in annotations and not spec.node_name:
        check.invalid(ANNOTATIONS, Key(MIRROR), value=annotations[MIRROR], why="needs spec.nodeName")
    if annotations.get(TOLERATIONS):
        annotated_tolerations(check, annotations[TOLERATIONS])
    cost = annotations.get(DELETION_COST)
    if cost is not None and not _is_cost(cost):
        check.invalid(ANNOTATIONS, Key(DELETION_COST), value=cost, why="must be an integer of 32 bits")
    for name, value in annotations.items():
        if name == SECCOMP_POD or name.startswith(SECCOMP_CONTAINER):
            seccomp_word(check, value, (ANNOTATIONS, name))
        elif name.startswith(APP_ARMOR_CONTAINER):
            app_armor_word(check, name, value, spec)


def _is_cost(text: str) -> bool:
    """A 32-bit integer without leading zeros or a plus sign."""
    shaped = re.fullmatch("0|-[0-9]+|[1-9][0-9]*", text) is not None
    return shaped and len(text.lstrip("-").lstrip("0")) <= 10 and -(2**31) <= int(text) < 2**31


def annotated_tolerations(check: Check, text: str) -> None:
    try:
        values = structs_in_json(text, Toleration)
    except msgspec.ValidationError as error:
        check.invalid(ANNOTATIONS, value=TOLERATIONS, why=f"must be tolerations in JSON: {error}")
    else:
        tolerations(check, values, (ANNOTATIONS, TOLERATIONS))


def seccomp_word(check: Check, value: str, path: Path) -> None:
    if value.startswith(LOCALHOST):
        check.format(value.removeprefix(LOCALHOST), descending_path, path)
    elif value not in ("runtime/default", "docker/default", "unconfined"):
        why = "must be runtime/default, unconfined or localhost/<path>"
        check.invalid(path, value=value, why=why)


def app_armor_word(check: Check, name: str, value: str, spec: PodSpec) -> None:
    container_name = name.removeprefix(APP_ARMOR_CONTAINER)
    if not any(container.name == container_name for container, _ in every_container(spec, ())):
        check.invalid(ANNOTATIONS, Key(name), value=container_name, why="must name a container of the pod")
    if value not in ("", "runtime/default", "unconfined") and not value.startswith(LOCALHOST):
        why = "must be runtime/default, unconfined or localhost/<name>"
        check.invalid(ANNOTATIONS, Key(name), value=value, why=why)


# An annotation and the field for the same must agree when a pod is created


def annotations_match_fields(check: Check, pod: Pod, path: Path) -> None:
    annotations, spec = pod.metadata.annotations, pod.spec
    if not any(name.startswith((SECCOMP_POD, SECCOMP_CONTAINER, APP_ARMOR_CONTAINER)) for name in annotations):
        return
    of_pod = spec.security_context
    if of_pod is not None:
        word = annotations.get(SECCOMP_POD)
        _matches(check, word, of_pod.seccomp_profile, _SECCOMP_WORDS, (path, "securityContext", "seccompProfile"))
    linux = spec.os is None or spec.os.name != "windows"
    for container, container_path in every_container(spec, path):
        at = (container_path, "securityContext")
        context = container.security_context
        seccomp = context.seccomp_profile if context else None
        word = annotations.get(f"{SECCOMP_CONTAINER}{container.name}")
        _matches(check, word, seccomp, _SECCOMP_WORDS, (at, "seccompProfile"))
        if linux:
            inherited = of_pod.app_armor_profile if of_pod else None
            app_armor = (context.app_armor_profile if context else None) or inherited
            word = annotations.get(f"{APP_ARMOR_CONTAINER}{container.name}")
            _matches(check, word, app_armor, _APP_ARMOR_WORDS, (at, "appArmorProfile"))


def _matches(
    check: Check,
    word: str | None,
    profile: SeccompProfile | AppArmorProfile | None,
    words: Mapping[str, tuple[str, ...]],
    path: Path,
) -> None:
    if word is None or profile is None:
        return
    why = f"must agree with the annotation, which says {word}"
    if profile.type == "Localhost":
        if not word.startswith(LOCALHOST):
            check.forbidden(path, "type", why=why)
        elif word.removeprefix(LOCALHOST) != profile.localhost_profile:
            check.forbidden(path, "localhostProfile", why=why)
    elif profile.type in words and word not in words[profile.type]:
        check.forbidden(path, "type", why=why)
