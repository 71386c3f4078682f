"""Pods as the agent shows them (layer 6): finding one, its containers, the one that is meant. Prints little."""

from __future__ import annotations

import sys

from minipod.api.container_names import listed, not_valid
from minipod.cli.client import Client
from minipod.cli.values import Object
from minipod.errors import NotFoundError

STATUS_LISTS = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")
SPEC_LISTS = ("initContainers", "containers", "ephemeralContainers")
DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"


def get_pod(client: Client, namespace: str, name: str) -> Object:
    """The pod as an object. Raises NotFoundError."""
    message = {"verb": "get", "kind": "pods", "namespace": namespace, "name": name, "output": "object", "watch": False}
    request = client.request_if_pods(message)
    if request is not None:
        with request:
            while (event := request.next()) is not None:
                pod: Object = event["object"]
                return pod
    raise NotFoundError(f'pods "{name}" not found')


def all_containers(pod: Object) -> list[tuple[str, str]]:
    """(name, list in the spec) of every container, init containers first."""
    spec = pod["spec"]
    return [(container["name"], key) for key in SPEC_LISTS for container in spec.get(key) or []]


def names_of_all(pod: Object) -> str:
    """`a, b, i (init)`: as kubectl lists them."""
    regular, init, ephemeral = (
        [container["name"] for container in pod["spec"].get(key) or []]
        for key in ("containers", "initContainers", "ephemeralContainers")
    )
    return listed(regular, init, ephemeral)


def default_container(pod: Object, notify: bool = True) -> str:
    """The container that is meant where none is named (kubectl podcmd.FindOrDefaultContainerByName)."""
    known = {name for name, _ in all_containers(pod)}
    annotated = (pod["metadata"].get("annotations") or {}).get(DEFAULT_CONTAINER)
    if annotated in known:
        return str(annotated)
    if annotated and notify:
        print(f'Default container name "{annotated}" not found in pod {pod["metadata"]["name"]}', file=sys.stderr)
    first = str(pod["spec"]["containers"][0]["name"])
    if len(known) > 1 and notify:
        print(f'Defaulted container "{first}" out of: {names_of_all(pod)}', file=sys.stderr)
    return first


def check_container(pod: Object, name: str) -> str:
    if name not in {known for known, _ in all_containers(pod)}:
        raise NotFoundError(not_valid(name, pod["metadata"]["name"], names_of_all(pod)))
    return name


def status_of(pod: Object, container: str) -> Object | None:
    status = pod.get("status") or {}
    for key in STATUS_LISTS:
        for entry in status.get(key) or []:
            if entry["name"] == container:
                found: Object = entry
                return found
    return None
