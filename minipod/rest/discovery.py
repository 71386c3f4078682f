"""What is served, as clients discover it (layer 6): versions, groups, resources, OpenAPI. All of it is of `api.kinds`.

Rules: apiserver's endpoints/discovery; docs/reference/generated of the discovery API.
"""

from __future__ import annotations

import functools
from importlib import resources
from typing import Any

import msgspec

from minipod import __version__
from minipod.api.kinds import ALL_KINDS, Kind
from minipod.rest.reviews import REVIEWS

KUBERNETES = "1.36"
_WRITES = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
_READS = ["get", "list", "watch"]
_CATEGORY = ("pods",)  # of `kubectl get all`
AGGREGATED = "APIGroupDiscoveryList"

#: subresource -> (kind that it takes and gives, verbs); of pods
POD_SUBRESOURCES: dict[str, tuple[str, list[str]]] = {
    "attach": ("PodAttachOptions", ["create", "get"]),
    "ephemeralcontainers": ("Pod", ["get", "patch", "update"]),
    "exec": ("PodExecOptions", ["create", "get"]),
    "log": ("Pod", ["get"]),
    "portforward": ("PodPortForwardOptions", ["create", "get"]),
    "resize": ("Pod", ["get", "patch", "update"]),
    "status": ("Pod", ["get", "patch", "update"]),
}


def version() -> dict[str, Any]:
    major, minor = KUBERNETES.split(".")
    return {
        "major": major,
        "minor": minor,
        "gitVersion": f"v{KUBERNETES}.0+minipod-{__version__}",
        "gitCommit": "",
        "gitTreeState": "",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "",
        "platform": "linux",
    }


def api_versions() -> dict[str, Any]:
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}


def _groups() -> list[str]:
    return sorted({review.group for review in REVIEWS})


def _group(name: str) -> dict[str, Any]:
    version = {"groupVersion": f"{name}/v1", "version": "v1"}
    return {"name": name, "versions": [version], "preferredVersion": version}


def api_groups() -> dict[str, Any]:
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(name) for name in _groups()]}


def group_path(path: str) -> dict[str, Any] | None:
    """`/apis/GROUP` and `/apis/GROUP/v1`; None for a group that is not served."""
    _, top, *rest = path.split("/")
    if top != "apis" or not rest or rest[0] not in _groups() or rest[1:] not in ([], ["v1"]):
        return None
    if not rest[1:]:
        return {"kind": "APIGroup", "apiVersion": "v1", **_group(rest[0])}
    found = [
        {
            "name": review.resource,
            "singularName": review.kind.lower(),
            "namespaced": False,
            "kind": review.kind,
            "verbs": ["create"],
        }
        for review in REVIEWS
        if review.group == rest[0]
    ]
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": f"{rest[0]}/v1", "resources": found}


def _optional(kind: Kind) -> dict[str, Any]:
    """What only some kinds have in either form of discovery."""
    found: dict[str, Any] = {"shortNames": list(kind.short)} if kind.short else {}
    return {**found, "categories": ["all"]} if kind.plural in _CATEGORY else found


def _group_list(api_version: str, items: list[dict[str, Any]]) -> dict[str, Any]:
    return {"kind": AGGREGATED, "apiVersion": f"apidiscovery.k8s.io/{api_version}", "metadata": {}, "items": items}


def _group_item(name: str, found: list[dict[str, Any]]) -> dict[str, Any]:
    versions = [{"version": "v1", "resources": found, "freshness": "Current"}]
    return {"metadata": {"name": name, "creationTimestamp": None}, "versions": versions}


def verbs_of(kind: Kind) -> list[str]:
    return _READS if kind.refused else _WRITES


def resource_list() -> dict[str, Any]:
    """APIResourceList of v1, sorted by name as the API server's."""
    found: list[dict[str, Any]] = []
    for kind in ALL_KINDS:
        entry: dict[str, Any] = {
            "name": kind.plural,
            "singularName": kind.singular,
            "namespaced": kind.namespaced,
            "kind": kind.name,
            "verbs": verbs_of(kind),
            **_optional(kind),
        }
        found.append(entry)
    for name, (of, verbs) in POD_SUBRESOURCES.items():
        found.append({"name": f"pods/{name}", "singularName": "", "namespaced": True, "kind": of, "verbs": verbs})
    found.sort(key=lambda entry: str(entry["name"]))
    return {"kind": "APIResourceList", "groupVersion": "v1", "resources": found}


def aggregated(api_version: str) -> dict[str, Any]:
    """APIGroupDiscoveryList of the core group. `api_version`: v2 or v2beta1."""
    found = []
    for kind in sorted(ALL_KINDS, key=lambda kind: kind.plural):
        entry: dict[str, Any] = {
            "resource": kind.plural,
            "responseKind": {"group": "", "version": "", "kind": kind.name},
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "singularResource": kind.singular,
            "verbs": verbs_of(kind),
            **_optional(kind),
        }
        if kind.plural == "pods":
            entry["subresources"] = [
                {"subresource": name, "responseKind": {"group": "", "version": "", "kind": of}, "verbs": verbs}
                for name, (of, verbs) in POD_SUBRESOURCES.items()
            ]
        found.append(entry)
    return _group_list(api_version, [_group_item("", found)])


def aggregated_groups(api_version: str) -> dict[str, Any]:
    """APIGroupDiscoveryList of all groups but the core one."""
    items = []
    for group in _groups():
        found = [
            {
                "resource": review.resource,
                "responseKind": {"group": group, "version": "v1", "kind": review.kind},
                "scope": "Cluster",
                "singularResource": review.kind.lower(),
                "verbs": ["create"],
            }
            for review in REVIEWS
            if review.group == group
        ]
        items.append(_group_item(group, found))
    return _group_list(api_version, items)


# -- OpenAPI ---------------------------------------------------------------------------------------------------------


def openapi_index() -> dict[str, Any]:
    return {"paths": {"api/v1": {"serverRelativeURL": "/openapi/v3/api/v1?hash=" + __version__}}}


@functools.cache
def openapi_v1() -> bytes:
    """The schemas of what is served, and of each kind the path by which kubectl learns what the server validates."""
    text = resources.files("minipod.rest").joinpath("data/schemas.json").read_bytes()
    schemas: dict[str, Any] = msgspec.json.decode(text)
    paths: dict[str, Any] = {}
    for kind in ALL_KINDS:
        where = f"/api/v1/namespaces/{{namespace}}/{kind.plural}" if kind.namespaced else f"/api/v1/{kind.plural}"
        identity = {"group": "", "version": "v1", "kind": kind.name}
        schema = f"io.k8s.api.core.v1.{kind.name}"
        schemas[schema]["x-kubernetes-group-version-kind"] = [identity]
        patch = {
            "x-kubernetes-action": "patch",
            "x-kubernetes-group-version-kind": identity,
            "parameters": [
                {"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": True}}
                for name in ("dryRun", "fieldManager", "fieldValidation")
            ],
            "responses": {
                "200": {
                    "description": "OK",
                    "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}},
                }
            },
        }
        paths[f"{where}/{{name}}"] = {"patch": patch}
    document = {
        "openapi": "3.0.0",
        "info": {"title": "minipod", "version": f"v{KUBERNETES}"},
        "paths": paths,
        "components": {"schemas": schemas},
    }
    return msgspec.json.encode(document)
