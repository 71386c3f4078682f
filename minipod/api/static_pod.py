"""Static pods (layer 1, pure): the Pod that the text of a file stands for. Reads no files.

Rules: pkg/kubelet/config/common.go (tryDecodeSinglePod, applyDefaults), pkg/api/pod/util.go (HasAPIObjectReference),
pkg/kubelet/pod/mirror_client.go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from minipod.api.check import DEFAULT_NAMESPACE, Document, check
from minipod.api.load import load
from minipod.api.types import OwnerReference, Pod, PodSpec, Toleration, Volume
from minipod.api.validation import validate
from minipod.api.validation.pod_annotations import MIRROR, STATIC_FILE
from minipod.api.validation.visit import every_container
from minipod.errors import ManifestError

SOURCE = "kubernetes.io/config.source"
SEEN = "kubernetes.io/config.seen"
HASH = "kubernetes.io/config.hash"

_UID_DIGITS = 32
_TOLERATION = Toleration(operator="Exists", effect="NoExecute")
#: fields of a volume whose contents come from other objects -> these, in the kubelet's words
_VOLUMES = {
    "config_map": "configmaps (via configmap volumes)",
    "secret": "secrets (via secret volumes)",
    "csi": "csidrivers (via CSI volumes)",
    "glusterfs": "endpoints (via glusterFS volumes)",
    "persistent_volume_claim": "persistentvolumeclaims",
    "ephemeral": "persistentvolumeclaims (via ephemeral volumes)",
    "azure_file": "secrets (via azureFile volumes)",
}
_PROJECTIONS = {
    "config_map": "configmaps (via projected volumes)",
    "secret": "secrets (via projected volumes)",
    "service_account_token": "serviceaccounts (via projected volumes)",
    "cluster_trust_bundle": "clustertrustbundles",
    "pod_certificate": "podcertificates",
}


class Host(NamedTuple):
    """The node as its static pods name it. `digest`: hex digits for bytes, at least 32 of them."""

    node_name: str
    node_uid: str
    digest: Callable[[bytes], str]


class StaticPod(NamedTuple):
    """`pod`: defaulted and valid, with the uid that content, file and node give it."""

    pod: Pod
    warnings: tuple[str, ...]


def static_pod(text: str, file: str, host: Host, seen: str) -> StaticPod:
    """The pod of a file, as the kubelet mirrors it. `seen`: the RFC 3339 time at which the file was read.

    Raises ManifestError with all faults in one line.
    """
    written, documents = load(text, file), check(text, file)
    kinds = [document.kind for document in documents]
    if kinds not in (["Pod"], [""]):
        raise ManifestError(f"{file}: a static pod's file holds one Pod, this one: {_counted(kinds)}")
    document, raw = documents[0], written[0].object
    if faults := _faults(document):
        raise ManifestError("; ".join(faults), list(faults))
    if not document.object.metadata.name:
        raise ManifestError(f"{file}: metadata.name: Required value: a static pod has a name, no generateName")
    uid = host.digest(msgspec.json.encode(raw) + f"host:{host.node_name}file:{file}".encode())[:_UID_DIGITS]
    pod = _mirrored(document.object, uid, file, host, seen)
    if errors := validate(pod):
        raise ManifestError("; ".join(f"{file}: {error.field}: {error.message}" for error in errors))
    if reference := api_reference(pod):
        raise ManifestError(
            f"{file}: static pods may not reference {reference}: put the values into the file, or apply the pod instead"
        )
    return StaticPod(pod, document.warnings)


def _counted(kinds: list[str]) -> str:
    kinds = [kind or "an object without kind" for kind in kinds]
    return ", ".join(kinds[:5]) + (f" and {len(kinds) - 5} more" if len(kinds) > 5 else "") if kinds else "nothing"


def _faults(document: Document) -> tuple[str, ...]:
    faults = []
    for error in map(document.placed, document.errors):
        place = f"{document.file}:{error.line}:{error.column}" if error.line else document.file
        faults.append(": ".join(part for part in (place, error.field, error.message) if part))
    return tuple(faults)


def _mirrored(pod: Pod, uid: str, file: str, host: Host, seen: str) -> Pod:
    """What a kubelet adds, and the API server to the mirror. There is one object here, where a cluster has two."""
    metadata, spec = pod.metadata, pod.spec
    tolerations = tuple(toleration for toleration in spec.tolerations if toleration != _TOLERATION)
    owner = OwnerReference(api_version="v1", kind="Node", name=host.node_name, uid=host.node_uid, controller=True)
    return replace(
        pod,
        metadata=replace(
            metadata,
            name=f"{metadata.name}-{host.node_name.lower()}",
            generate_name="",
            namespace=metadata.namespace or DEFAULT_NAMESPACE,
            uid=uid,
            annotations={**metadata.annotations, SOURCE: "file", SEEN: seen, HASH: uid, MIRROR: uid, STATIC_FILE: file},
            owner_references=(owner,),
        ),
        spec=replace(spec, node_name=host.node_name, tolerations=(*tolerations, _TOLERATION)),
    )


def is_static(pod: Pod) -> bool:
    return MIRROR in pod.metadata.annotations


def file_of(pod: Pod) -> str:
    """The file of a static pod; empty for any other pod."""
    return pod.metadata.annotations.get(STATIC_FILE, "") if is_static(pod) else ""


def api_reference(pod: Pod) -> str:
    """The kind of object that the pod needs and a static pod may not have; empty where there is none."""
    spec = pod.spec
    if spec.service_account_name:
        return "serviceaccounts"
    of_variables = _variable_references(spec)
    if spec.image_pull_secrets or "secrets" in of_variables:
        return "secrets"
    if "configmaps" in of_variables:
        return "configmaps"
    if spec.resource_claims:
        return "resourceclaims"
    return next((found for volume in spec.volumes if (found := _volume_reference(volume))), "")


def _variable_references(spec: PodSpec) -> set[str]:
    found = set()
    for container, _ in every_container(spec, ()):
        sources: list[Any] = [
            *container.env_from,
            *(variable.value_from for variable in container.env if variable.value_from),
        ]
        for source in sources:
            if getattr(source, "secret_ref", None) or getattr(source, "secret_key_ref", None):
                found.add("secrets")
            if getattr(source, "config_map_ref", None) or getattr(source, "config_map_key_ref", None):
                found.add("configmaps")
    return found


def _volume_reference(volume: Volume) -> str:
    for field, words in _VOLUMES.items():
        if getattr(volume, field) is not None:
            return words
    for source in (volume.projected.sources or ()) if volume.projected is not None else ():
        for field, words in _PROJECTIONS.items():
            if getattr(source, field) is not None:
                return words
    return ""
