"""Small composable builders of manifests: `manifest(pod("web", container("a", "httpd -f"), volumes=[…]))`."""

from __future__ import annotations

from typing import Any

import yaml

Object = dict[str, Any]


def container(name: str, command: str = "", *, image: str = "busybox", **fields: Any) -> Object:
    """A container that runs a shell command; `fields` are v1's, as they are written in YAML."""
    made: Object = {"name": name, "image": image, **fields}
    if command:
        made["command"] = ["sh", "-c", command]
    return made


def pod(name: str, *containers: Object, init: list[Object] | None = None, **spec: Any) -> Object:
    """A pod whose containers are not started again unless `restartPolicy` says so; metadata by `metadata=`."""
    metadata = {"name": name, **spec.pop("metadata", {})}
    body: Object = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 2,
        **spec,
        "containers": list(containers),
    }
    if init:
        body["initContainers"] = init
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": body}


def empty_dir(name: str, **source: Any) -> Object:
    return {"name": name, "emptyDir": source}


def host_path(name: str, path: object, **source: Any) -> Object:
    return {"name": name, "hostPath": {"path": str(path), **source}}


def mount(name: str, path: str, **fields: Any) -> Object:
    """A volume mount: `container("a", volumeMounts=[mount("site", "/site", readOnly=True)])`."""
    return {"name": name, "mountPath": path, **fields}


def limits(**amounts: str) -> Object:
    """`container("a", resources=limits(memory="32Mi"))`."""
    return {"limits": amounts}


def manifest(*objects: Object) -> str:
    """The objects as one YAML text."""
    return yaml.safe_dump_all(objects, sort_keys=False)
