"""Who asks, and whether they may (layer 6). Client certificates and bearer tokens; one group may do everything.

Rules: apiserver's authentication/request (x509, bearertoken, anonymous) and authorization's union for system:masters.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Any, NamedTuple

from minipod.rest.request_info import RequestInfo
from minipod.rest.status import ApiError

ADMINS = "system:masters"
AUTHENTICATED = "system:authenticated"
#: what may be read by everyone, and by everyone who is known
PUBLIC = ("/livez", "/readyz", "/healthz", "/version")
DISCOVERY = ("/api", "/apis", "/openapi")
#: what everyone who is known may ask about himself
SELF_REVIEWS = ("selfsubjectreviews", "selfsubjectaccessreviews", "selfsubjectrulesreviews")


class User(NamedTuple):
    name: str
    groups: tuple[str, ...] = ()


ANONYMOUS = User("system:anonymous", ("system:unauthenticated",))


def user_of(peer: Mapping[str, Any] | None, authorization: str, tokens: Mapping[str, User]) -> User:
    """`peer`: a certificate that TLS has verified, as getpeercert() gives it. Raises ApiError 401 for a token that is
    not known."""
    if peer and (user := _user_of_certificate(peer)) is not None:
        return user
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        return ANONYMOUS
    found = [user for known, user in tokens.items() if hmac.compare_digest(known.encode(), token.strip().encode())]
    if not found:
        raise ApiError(401, "Unauthorized")
    return User(found[0].name, (*found[0].groups, AUTHENTICATED))


def _user_of_certificate(peer: Mapping[str, Any]) -> User | None:
    """CN is the user, each O a group."""
    fields = [field for part in peer.get("subject", ()) for field in part]
    names = [value for key, value in fields if key == "commonName"]
    groups = tuple(value for key, value in fields if key == "organizationName")
    return User(names[0], (*groups, AUTHENTICATED)) if names else None


def is_allowed(user: User, info: RequestInfo) -> bool:
    if ADMINS in user.groups:
        return True
    if AUTHENTICATED in user.groups and info.is_resource and info.verb == "create" and info.resource in SELF_REVIEWS:
        return True
    if info.is_resource or info.verb not in ("get", "head"):
        return False
    top = "/" + info.path.partition("/")[2].partition("/")[0]
    return info.path.rstrip("/") in PUBLIC or (AUTHENTICATED in user.groups and top in DISCOVERY)


def check_allowed(user: User, info: RequestInfo) -> None:
    """Raises ApiError 403."""
    if is_allowed(user, info):
        return
    raise ApiError(
        403, _refusal(user, info), details={"name": info.name, "kind": info.resource} if info.resource else {}
    )


def _refusal(user: User, info: RequestInfo) -> str:
    if not info.is_resource:
        return f'forbidden: User "{user.name}" cannot {info.verb} path "{info.path}"'
    resource = f"{info.resource}/{info.subresource}" if info.subresource else info.resource
    name = f' "{info.name}"' if info.name else ""
    where = f' in the namespace "{info.namespace}"' if info.namespace else " at the cluster scope"
    return (
        f'{info.resource}{name} is forbidden: User "{user.name}" cannot {info.verb} resource "{resource}" '
        f'in API group "{info.group}"{where}'
    )


def tokens_of(text: str) -> dict[str, User]:
    """A static token file: `token,user,uid[,"group,group"]` a line (apiserver's tokenfile). Raises ValueError."""
    import csv

    tokens: dict[str, User] = {}
    for number, row in enumerate(csv.reader(text.splitlines()), 1):
        if not row or row[0].startswith("#"):
            continue
        if len(row) < 3 or not row[0] or not row[1]:
            raise ValueError(f"line {number}: token, user and uid are needed")
        tokens[row[0]] = User(row[1], tuple(group for group in (row[3] if len(row) > 3 else "").split(",") if group))
    return tokens
