"""What a request is about, from its method and path (layer 6, pure).

Rules: apiserver's endpoints/request/requestinfo.go.
"""

from __future__ import annotations

from typing import NamedTuple

_VERBS = {"GET": "get", "HEAD": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_OF_NAMESPACES = ("status", "finalize")


class RequestInfo(NamedTuple):
    """`verb`: get, list, watch, create, update, patch, delete or deletecollection; of what is no resource the method in
    lower case. `group`: empty for v1.
    """

    verb: str
    path: str
    is_resource: bool = False
    group: str = ""
    version: str = ""
    namespace: str = ""
    resource: str = ""
    name: str = ""
    subresource: str = ""


def request_info(method: str, path: str, watch: bool) -> RequestInfo:
    """`watch`: whether the query asks for one."""
    parts = [part for part in path.split("/") if part]
    verb = method.lower()
    if len(parts) >= 3 and parts[0] == "api":
        group, version, rest = "", parts[1], parts[2:]
    elif len(parts) >= 4 and parts[0] == "apis":
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return RequestInfo(verb, path)
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in _OF_NAMESPACES:
        namespace, rest = rest[1], rest[2:]
    resource, name, subresource = (*rest, "", "")[0], (*rest, "", "")[1], "/".join(rest[2:])
    verb = _VERBS.get(method, verb)
    if verb == "get" and not name:
        verb = "watch" if watch else "list"
    elif verb == "get" and watch:
        verb = "watch"
    elif verb == "delete" and not name:
        verb = "deletecollection"
    return RequestInfo(verb, path, True, group, version, namespace, resource, name, subresource)
